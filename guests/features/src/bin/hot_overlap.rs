//! Hot code that is executed from two places two bytes apart, so that the same bytes are different instructions. Each is
//! what the bytes say. Compilers make no such code; hand-written kernels and attackers do.
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{Arena, DATA};
use features::hot::{self, ECHO_AT, RUNS};
use features::modes;
use guest_rt::isa::Exception::{self, Breakpoint, IllegalInstruction};
use guest_rt::paging::{self, PAGE, Pte, RWX};
use guest_rt::trap::catch;
use guest_rt::{check, csr_read, csr_write};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    for stream in &STREAMS {
        at_all_places("untranslated", stream, None);
        for mode in modes() {
            let arena = Arena::new(mode);
            at_all_places(if mode.levels() == 3 { "sv39" } else { "sv48" }, stream, Some(&arena));
            paging::deactivate();
        }
    }
}

/// What a run came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct End {
    /// The first exception.
    raised: Option<Exception>,
    /// 0 at first.
    a2: u64,
    /// 100 at first.
    s0: u64,
    /// [`BEFORE`] at first.
    sscratch: u64,
}

const BEFORE: u64 = 0x1234;
/// A run that has changed nothing.
const NOTHING: End = End { raised: None, a2: 0, s0: 100, sscratch: BEFORE };
/// s0 after `c.addi s0, -31`.
const SUBTRACTED: u64 = 69;

/// Runs the code at `entry` with a0 the address of its stream and a1, t1 and t2 the argument.
fn enter(entry: u64, stream: u64, argument: u64) -> End {
    let (mut a2, mut s0) = (0, 100);
    csr_write!(SSCRATCH, BEFORE);
    // SAFETY: a call of code that keeps to the convention but for s0, which is kept here.
    let trap = catch(|| unsafe {
        asm!("addi sp, sp, -16", "sd s0, 0(sp)", "li s0, 100", "jalr ra, 0(a3)", "mv a4, s0", "ld s0, 0(sp)",
            "addi sp, sp, 16", in("a0") stream, in("a1") argument, inlateout("a2") a2, in("a3") entry,
            lateout("a4") s0, in("t0") 0, in("t1") argument, in("t2") argument, clobber_abi("C"));
    });
    // The trap vector uses sscratch.
    let sscratch = if trap.is_some() { BEFORE } else { csr_read!(SSCRATCH) };
    End { raised: trap.and_then(|trap| Exception::from_code(trap.cause)), a2, s0, sscratch }
}

/// Bytes that are executed from 0 and from 2 on.
struct Stream {
    name: &'static str,
    code: fn() -> &'static [u16],
    /// What comes of it from 0 and from 2 on, by the stream's address and the argument.
    want: [fn(u64, u64) -> End; 2],
}

const STREAMS: [Stream; 7] = [
    Stream {
        name: "compressed_in_a_sites_upper_half",
        code: add_in_upper_half,
        want: [
            |_, argument| End { a2: BEFORE, sscratch: argument, ..NOTHING },
            |_, _| End { s0: SUBTRACTED, ..NOTHING },
        ],
    },
    Stream {
        name: "load_from_a_sites_upper_half_on",
        code: load_from_upper_half,
        want: [
            |_, argument| End { a2: BEFORE, sscratch: argument, ..NOTHING },
            |_, _| End { s0: 0x1673, ..NOTHING },
        ],
    },
    Stream {
        name: "lui_into_a_site",
        code: lui_over_site,
        want: [
            |_, _| End { a2: 0xffff_ffff_9673_0000, s0: SUBTRACTED, ..NOTHING },
            |_, argument| End { a2: BEFORE, sscratch: argument, ..NOTHING },
        ],
    },
    Stream {
        name: "addi_into_a_site",
        code: addi_over_site,
        want: [
            |_, argument| End { a2: argument.wrapping_sub(0x699), s0: SUBTRACTED, ..NOTHING },
            |_, argument| End { a2: BEFORE, sscratch: argument, ..NOTHING },
        ],
    },
    Stream {
        name: "site_into_a_site",
        code: fence_over_swap,
        want: [
            |_, _| End { s0: SUBTRACTED, ..NOTHING },
            |stream, _| End { a2: BEFORE, sscratch: stream, ..NOTHING },
        ],
    },
    Stream {
        name: "lui_into_a_breakpoint",
        code: lui_over_ebreak,
        want: [
            |_, _| End { raised: Some(IllegalInstruction), a2: 0x73_0000, ..NOTHING },
            |_, _| End { raised: Some(Breakpoint), ..NOTHING },
        ],
    },
    Stream {
        name: "compressed_breakpoint_before_a_site",
        code: c_ebreak_before_site,
        want: [
            // Behind the breakpoint sscratch is what the trap vector left: t0.
            |_, _| End { raised: Some(Breakpoint), ..NOTHING },
            |_, argument| End { a2: BEFORE, sscratch: argument, ..NOTHING },
        ],
    },
];

features::code! {
    /// csrrw a2, sscratch, a1; its upper half is c.addi s0, -31.
    fn add_in_upper_half = ".half 0x9673, 0x1405", "ret";
    /// csrrw a2, sscratch, t1 and a hint; from the upper half on lh s0, 0(a0).
    fn load_from_upper_half = ".half 0x1673, 0x1403, 0x0005", "ret";
    /// lui a2 and c.addi s0, -31; the upper half of the first and the second are csrrw a2, sscratch, a1.
    fn lui_over_site = ".half 0x0637, 0x9673, 0x1405", "ret";
    /// addi a2, t1, -0x699 and c.addi s0, -31; from 2 on as before.
    fn addi_over_site = ".half 0x0613, 0x9673, 0x1405", "ret";
    /// sfence.vma t1, a5 and c.addi s0, -31; from 2 on csrrw t0, sscratch, a0.
    fn fence_over_swap = ".half 0x0073, 0x12f3, 0x1405", "mv a2, t0", "ret";
    /// lui a2 and a reserved instruction; from 2 on ebreak.
    fn lui_over_ebreak = ".half 0x0637, 0x0073, 0x0010", "ret";
    /// c.ebreak; csrrw a2, sscratch, a1.
    fn c_ebreak_before_site = ".half 0x9002, 0x9673, 0x1405", "ret";
}

/// In a page, and over its end torn at each place.
fn at_all_places(side: &str, stream: &Stream, arena: Option<&Arena>) {
    for (place, at) in [("first", 0), ("inside", 0x7fe), ("torn_at_2", PAGE - 2), ("torn_at_4", PAGE - 4)] {
        let pages = paging::frames(2);
        hot::write_halves(pages + at, (stream.code)());
        let mut base = pages;
        for page in [0, PAGE] {
            features::exec::write(pages + page + ECHO_AT, &hot::ECHO);
            if let Some(arena) = arena {
                arena.map(DATA + page, pages + page, RWX & !Pte::W);
                base = DATA;
            }
        }
        both_ways(format_args!("{side}_{}_{place}", stream.name), stream, base + at);
        let wrong = [0, PAGE].map(|page| hot::heat(base + page + ECHO_AT));
        check!(format_args!("{side}_{}_{place}_both_pages_are_whole", stream.name), wrong, [0, 0]);
    }
}

fn both_ways(name: core::fmt::Arguments<'_>, stream: &Stream, address: u64) {
    let right = |way: usize, argument: u64| {
        let want = (stream.want[way])(address, argument);
        let got = enter(address + 2 * way as u64, address, argument);
        got == want
    };
    // Cold; each hot; by turns; hot by the other way.
    let mut wrong = [0; 2];
    let rows = [(0, 2), (1, 2), (1, RUNS), (0, RUNS), (1, 10), (0, 10)];
    for (way, runs) in rows {
        wrong[way] += (0..runs).filter(|&argument| !right(way, argument)).count();
    }
    for argument in 0..2 * RUNS {
        let way = argument as usize % 2;
        wrong[way] += usize::from(!right(way, argument));
    }
    check!(name, wrong, [0, 0]);
}
