//! From the firmware's jump to Rust, twice: first at the physical address with translation off, where the image may
//! look at the device tree and plan its address space, then at its virtual address.
//!
//! The image is position-independent. Its relocations are applied for each of the two places in turn, so nothing that
//! holds a pointer may be kept from the first stage to the second.

use memory::{HostPhysAddr, PAGE_SIZE};

use crate::fault;
use crate::space::HostSpace;

// The head of the image: the Linux boot header (Documentation/arch/riscv/boot-image-header), then the entry.
core::arch::global_asm!(
    ".pushsection .text.head, \"ax\"",
    ".option push",
    ".option norvc",
    ".option norelax",
    ".global _start",
    "_start:",
    "j 1f",
    "nop",
    ".dword 0x200000",     // text_offset: from the start of RAM
    ".dword __image_size", // with .bss and stacks
    ".dword 0",            // flags: little-endian
    ".word 2",             // header version 0.2
    ".word 0",
    ".dword 0",
    ".ascii \"RISCV\\0\\0\\0\"",
    ".ascii \"RSC\\5\"",
    ".word 0",
    // a0 = hart id, a1 = device tree; translation and interrupts are off. Both live on in s0, s1.
    "1:",
    "csrw sie, zero",
    "csrci sstatus, 2",
    "mv s0, a0",
    "mv s1, a1",
    "lla sp, __stack_top",
    "lla t0, {host_trap}",
    "csrw stvec, t0",
    // Zero .bss.
    "lla t0, __bss_start",
    "lla t1, __bss_end",
    "2:",
    "bgeu t0, t1, 3f",
    "sd zero, 0(t0)",
    "addi t0, t0, 8",
    "j 2b",
    // Relocate for where we are.
    "3:",
    "lla a0, __image_start",
    "mv a1, a0",
    "call {relocate}",
    "mv a0, s0",
    "mv a1, s1",
    "call hypocaust_main",
    "4:",
    "wfi",
    "j 4b",
    ".option pop",
    ".popsection",
    host_trap = sym fault::host_trap,
    relocate = sym relocate,
);

/// Applies the image's relocations: a0 = where it lies, a1 = where it will run. Every one is R_RISCV_RELATIVE
/// (offset, type, addend), which the linker script asserts by the tables it admits.
#[unsafe(naked)]
unsafe extern "C" fn relocate() {
    core::arch::naked_asm!(
        "lla t0, __rela_start",
        "lla t1, __rela_end",
        "1:",
        "bgeu t0, t1, 2f",
        "ld t2, 0(t0)",
        "ld t3, 16(t0)",
        "add t2, t2, a0",
        "add t3, t3, a1",
        "sd t3, 0(t2)",
        "addi t0, t0, 24",
        "j 1b",
        "2:",
        "ret",
    )
}

macro_rules! linker_symbols {
    ($($(#[$doc:meta])* $function:ident = $symbol:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            fn $function() -> u64 {
                unsafe extern "C" {
                    static $symbol: u8;
                }
                (&raw const $symbol) as u64
            }
        )*
    };
}

linker_symbols! {
    image_start = __image_start,
    text_end = __text_end,
    rodata_end = __rodata_end,
    stack_guard = __stack_guard,
    emergency_guard = __emergency_guard,
    image_end = __image_end,
}

/// The image in memory. While translation is off, addresses are physical.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Its first byte, a multiple of 2 MiB.
    pub start: HostPhysAddr,
    /// Bytes, with .bss and stacks; a multiple of the page size.
    pub size: u64,
    /// Offsets of the sections' ends and of the guard pages.
    pub(crate) text_end: u64,
    pub(crate) rodata_end: u64,
    pub(crate) guards: [u64; 2],
}

impl Image {
    /// Where the image is; for the first stage, when addresses are physical.
    pub fn locate() -> Self {
        let start = image_start();
        Self {
            start: HostPhysAddr(start),
            size: (image_end() - start).next_multiple_of(PAGE_SIZE),
            text_end: text_end() - start,
            rodata_end: rodata_end() - start,
            guards: [stack_guard() - start, emergency_guard() - start],
        }
    }
}

/// Turns translation on and goes on in `main`, on the same stack, with `stage` at its virtual address.
///
/// `T` must not hold pointers or references into the image: they are not relocated.
pub fn enter<T>(space: &HostSpace, stage: &mut T, main: fn(&mut T) -> !) -> ! {
    let offset = space.image_offset();
    let stage = core::ptr::from_mut(stage);
    // SAFETY: the space maps the whole image, whose relocations are redone for that place before anything there
    // runs. The switch is made by faulting: the fetch after the write of satp finds nothing at the physical
    // address and lands at stvec, the virtual one.
    unsafe {
        core::arch::asm!(
            "lla a0, __image_start",
            "add a1, a0, s2",
            "call {relocate}",
            "lla t0, 2f",
            "add t0, t0, s2",
            "csrw stvec, t0",
            "sfence.vma",
            "csrw satp, s3",
            "nop",
            ".balign 4",
            "2:",
            "sfence.vma",
            "add sp, sp, s2",
            "lla t0, {host_trap}",
            "csrw stvec, t0",
            "add a0, s4, s2",
            "add s5, s5, s2",
            "jr s5",
            in("s2") offset,
            in("s3") space.satp(),
            in("s4") stage,
            in("s5") main as usize,
            relocate = sym relocate,
            host_trap = sym fault::host_trap,
            options(noreturn),
        )
    }
}
