//! Text pokes: the kernel writes a privileged instruction of its own through another mapping, fences, and executes it, over
//! and over. The pages that are poked are as hot as they get, so a hypervisor that keeps something of them has to give it up
//! each time.

use crate::timing::report;
use core::arch::asm;
use guest_rt::paging::{self, PAGE, Pte, RW, Tables};
use guest_rt::time;

/// Pokes of each page. A hypervisor that puts off more and more what it gives up at each has time to do so.
const POKES: u64 = 4_000;
/// Where the page is executed; the page behind it is where it is written.
const TEXT: u64 = 0x5000_0000;

/// Where many pages of code are: physical memory that this guest has no other use for.
const MANY: u64 = 0x9000_0000;

/// Where much memory is mapped, and which.
const WIDE: u64 = 0x2_0000_0000;
const WIDE_PHYS: u64 = 0xa000_0000;

/// `csrr a0, sscratch` and `csrr a0, sepc`.
const FORMS: [u32; 2] = [0x1400_2573, 0x1410_2573];
const RET: u32 = 0x0000_8067;
const SRET: u32 = 0x1020_0073;

/// Measures and reports pokes of a page of CSR accesses, of one that has an SRET, too, and of one in a large kernel.
pub fn measure(tables: &Tables) {
    poke("text-poke", tables, &[FORMS[0], RET]);
    poke("text-poke-sret", tables, &[FORMS[0], RET, SRET]);
    use_much_memory(tables);
    poke("text-poke-wide", tables, &[FORMS[0], RET]);
}

/// Touches 64 MiB by 4 KiB pages: a hypervisor may have to look through all that it keeps of them.
fn use_much_memory(tables: &Tables) {
    const BYTES: u64 = 64 << 20;
    for page in (0..BYTES).step_by(PAGE as usize) {
        tables.map(WIDE + page, WIDE_PHYS + page, 0, RW);
        // SAFETY: memory that nothing else uses, just mapped here.
        unsafe { ((WIDE + page) as *mut u64).write_volatile(1) };
    }
}

/// Measures and reports hot pages, more than a hypervisor has copies for.
pub fn measure_many() {
    const PAGES: u64 = 1_200;
    const CALLS: u64 = 48;
    for page in (MANY..).step_by(PAGE as usize).take(PAGES as usize) {
        // SAFETY: memory that nothing else uses, mapped one to one.
        unsafe { (page as *mut u64).write_volatile(u64::from(RET) << 32 | u64::from(FORMS[0])) };
    }
    let start = time::now();
    for page in (MANY..).step_by(PAGE as usize).take(PAGES as usize) {
        // SAFETY: the function just written there, which gives a0 a value; the fence is for the first call of each page.
        unsafe {
            asm!("fence.i", "1: jalr ra, 0({text})", "addi {calls}, {calls}, -1", "bnez {calls}, 1b",
                text = in(reg) page, calls = inout(reg) CALLS => _, out("ra") _, out("a0") _);
        }
    }
    report("hot-pages", PAGES * CALLS, time::now() - start);
    // What comes after is not to go without copies.
    for page in (MANY..).step_by(PAGE as usize).take(PAGES as usize) {
        // SAFETY: as above.
        unsafe { (page as *mut u64).write_volatile(0) };
    }
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
