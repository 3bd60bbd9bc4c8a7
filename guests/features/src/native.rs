//! Whether QEMU's own hart runs the guest. Needed only where QEMU departs from the specification, or has
//! extensions that the hypervisor hides.

use core::fmt::Display;
use guest_rt::isa::Exception;
use guest_rt::trap::Trap;
use guest_rt::{check, sbi};

/// Whether the SBI is a firmware's: OpenSBI is 1, RustSBI 4. The hypervisor has an identity of its own.
pub fn native() -> bool {
    matches!(sbi::implementation(), 1 | 4)
}

/// Forgives QEMU a departure from the specification: what was got, but `wanted` where QEMU's own hart gave
/// `qemu`. The hypervisor is not forgiven.
pub fn forgive<T: PartialEq>(got: T, qemu: T, wanted: T) -> T {
    if got == qemu && native() { wanted } else { got }
}

/// Checks something of an extension that the hypervisor hides: there it must be an illegal instruction;
/// natively it may as well work.
pub fn hidden<T>(name: impl Display, result: &Result<T, Trap>) {
    match result {
        Err(trap) => check!(name, Exception::from_code(trap.cause), Some(Exception::IllegalInstruction)),
        Ok(_) => check!(name, native()),
    }
}
