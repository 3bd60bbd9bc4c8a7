//! Hot code that is read: every load finds what was written there, whatever is executed in its place. Also what may
//! not be read still may not.
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{Arena, DATA};
use features::hot::{self, ECHO, GET, PUT, RUNS};
use features::{exec, modes};
use guest_rt::isa::Exception::LoadPageFault;
use guest_rt::isa::csr::sstatus::{FS, MXR};
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, RWX};
use guest_rt::trap::catch;
use guest_rt::{check, csr_clear, csr_set};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    csr_set!(SSTATUS, FS);
    by_every_load("untranslated", None);
    for mode in modes() {
        by_every_load(name_of(mode), Some(mode));
    }
    sums();
    by_itself();
    between_hot_and_plain();
    execute_only();
    csr_clear!(SSTATUS, FS);
}

/// The name of a mode.
fn name_of(mode: Mode) -> &'static str {
    if mode == Mode::Sv39 { "sv39" } else { "sv48" }
}

/// Where in each of the two pages there are hot functions: the first instructions, in the middle at two bytes behind a
/// multiple of four, and the last.
const PLACES: [u64; 3] = [0, 0x402, PAGE - 12];

/// What byte `offset` of the two pages holds.
fn byte(offset: u64) -> u8 {
    for place in PLACES {
        if let Some(inside) = (offset % PAGE).checked_sub(place).filter(|&inside| inside < 12) {
            return ECHO[inside as usize / 4].to_le_bytes()[inside as usize % 4];
        }
    }
    (offset * 37 + offset / 256) as u8
}

/// `width` bytes from `offset` on, as a number.
fn bytes(offset: u64, width: u64) -> u64 {
    (0..width).map(|at| u64::from(byte(offset + at)) << (8 * at)).sum()
}

/// Two pages in a row, hot, with pattern all around.
fn pages() -> u64 {
    let pages = paging::frames(2);
    for offset in 0..2 * PAGE {
        // SAFETY: inside frames that were taken for code.
        unsafe { ((pages + offset) as *mut u8).write_volatile(byte(offset)) };
    }
    exec::fence_i();
    pages
}

fn heat(pages: u64) -> u64 {
    [0, PAGE].iter().flat_map(|page| PLACES.map(|place| pages + page + place)).map(hot::heat).sum()
}

/// One load of `width` bytes; extends by a sign or by zeros.
struct Reader {
    name: &'static str,
    width: u64,
    signed: bool,
    /// Whether it wants natural alignment.
    aligned: bool,
    read: fn(u64) -> u64,
}

/// One assembly load from `{0}` to `{1}`; nothing comes of one that traps.
macro_rules! load {
    ($text:literal) => {
        |address| {
            let mut value = 0x5555_5555_5555_5555;
            // SAFETY: loads from a frame; the register that the text changes is named.
            let trap = catch(|| unsafe {
                asm!(".option push", ".option arch, +d, +c", $text, ".option pop", in("a4") address,
                    inout("a5") value, out("t0") _, out("ft0") _, options(nostack))
            });
            if trap.is_some() { !value } else { value }
        }
    };
}

const READERS: [Reader; 22] = [
    Reader { name: "lb", width: 1, signed: true, aligned: false, read: load!("lb a5, 0(a4)") },
    Reader { name: "lbu", width: 1, signed: false, aligned: false, read: load!("lbu a5, 0(a4)") },
    Reader { name: "lh", width: 2, signed: true, aligned: false, read: load!("lh a5, 0(a4)") },
    Reader { name: "lhu", width: 2, signed: false, aligned: false, read: load!("lhu a5, 0(a4)") },
    Reader { name: "lw", width: 4, signed: true, aligned: false, read: load!("lw a5, 0(a4)") },
    Reader { name: "lwu", width: 4, signed: false, aligned: false, read: load!("lwu a5, 0(a4)") },
    Reader { name: "ld", width: 8, signed: false, aligned: false, read: load!("ld a5, 0(a4)") },
    Reader { name: "c_lw", width: 4, signed: true, aligned: false, read: load!("c.lw a5, 0(a4)") },
    Reader { name: "c_ld", width: 8, signed: false, aligned: false, read: load!("c.ld a5, 0(a4)") },
    Reader {
        name: "c_ldsp",
        width: 8,
        signed: false,
        aligned: false,
        read: load!("mv t0, sp; mv sp, a4; c.ldsp a5, 0(sp); mv sp, t0"),
    },
    Reader {
        name: "ld_over_its_base",
        width: 8,
        signed: false,
        aligned: false,
        read: load!("mv a5, a4; ld a5, 0(a5)"),
    },
    Reader {
        name: "ld_from_above",
        width: 8,
        signed: false,
        aligned: false,
        read: load!("li t0, 2048; add t0, t0, a4; ld a5, -2048(t0)"),
    },
    Reader {
        name: "ld_from_below",
        width: 8,
        signed: false,
        aligned: false,
        read: load!("addi t0, a4, -2047; ld a5, 2047(t0)"),
    },
    Reader {
        name: "ld_to_x0_and_again",
        width: 8,
        signed: false,
        aligned: false,
        read: load!("ld zero, 0(a4); ld a5, 0(a4)"),
    },
    Reader {
        name: "flw",
        width: 4,
        signed: true,
        aligned: false,
        read: load!("flw ft0, 0(a4); fmv.x.w a5, ft0"),
    },
    Reader {
        name: "fld",
        width: 8,
        signed: false,
        aligned: false,
        read: load!("fld ft0, 0(a4); fmv.x.d a5, ft0"),
    },
    Reader {
        name: "c_fld",
        width: 8,
        signed: false,
        aligned: false,
        read: load!("c.fld fa5, 0(a4); fmv.x.d a5, fa5"),
    },
    Reader { name: "lr_w", width: 4, signed: true, aligned: true, read: load!("lr.w a5, (a4)") },
    Reader { name: "lr_d", width: 8, signed: false, aligned: true, read: load!("lr.d a5, (a4)") },
    Reader { name: "amoor_w", width: 4, signed: true, aligned: true, read: load!("amoor.w a5, zero, (a4)") },
    Reader {
        name: "amoadd_d",
        width: 8,
        signed: false,
        aligned: true,
        read: load!("amoadd.d a5, zero, (a4)"),
    },
    Reader {
        name: "amomax_w",
        width: 4,
        signed: true,
        aligned: true,
        read: load!("li a5, 0x80000000; sext.w a5, a5; amomax.w a5, a5, (a4)"),
    },
];

impl Reader {
    fn right(&self, base: u64, offset: u64) -> bool {
        let bits = bytes(offset, self.width);
        let unused = 64 - 8 * self.width as u32;
        let wanted = if self.signed { ((bits << unused) as i64 >> unused) as u64 } else { bits };
        (self.read)(base + offset) == wanted
    }
}

fn by_every_load(name: &str, mode: Option<Mode>) {
    let arena = mode.map(Arena::new);
    for reader in &READERS {
        let pages = pages();
        let base = if let Some(arena) = &arena {
            // Atomics need to be allowed to write.
            let flags = if reader.aligned { RWX } else { RWX & !Pte::W };
            arena.map(DATA, pages, flags);
            arena.map(DATA + PAGE, pages + PAGE, flags);
            DATA
        } else {
            pages
        };
        let mut wrong = heat(base);
        // All around each site, and over the border of the pages.
        let around = PLACES.iter().flat_map(|&place| place.saturating_sub(9)..place + 20);
        for offset in around.chain(PAGE - 9..PAGE + 20).filter(|at| !reader.aligned || at % reader.width == 0)
        {
            wrong += u64::from(!reader.right(base, offset));
            // The page is hot all the time.
            for argument in 0..2 {
                wrong += u64::from(hot::call(base + PLACES[1], argument) != Ok(argument));
            }
        }
        check!(format_args!("{name}_{}_reads_hot_code", reader.name), wrong, 0u64);
    }
    if arena.is_some() {
        paging::deactivate();
    }
}

/// The whole page, again and again while it gets hot, by several mappings.
fn sums() {
    let arena = Arena::new(Mode::Sv39);
    let pages = pages();
    arena.map(DATA, pages, RWX & !Pte::W);
    arena.map(DATA + 2 * PAGE, pages, RW);
    let sum = |base: u64| {
        (base..base + PAGE)
            .step_by(8)
            // SAFETY: inside a mapped page.
            .map(|at| unsafe { (at as *const u64).read_volatile() })
            .fold(0, |sum: u64, word| sum.rotate_left(7) ^ word)
    };
    let wanted =
        (0..PAGE).step_by(8).map(|at| bytes(at, 8)).fold(0, |sum: u64, word| sum.rotate_left(7) ^ word);
    for (name, base) in [("in_place", DATA), ("by_an_alias", DATA + 2 * PAGE), ("by_the_kernel", pages)] {
        let wrong = (0..40)
            .filter(|_| {
                let went = (0..20).any(|argument| hot::call(DATA, argument) != Ok(argument));
                went || sum(base) != wanted
            })
            .count();
        check!(format_args!("the_sum_of_a_hot_page_{name}_is_right"), wrong, 0);
    }
    paging::deactivate();
}

features::code! {
    /// Gives the double word 8 bytes before it, which is two privileged instructions.
    fn reads_itself =
        "csrw sscratch, a0", "csrr a0, sscratch",
        "auipc t0, 0", "ld a0, -8(t0)", "ret";
    /// Adds up the two instructions before the loop while it executes them, ten times.
    fn sums_itself =
        "li a0, 0", "li t2, 10",
        "1: csrw sscratch, a0", "csrr a0, sscratch",
        "auipc t0, 0", "lwu t1, -8(t0)", "add a0, a0, t1", "lwu t1, -4(t0)", "add a0, a0, t1",
        "addi t2, t2, -1", "bnez t2, 1b", "ret";
}

fn by_itself() {
    for (name, mode) in [("untranslated", None), ("sv39", Some(Mode::Sv39))] {
        let arena = mode.map(Arena::new);
        let page = hot::page_of(reads_itself());
        hot::write_halves(page + 0x200, sums_itself());
        let base = if let Some(arena) = &arena {
            arena.map(DATA, page, RWX & !Pte::W);
            DATA
        } else {
            page
        };
        let pair = u64::from(GET) << 32 | u64::from(PUT);
        check!(format_args!("{name}_code_reads_itself"), hot::wrong(base, |_| Ok(pair)), 0);
        let sum = 10 * (u64::from(GET) + u64::from(PUT));
        check!(format_args!("{name}_code_sums_itself"), hot::wrong(base + 0x200, |_| Ok(sum)), 0);
        if arena.is_some() {
            paging::deactivate();
        }
    }
}

/// Loads over the border between a hot page and one that is not even executable, or is not there.
fn between_hot_and_plain() {
    let arena = Arena::new(Mode::Sv39);
    let mut wrong = [0; 3];
    for flags in [RW, RW & !Pte::W, 0] {
        let (pages, other) = (pages(), pages());
        arena.map(DATA, pages, RWX & !Pte::W);
        arena.map(DATA + PAGE, other + PAGE, flags);
        for offset in PAGE - 7..PAGE {
            wrong[0] += PLACES.map(|place| hot::heat(DATA + place)).iter().sum::<u64>();
            let result = features::arena::load(DATA + offset);
            if flags == 0 {
                wrong[1] +=
                    u64::from(features::outcome(result) != features::fault(LoadPageFault, DATA + PAGE));
            } else {
                wrong[2] += u64::from(result != Ok(bytes(offset, 8)));
            }
        }
    }
    check!("reading_over_a_hot_pages_end_does_not_harm_it", wrong[0], 0);
    check!("reading_over_a_hot_pages_end_into_nothing_faults", wrong[1], 0);
    check!("reading_over_a_hot_pages_end_into_data_works", wrong[2], 0);
    paging::deactivate();
}

/// What the guest itself maps execute-only.
fn execute_only() {
    let arena = Arena::new(Mode::Sv39);
    let page = hot::page(&ECHO);
    arena.map(DATA, page, Pte::V | Pte::X | Pte::A | Pte::D);
    check!("execute_only_code_runs", hot::heat(DATA), 0);
    let wrong = (0..RUNS)
        .filter(|&argument| {
            let faulted =
                features::outcome(features::arena::load(DATA)) == features::fault(LoadPageFault, DATA);
            !faulted || hot::call(DATA, argument) != Ok(argument)
        })
        .count();
    check!("execute_only_code_cannot_be_read", wrong, 0);
    let wrong = (0..RUNS)
        .filter(|&argument| {
            csr_set!(SSTATUS, MXR);
            let read = features::arena::load(DATA);
            let result = hot::call(DATA, argument);
            csr_clear!(SSTATUS, MXR);
            read != Ok(u64::from(GET) << 32 | u64::from(PUT)) || result != Ok(argument)
        })
        .count();
    check!("with_mxr_it_can", wrong, 0);
    let after = features::outcome(features::arena::load(DATA));
    check!("without_mxr_again_it_cannot", after, features::fault(LoadPageFault, DATA));
    paging::deactivate();
}
