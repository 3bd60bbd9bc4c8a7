//! A trap that the hypervisor itself raises is a bug of ours: it ends in a panic, on a stack that is sure to be good
//! (*own-fault*). While the assembly works, traps go to its vectors all the same, and `switch::exit_saved` sends ours here.

/// What the hardware says of a trap that the hypervisor raised.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HostFault {
    /// scause.
    pub cause: u64,
    /// stval.
    pub value: u64,
    /// sepc.
    pub pc: u64,
    /// The stack pointer.
    pub sp: u64,
}

/// stvec while the hypervisor runs.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn host_trap() {
    core::arch::naked_asm!(
        ".balign 4",
        // The stack pointer may have run into its guard page.
        "csrw sscratch, sp",
        "lla sp, __emergency_stack_top",
        "csrr a0, scause",
        "csrr a1, stval",
        "csrr a2, sepc",
        "csrr a3, sscratch",
        "j {report}",
        report = sym report,
    )
}

extern "C" fn report(cause: u64, value: u64, pc: u64, sp: u64) -> ! {
    panic!("the hypervisor trapped: {:x?}", HostFault { cause, value, pc, sp })
}
