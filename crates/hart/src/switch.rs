//! The world switch: loads a guest's registers, and saves them when it traps. Everything else of a run is `hart`'s.

use isa::csr::sstatus;
use vhart::{VcpuFrame, layout};

use crate::fault;

/// Bytes of a register.
const WORD: usize = size_of::<u64>();

#[repr(C)]
pub(crate) struct RawTrap {
    pub cause: u64,
    pub value: u64,
}

/// Loads the guest's registers, runs it with traps going to `vector`, and returns when `exit_saved` is reached.
///
/// Owns, while the guest runs: sscratch (the frame), sepc, stvec. Keeps ra, sp, s0-s11 on the stack; gp and tp are
/// not used by the hypervisor.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn switch(frame: &mut VcpuFrame, vector: unsafe extern "C" fn()) -> RawTrap {
    core::arch::naked_asm!(
        // The hypervisor's callee-saved registers.
        "addi sp, sp, -112",
        "sd ra, 0(sp)", "sd s0, 8(sp)", "sd s1, 16(sp)", "sd s2, 24(sp)", "sd s3, 32(sp)", "sd s4, 40(sp)",
        "sd s5, 48(sp)", "sd s6, 56(sp)", "sd s7, 64(sp)", "sd s8, 72(sp)", "sd s9, 80(sp)", "sd s10, 88(sp)",
        "sd s11, 96(sp)",
        "sd sp, {HOST_SP}(a0)",
        "csrw sscratch, a0",
        "csrw stvec, a1",
        "ld t0, {PC}(a0)",
        "csrw sepc, t0",
        // The guest's registers, a0 last.
        ".irp number, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "ld x\\number, {X} + {WORD} * \\number(a0)",
        ".endr",
        "ld a0, {X} + {WORD} * 10(a0)",
        "sret",
        X = const layout::X,
        WORD = const WORD,
        PC = const layout::PC,
        HOST_SP = const layout::HOST_SP,
    )
}

/// stvec while a guest runs without the fast path.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn exit() {
    core::arch::naked_asm!(
        ".balign 4",
        "csrrw sp, sscratch, sp",
        ".irp number, 5,6,7",
        "sd x\\number, {X} + {WORD} * \\number(sp)",
        ".endr",
        "j {exit_saved}",
        X = const layout::X,
        WORD = const WORD,
        exit_saved = sym exit_saved,
    )
}

/// Leaves the guest: returns from `switch`. Here sp is the frame, t0, t1 and t2 are saved in it, and the guest's sp is
/// in sscratch.
///
/// A trap that the assembly itself has raised comes here, too, and is no guest's: sstatus.SPP tells. All that it can be
/// mistaken for on the way here is a page fault; a breakpoint or a user's ecall it cannot be. Who has asked already goes to
/// `exit_of_guest`, in the middle.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn exit_saved() {
    core::arch::naked_asm!(
        "csrr t0, sstatus",
        "andi t0, t0, {SPP}",
        "bnez t0, 1f",
        ".global exit_of_guest",
        "exit_of_guest:",
        ".irp number, 1,3,4,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "sd x\\number, {X} + {WORD} * \\number(sp)",
        ".endr",
        "csrr t0, sscratch",
        "sd t0, {X} + {WORD} * 2(sp)",
        "csrr t0, sepc",
        "sd t0, {PC}(sp)",
        // From here on a trap is the hypervisor's own.
        "lla t0, {host_trap}",
        "csrw stvec, t0",
        "ld sp, {HOST_SP}(sp)",
        "ld ra, 0(sp)", "ld s0, 8(sp)", "ld s1, 16(sp)", "ld s2, 24(sp)", "ld s3, 32(sp)", "ld s4, 40(sp)",
        "ld s5, 48(sp)", "ld s6, 56(sp)", "ld s7, 64(sp)", "ld s8, 72(sp)", "ld s9, 80(sp)", "ld s10, 88(sp)",
        "ld s11, 96(sp)",
        "addi sp, sp, 112",
        "csrr a0, scause",
        "csrr a1, stval",
        "ret",
        "1:",
        "lla t0, {host_trap}",
        "csrw stvec, t0",
        "jr t0",
        SPP = const sstatus::SPP,
        X = const layout::X,
        WORD = const WORD,
        PC = const layout::PC,
        HOST_SP = const layout::HOST_SP,
        host_trap = sym fault::host_trap,
    )
}
