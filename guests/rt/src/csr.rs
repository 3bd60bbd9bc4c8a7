//! CSR access by the specification's names: `csr_read!(SSTATUS)`. The names are the constants of
//! [`isa::csr::CsrAddr`]. An access that may trap belongs into [`crate::trap::catch`].

/// Reads a CSR.
#[macro_export]
macro_rules! csr_read {
    ($name:ident) => {{
        let value: u64;
        // SAFETY: reading a CSR touches no memory.
        unsafe {
            core::arch::asm!("csrr {}, {}", out(reg) value,
                const $crate::isa::csr::CsrAddr::$name.as_u16(), options(nostack));
        }
        value
    }};
}

/// Writes a CSR. The caller answers for what the value does: a satp must map the running code, an stvec
/// point to a handler.
#[macro_export]
macro_rules! csr_write {
    ($name:ident, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the value keeps this program runnable, as the caller must see to.
        unsafe {
            core::arch::asm!("csrw {}, {}", const $crate::isa::csr::CsrAddr::$name.as_u16(),
                in(reg) value, options(nostack));
        }
    }};
}

/// Writes a CSR and gives what it held before, in one instruction.
#[macro_export]
macro_rules! csr_swap {
    ($name:ident, $value:expr) => {
        $crate::csr_modify!("csrrw", $name, $value)
    };
}

/// Sets the bits of a mask in a CSR and gives what it held before.
#[macro_export]
macro_rules! csr_set {
    ($name:ident, $mask:expr) => {
        $crate::csr_modify!("csrrs", $name, $mask)
    };
}

/// Clears the bits of a mask in a CSR and gives what it held before.
#[macro_export]
macro_rules! csr_clear {
    ($name:ident, $mask:expr) => {
        $crate::csr_modify!("csrrc", $name, $mask)
    };
}

/// What the three above share.
#[doc(hidden)]
#[macro_export]
macro_rules! csr_modify {
    ($instruction:literal, $name:ident, $operand:expr) => {{
        let operand: u64 = $operand;
        let before: u64;
        // SAFETY: as for `csr_write!`.
        unsafe {
            core::arch::asm!(concat!($instruction, " {}, {}, {}"), out(reg) before,
                const $crate::isa::csr::CsrAddr::$name.as_u16(), in(reg) operand, options(nostack));
        }
        before
    }};
}
