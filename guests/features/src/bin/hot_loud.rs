//! Instructions of which some firmware complains on the console when they trap, where they are hard to see: torn by a page's
//! end, the first of a page, and stored where there was something else before. Natively they do not trap. Whether anybody complains is seen from outside.
#![no_std]
#![no_main]

use features::arena::{Arena, DATA};
use features::exec;
use features::hot::{self, RUNS, SEPC, SSTATUS, high, low};
use features::insn::{EBREAK, ECALL, NOP, RA, RET, SFENCE_VMA, SRET, WFI, ZERO, addi, csrrs, csrrw};
use guest_rt::isa::Exception::Breakpoint;
use guest_rt::isa::Interrupt;
use guest_rt::isa::csr::sstatus;
use guest_rt::paging::{self, Mode, PAGE, Pte, RWX};
use guest_rt::{check, csr_clear, csr_set};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    for (name, mode) in [("untranslated", None), ("sv39", Some(Mode::Sv39))] {
        torn(name, mode);
        first(name, mode);
        stored(name, mode);
        stored_by_itself(name, mode);
    }
}

/// `sfence.vma a1, a0`, whose first half is another.
const SFENCE_ONE: u32 = SFENCE_VMA | 11 << 15 | 10 << 20;
/// Before an SRET: it returns to ra, in supervisor mode. SPP is in t0.
const BEFORE_SRET: [u32; 3] =
    [csrrw(ZERO, SEPC, RA), addi(5, ZERO, sstatus::SPP as i32), csrrs(ZERO, SSTATUS, 5)];

/// Two pages in a row, of which the first one is empty but for what `first` puts there, and where they are mapped.
fn pages(mode: Option<Mode>) -> (u64, u64) {
    let pages = paging::frames(2);
    for at in (pages..pages + 2 * PAGE).step_by(8) {
        // SAFETY: frames that were taken for code.
        unsafe { (at as *mut u64).write_volatile(0) };
    }
    let Some(mode) = mode else { return (pages, pages) };
    let arena = Arena::new(mode);
    arena.map(DATA, pages, RWX & !Pte::W);
    arena.map(DATA + PAGE, pages + PAGE, RWX & !Pte::W);
    (pages, DATA)
}

fn torn(name: &str, mode: Option<Mode>) {
    for (what, before, site) in [
        ("sfence", &[][..], SFENCE_VMA),
        ("sfence_of_an_address", &[], SFENCE_ONE),
        ("wfi", &[], WFI),
        ("sret", &BEFORE_SRET, SRET),
    ] {
        let (pages, base) = pages(mode);
        let entry = PAGE - 2 - 4 * before.len() as u64;
        write(pages + entry, before);
        hot::write_halves(pages + PAGE - 2, &[low(site), high(site), low(RET), high(RET)]);
        // A pending interrupt that is enabled ends each WFI, and is not taken.
        let enabled = if site == WFI { Interrupt::Software.mask() } else { 0 };
        csr_clear!(SSTATUS, sstatus::SIE);
        csr_set!(SIE, enabled);
        csr_set!(SIP, enabled);
        check!(format_args!("{name}_torn_{what}_works"), hot::wrong(base + entry, Ok), 0);
        csr_clear!(SIP, enabled);
        csr_clear!(SIE, enabled);
        if low(site) == low(EBREAK) {
            // The same first half before another second one: no privileged instruction any more.
            hot::write_halves(pages + PAGE, &[high(EBREAK)]);
            let wrong = hot::wrong(base + PAGE - 2, |_| hot::raised(Breakpoint));
            check!(format_args!("{name}_torn_{what}_becomes_ebreak"), wrong, 0);
        }
        if mode.is_some() {
            paging::deactivate();
        }
    }
    // A call of the SBI: base extension, version.
    let (pages, base) = pages(mode);
    let load = [addi(17, ZERO, 0x10), addi(16, ZERO, 0)];
    write(pages + PAGE - 10, &load);
    hot::write_halves(pages + PAGE - 2, &[low(ECALL), high(ECALL), low(RET), high(RET)]);
    let wrong = (0..RUNS).filter(|_| hot::call(base + PAGE - 10, 0) != Ok(0)).count();
    check!(format_args!("{name}_torn_ecall_calls_the_firmware"), wrong, 0);
    if mode.is_some() {
        paging::deactivate();
    }
}

/// The first instruction of a page, jumped to.
fn first(name: &str, mode: Option<Mode>) {
    for is_known in [false, true] {
        let (pages, base) = pages(mode);
        write(pages + PAGE, &[SFENCE_VMA, RET]);
        write(pages + PAGE + 0x100, &[RET]);
        if is_known {
            check!(format_args!("{name}_a_page_is_known"), hot::call(base + PAGE + 0x100, 1), Ok(1));
        }
        check!(format_args!("{name}_the_first_is_sfence_{is_known}"), hot::wrong(base + PAGE, Ok), 0);
        if mode.is_some() {
            paging::deactivate();
        }
    }
}

/// Rounds in which an instruction is stored, executed and overwritten.
const ROUNDS: usize = 40;

/// Stored to a page that has run before: with no other such instruction in the page and with one; in one piece, in two halves
/// and by bytes; where the page begins, and in its middle.
fn stored(name: &str, mode: Option<Mode>) {
    for (pieces, size) in [("word", 4), ("halves", 2), ("bytes", 1)] {
        for at in [0, 0x40, 0x42] {
            for has_another in [false, true] {
                let (pages, base) = pages(mode);
                let (page, code) = (pages + PAGE, base + PAGE);
                write(page + at, &[NOP, RET]);
                if has_another {
                    write(page + 0x100, &[SFENCE_VMA, RET]);
                    hot::call(code + 0x100, 1).ok();
                }
                let mut wrong = 0;
                for round in 0..ROUNDS {
                    // An empty page may be filled anew.
                    if round % 4 == 3 && !has_another {
                        (page + 8..page + PAGE).step_by(8).for_each(|slot| store(slot, &[0; 8]));
                        write(page + at, &[NOP, RET]);
                    }
                    for instruction in [NOP, SFENCE_VMA, SFENCE_ONE] {
                        let bytes = instruction.to_le_bytes();
                        (page + at..)
                            .step_by(size)
                            .zip(bytes.chunks(size))
                            .for_each(|(slot, piece)| store(slot, piece));
                        exec::fence_i();
                        wrong += (0..2).filter(|n| hot::call(code + at, *n) != Ok(*n)).count();
                    }
                }
                check!(format_args!("{name}_stored_by_{pieces}_at_{at:#x}_{has_another}"), wrong, 0);
                if mode.is_some() {
                    paging::deactivate();
                }
            }
        }
    }
}

features::code! {
    /// Stores its argument over its fifth instruction.
    fn stores_to_itself = "auipc t0, 0", "sw a0, 16(t0)", "fence.i", "nop", "nop", "ret";
}

/// Stored by code in the same page.
fn stored_by_itself(name: &str, mode: Option<Mode>) {
    let page = paging::frame();
    let arena = mode.map(Arena::new);
    if let Some(arena) = &arena {
        arena.map(DATA, page, RWX);
    }
    let base = if mode.is_some() { DATA } else { page };
    hot::write_halves(page + 0x80, stores_to_itself());
    let instructions = [NOP, SFENCE_VMA, NOP, SFENCE_ONE];
    let wrong = instructions.iter().cycle().take(ROUNDS).filter(|bits| {
        let bits = u64::from(**bits);
        hot::call(base + 0x80, bits) != Ok(bits)
    });
    check!(format_args!("{name}_stored_by_itself"), wrong.count(), 0);
    if mode.is_some() {
        paging::deactivate();
    }
}

/// Stores one, two, four or eight bytes.
fn store(address: u64, bytes: &[u8]) {
    // SAFETY: inside a frame that was taken for code, and aligned to the size that is stored, or to half of it.
    unsafe {
        match *bytes {
            [byte] => (address as *mut u8).write_volatile(byte),
            [a, b] => (address as *mut u16).write_volatile(u16::from_le_bytes([a, b])),
            [a, b, c, d] => {
                core::arch::asm!("sw {}, 0({})", in(reg) u32::from_le_bytes([a, b, c, d]), in(reg) address)
            }
            _ => (address as *mut u64).write_volatile(0),
        }
    }
}

/// Writes instructions by their halves.
fn write(address: u64, words: &[u32]) {
    for (slot, word) in (address..).step_by(4).zip(words) {
        hot::write_halves(slot, &[low(*word), high(*word)]);
    }
}
