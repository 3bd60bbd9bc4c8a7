//! CSR access, and probing for a CSR that may not be there.

/// Reads a CSR. Evaluates to a `u64`; the CSR must be one whose reading has no side effect on Rust's state.
macro_rules! read {
    ($csr:literal) => {{
        let value: u64;
        // SAFETY: reading this CSR changes nothing.
        unsafe { core::arch::asm!(concat!("csrr {}, ", $csr), out(reg) value, options(nomem, nostack)) };
        value
    }};
}

/// Writes a CSR that has no influence on how Rust code runs, but for satp and stvec, whose callers say why it holds.
macro_rules! write {
    ($csr:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: see the macro.
        unsafe { core::arch::asm!(concat!("csrw ", $csr, ", {}"), in(reg) value, options(nostack)) };
    }};
}

/// Reads a CSR that may not exist: `Some(value)`, or `None` where reading it traps.
macro_rules! probe {
    ($csr:literal) => {
        $crate::csr::probe_with!(concat!("csrr {value}, ", $csr))
    };
}

/// Carries out an instruction that sets `{value}`, changes nothing else, and may trap.
macro_rules! probe_with {
    ($instruction:expr) => {{
        let (value, present): (u64, u64);
        // SAFETY: a trap of the csrr lands behind it; stvec is restored on both ways, sepc, scause, stval and
        // sstatus.SPP and SPIE mean nothing while the hypervisor runs, and interrupts are off.
        unsafe {
            core::arch::asm!(
                "csrr {old}, stvec",
                "lla {present}, 2f",
                "csrw stvec, {present}",
                "li {present}, 0",
                $instruction,
                "li {present}, 1",
                ".balign 4",
                "2:",
                "csrw stvec, {old}",
                old = out(reg) _,
                value = out(reg) value,
                present = out(reg) present,
                options(nostack),
            )
        };
        if present == 1 { Some(value) } else { None }
    }};
}

pub(crate) use {probe, probe_with, read, write};
