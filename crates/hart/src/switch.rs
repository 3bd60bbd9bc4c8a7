//! The world switch: loads a guest's registers, and saves them when it traps. Everything else of a run is `hart`'s.

use isa::csr::sstatus;
use vhart::{VcpuFrame, layout};

use crate::fault;

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
        "ld ra, 8(a0)", "ld sp, 16(a0)", "ld gp, 24(a0)", "ld tp, 32(a0)", "ld t0, 40(a0)", "ld t1, 48(a0)",
        "ld t2, 56(a0)", "ld s0, 64(a0)", "ld s1, 72(a0)", "ld a1, 88(a0)", "ld a2, 96(a0)", "ld a3, 104(a0)",
        "ld a4, 112(a0)", "ld a5, 120(a0)", "ld a6, 128(a0)", "ld a7, 136(a0)", "ld s2, 144(a0)",
        "ld s3, 152(a0)", "ld s4, 160(a0)", "ld s5, 168(a0)", "ld s6, 176(a0)", "ld s7, 184(a0)",
        "ld s8, 192(a0)", "ld s9, 200(a0)", "ld s10, 208(a0)", "ld s11, 216(a0)", "ld t3, 224(a0)",
        "ld t4, 232(a0)", "ld t5, 240(a0)", "ld t6, 248(a0)",
        "ld a0, 80(a0)",
        "sret",
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
        "sd t0, 40(sp)", "sd t1, 48(sp)", "sd t2, 56(sp)",
        "j {exit_saved}",
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
        "sd ra, 8(sp)", "sd gp, 24(sp)", "sd tp, 32(sp)", "sd s0, 64(sp)", "sd s1, 72(sp)", "sd a0, 80(sp)",
        "sd a1, 88(sp)", "sd a2, 96(sp)", "sd a3, 104(sp)", "sd a4, 112(sp)", "sd a5, 120(sp)",
        "sd a6, 128(sp)", "sd a7, 136(sp)", "sd s2, 144(sp)", "sd s3, 152(sp)", "sd s4, 160(sp)",
        "sd s5, 168(sp)", "sd s6, 176(sp)", "sd s7, 184(sp)", "sd s8, 192(sp)", "sd s9, 200(sp)",
        "sd s10, 208(sp)", "sd s11, 216(sp)", "sd t3, 224(sp)", "sd t4, 232(sp)", "sd t5, 240(sp)",
        "sd t6, 248(sp)",
        "csrr t0, sscratch",
        "sd t0, 16(sp)",
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
        PC = const layout::PC,
        HOST_SP = const layout::HOST_SP,
        host_trap = sym fault::host_trap,
    )
}
