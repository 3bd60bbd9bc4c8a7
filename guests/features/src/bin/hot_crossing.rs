//! Loads, stores and atomics that concern two pages of hot code at once, or the page that they are executed in: each is carried out
//! and the program goes on, however often a hypervisor has to let go of what it fetches code from.
#![no_std]
#![no_main]

use features::arena::{Arena, DATA, peek};
use features::hot::{self, RUNS, high, low};
use features::insn::{A0, A1, ECALL, RET, SFENCE_VMA, ZERO, i_type, ld, sd};
use guest_rt::isa::Exception;
use guest_rt::paging::{self, Mode, PAGE, Pte, RWX};
use guest_rt::{check, user};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    for (name, mode) in [("untranslated", None), ("sv39", Some(Mode::Sv39)), ("sv48", Some(Mode::Sv48))] {
        let pages = paging::frames(3);
        let arena = mode.map(Arena::new);
        let base = if mode.is_some() { DATA } else { pages };
        if let Some(arena) = &arena {
            (0..3).for_each(|n| arena.map(DATA + n * PAGE, pages + n * PAGE, RWX));
        }
        supervisor(name, pages, base);
        if let Some(arena) = &arena {
            (0..3).for_each(|n| arena.map(DATA + n * PAGE, pages + n * PAGE, RWX | Pte::U));
            program(name, pages, base);
            paging::deactivate();
        }
    }
}

/// amoadd.d a1, a1, (a0)
const AMOADD: u32 = A1 << 20 | A0 << 15 | 3 << 12 | A1 << 7 | 0x2f;
/// A loop: lr.d a2, (a0); addi a2, a2, 1; sc.d a3, a2, (a0); bnez a3, to the first.
const LR: u32 = 2 << 27 | A0 << 15 | 3 << 12 | 12 << 7 | 0x2f;
const ADDI: u32 = i_type(0x13, 0, 12, 12, 1);
const SC: u32 = 3 << 27 | 12 << 20 | A0 << 15 | 3 << 12 | 13 << 7 | 0x2f;
/// bnez a3, -12
const AGAIN: u32 = 0xfe06_9ae3;
/// li a1, 1
const ONE: u32 = i_type(0x13, 0, A1, ZERO, 1);

/// A function that counts up the word at its argument, which it gives back, in some way, with an SFENCE.VMA in front and behind.
const WAYS: [(&str, &[u32]); 3] = [
    ("plain", &[SFENCE_VMA, ld(A1, A0, 0), i_type(0x13, 0, A1, A1, 1), sd(A1, A0, 0), SFENCE_VMA, RET]),
    ("amo", &[SFENCE_VMA, ONE, AMOADD, SFENCE_VMA, RET]),
    ("lr_sc", &[SFENCE_VMA, LR, ADDI, SC, AGAIN, SFENCE_VMA, RET]),
];

/// Puts code somewhere, by halves.
fn put(address: u64, words: &[u32]) {
    for (slot, word) in (address..).step_by(4).zip(words) {
        hot::write_halves(slot, &[low(*word), high(*word)]);
    }
}

fn supervisor(name: &str, pages: u64, base: u64) {
    for (way, code) in WAYS {
        // Torn by the first page's end in all places, and whole in the middle of one.
        for at in (0..code.len() as u64).map(|n| PAGE - 2 - 4 * n).chain([0x400]) {
            put(pages + at, code);
            // What else there is in the other pages is hot, too.
            for page in [pages + PAGE, pages + 2 * PAGE] {
                put(page + 0x100, &[SFENCE_VMA, RET]);
            }
            let plain = way == "plain";
            // In the first page, the second and the third, and over the end of each.
            for counter in [0x200, PAGE + 0x200, 2 * PAGE + 0x200, PAGE + 0xffc] {
                if counter == PAGE + 0xffc && !plain {
                    continue;
                }
                clear(pages + counter);
                let wrong = (0..RUNS)
                    .filter(|_| {
                        let others = [PAGE, 2 * PAGE].map(|page| hot::call(base + page + 0x100, 1));
                        hot::call(base + at, base + counter) != Ok(base + counter) || others != [Ok(1); 2]
                    })
                    .count();
                check!(format_args!("{name}_{way}_at_{at:#x}_returns_{counter:#x}"), wrong, 0);
                check!(
                    format_args!("{name}_{way}_at_{at:#x}_counts_{counter:#x}"),
                    count(pages + counter),
                    RUNS
                );
            }
        }
    }
}

/// The same by a program, whose privileged instruction is illegal.
fn program(name: &str, pages: u64, base: u64) {
    for (way, code) in WAYS {
        for at in [PAGE - 6, PAGE - 10, 0x400] {
            let end = code.len() - 2;
            put(pages + at, &code[1..end]);
            put(pages + at + 4 * (end as u64 - 1), &[SFENCE_VMA, ECALL]);
            for counter in [0x200, PAGE + 0x200] {
                clear(pages + counter);
                let ended = base + at + 4 * (end as u64 - 1);
                let wrong = (0..RUNS).filter(|_| {
                    let trap = user::call(base + at, base + counter, 0);
                    !(trap.is(Exception::IllegalInstruction) && trap.epc == ended)
                });
                check!(format_args!("{name}_{way}_program_at_{at:#x}_ends_{counter:#x}"), wrong.count(), 0);
                let counted = count(pages + counter);
                check!(format_args!("{name}_{way}_program_at_{at:#x}_counts_{counter:#x}"), counted, RUNS);
            }
        }
    }
}

fn clear(at: u64) {
    [0, 4].map(|half| at + half).map(|at| at & !3).into_iter().for_each(|at| store32(at, 0));
}

fn store32(at: u64, value: u32) {
    // SAFETY: in frames that were taken for code.
    unsafe { (at as *mut u32).write_volatile(value) };
}

fn count(at: u64) -> u64 {
    if at.is_multiple_of(8) {
        return peek(at);
    }
    // SAFETY: as above.
    let [low, high] = [0, 4].map(|half| unsafe { ((at + half) as *const u32).read_volatile() });
    u64::from(high) << 32 | u64::from(low)
}
