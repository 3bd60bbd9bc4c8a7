//! Code that is read: a kernel whose constants lie in the page of its privileged instructions. A hypervisor that executes such
//! a page from somewhere else has to find out whether that pays.

use crate::timing::report;
use core::arch::asm;
use guest_rt::paging;
use guest_rt::time;

/// Rounds in which the page is read much: one CSR access, eight loads.
const MUCH: u64 = 4_000;
/// Rounds in which it is read little: 64 CSR accesses, one load.
const LITTLE: u64 = 4_000;

/// Loops of `csrr a2, sscratch` and loads of the page's last double word by way of a1; a0 counts.
struct Code {
    page: u64,
    words: usize,
}

/// `csrr a2, sscratch`
const CSRR: u32 = 0x1400_2673;
/// `ld a2, 0(a1)`
const LOAD: u32 = 0x0005_b603;
/// `addi a0, a0, -1`
const COUNT: u32 = 0xfff5_0513;
const RET: u32 = 0x0000_8067;

impl Code {
    fn push(&mut self, word: u32) {
        // SAFETY: a frame that was taken for code, with room for far more.
        unsafe { ((self.page + 4 * self.words as u64) as *mut u32).write_volatile(word) };
        self.words += 1;
    }

    /// Appends a function that runs such rounds, a0 times; gives its address.
    fn function(&mut self, sites: u64, loads: u64) -> u64 {
        let start = self.words;
        (0..sites).for_each(|_| self.push(CSRR));
        (0..loads).for_each(|_| self.push(LOAD));
        self.push(COUNT);
        self.push(branch_if_any_left(4 * (self.words - start) as u32));
        self.push(RET);
        self.page + 4 * start as u64
    }
}

/// `bnez a0, back` bytes before it.
const fn branch_if_any_left(back: u32) -> u32 {
    let offset = back.wrapping_neg();
    0x0005_1063
        | (offset >> 12 & 1) << 31
        | (offset >> 5 & 0x3f) << 25
        | (offset >> 1 & 0xf) << 8
        | (offset >> 11 & 1) << 7
}

/// Measures and reports a page that is read much, then little, then much again: each time a hypervisor has to find its way.
pub fn measure() {
    let mut code = Code { page: paging::frame(), words: 0 };
    let [much, little] = [code.function(1, 8), code.function(64, 1)];
    let constant = code.page + 4088;
    // SAFETY: the end of that frame.
    unsafe { (constant as *mut u64).write_volatile(42) };
    for (name, function, rounds) in [
        ("code-read-much", much, MUCH),
        ("code-read-little", little, LITTLE),
        ("code-read-again", much, MUCH),
    ] {
        let start = time::now();
        let read: u64;
        // SAFETY: the functions written above, which load from that frame; the fence is for the first call.
        unsafe {
            asm!("fence.i", "jalr ra, 0({function})", function = in(reg) function, inout("a0") rounds => _,
                in("a1") constant, out("a2") read, out("ra") _);
        }
        report(name, rounds, time::now() - start);
        assert_eq!(read, 42, "a constant is what was written");
    }
}
