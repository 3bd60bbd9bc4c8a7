//! Text pokes: the kernel writes a privileged instruction of its own through another mapping, fences, and executes it, over
//! and over. The pages that are poked are as hot as they get, so a hypervisor that keeps something of them has to give it up
//! each time.

use crate::report;
use core::arch::asm;
use guest_rt::paging::{self, PAGE, Pte, RW, Tables};
use guest_rt::time;

/// Pokes of each page. A hypervisor that puts off more and more what it gives up at each has time to do so.
const POKES: u64 = 4_000;
/// Where the page is executed; the page behind it is where it is written.
const TEXT: u64 = 0x5000_0000;

/// `csrr a0, sscratch` and `csrr a0, sepc`.
const FORMS: [u32; 2] = [0x1400_2573, 0x1410_2573];
const RET: u32 = 0x0000_8067;
const SRET: u32 = 0x1020_0073;

/// Measures and reports pokes of a page of CSR accesses, and of one that has an SRET, too.
pub fn measure(tables: &Tables) {
    poke("text-poke", tables, &[FORMS[0], RET]);
    poke("text-poke-sret", tables, &[FORMS[0], RET, SRET]);
}

fn poke(name: &str, tables: &Tables, words: &[u32]) {
    let page = paging::frame();
    tables.map(TEXT, page, 0, Pte::V | Pte::R | Pte::X | Pte::A | Pte::D);
    tables.map(TEXT + PAGE, page, 0, RW);
    paging::fence_all();
    for (place, word) in (page..).step_by(4).zip(words) {
        // SAFETY: a frame taken for code.
        unsafe { (place as *mut u32).write_volatile(*word) };
    }
    let start = time::now();
    let mut worst = 0;
    for form in FORMS.into_iter().cycle().take(POKES as usize) {
        let before = time::now();
        // SAFETY: writes one of two instructions that only give a0 another value, and calls the function that it is in.
        unsafe {
            asm!("sw {form}, 0({alias})", "fence.i", "jalr ra, 0({text})", form = in(reg) form,
                alias = in(reg) TEXT + PAGE, text = in(reg) TEXT, out("ra") _, out("a0") _);
        }
        worst = worst.max(time::now() - before);
    }
    report(name, POKES, time::now() - start);
    guest_rt::println!("bench {name}-worst 1 {worst}");
}
