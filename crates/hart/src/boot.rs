//! From the firmware's jump to Rust, twice: first at the physical address with translation off, where the image may
//! look at the device tree and plan its address space, then at its virtual address.
//!
//! The image is position-independent. Its relocations are applied for each of the two places in turn, so nothing that
//! holds a pointer may be kept from the first stage to the second.

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
