//! Control and status registers of M-mode: their bits, access to them by name or number, and to those that a hart
//! may lack.

/// Fields of mstatus, and of the sstatus in it.
pub mod mstatus {
    pub const SIE: u64 = 1 << 1;
    pub const MIE: u64 = 1 << 3;
    pub const SPIE: u64 = 1 << 5;
    pub const MPIE: u64 = 1 << 7;
    pub const SPP: u64 = 1 << 8;
    /// The states of the vector and of the floating-point unit; all bits set is Dirty.
    pub const VS: u64 = 3 << 9;
    pub const MPP: u64 = 3 << 11;
    pub const MPP_SUPERVISOR: u64 = 1 << 11;
    pub const FS: u64 = 3 << 13;
    pub const MPRV: u64 = 1 << 17;
    pub const SUM: u64 = 1 << 18;
    pub const MXR: u64 = 1 << 19;
    pub const TVM: u64 = 1 << 20;
    pub const TW: u64 = 1 << 21;
    pub const TSR: u64 = 1 << 22;
    /// Of the H extension: guest addresses in the trap before, and that trap from a guest.
    pub const GVA: u64 = 1 << 38;
    pub const MPV: u64 = 1 << 39;
}

/// Extensions in misa.
pub mod misa {
    pub const F: u64 = 1 << 5;
    pub const V: u64 = 1 << 21;
}

/// Interrupts, as bits of mip, mie and mideleg.
pub mod interrupt {
    pub const SUPERVISOR_SOFTWARE: u64 = 1 << 1;
    pub const MACHINE_SOFTWARE: u64 = 1 << 3;
    pub const SUPERVISOR_TIMER: u64 = 1 << 5;
    pub const MACHINE_TIMER: u64 = 1 << 7;
    pub const SUPERVISOR_EXTERNAL: u64 = 1 << 9;
    /// All that are S-mode's.
    pub const SUPERVISOR: u64 = SUPERVISOR_SOFTWARE | SUPERVISOR_TIMER | SUPERVISOR_EXTERNAL;
}

/// Fields of menvcfg: what S-mode may use, or allow U-mode to use.
pub mod menvcfg {
    /// Cache block operations: invalidate, clean and flush, zero.
    pub const CACHE_BLOCKS: u64 = 0b1111 << 4;
    /// Memory types in page tables (Svpbmt).
    pub const PBMTE: u64 = 1 << 62;
    /// A timer of its own (Sstc).
    pub const STCE: u64 = 1 << 63;
}

/// A field of mseccfg: S-mode may read the entropy source (Zkr), as Linux does where the device tree names it.
pub const SSEED: u64 = 1 << 9;

/// Numbers of registers that older assemblers or harts do not know.
pub mod number {
    pub const STIMECMP: u16 = 0x14d;
    pub const MENVCFG: u16 = 0x30a;
    pub const MSTATEEN0: u16 = 0x30c;
    pub const PMPADDR0: u16 = 0x3b0;
    pub const MSECCFG: u16 = 0x747;
}

/// Reads a register by its name.
macro_rules! read {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: each register that is read here can be read without a side effect.
        unsafe { core::arch::asm!(concat!("csrr {}, ", $name), out(reg) value, options(nomem, nostack)) };
        value
    }};
}

/// Writes a register by its name.
macro_rules! write {
    ($name:literal, $value:expr) => {
        $crate::csr::change!("csrw", $name, $value)
    };
}

/// Sets bits of a register.
macro_rules! set {
    ($name:literal, $value:expr) => {
        $crate::csr::change!("csrs", $name, $value)
    };
}

/// Clears bits of a register.
macro_rules! clear {
    ($name:literal, $value:expr) => {
        $crate::csr::change!("csrc", $name, $value)
    };
}

macro_rules! change {
    ($operation:literal, $name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the registers that are written here concern lower modes and interrupts, which stay off in
        // M-mode, and scratch values; none of them changes what M-mode's own code may rely on. The memory
        // clobber keeps accesses that a register protects or opens on their side of it.
        unsafe { core::arch::asm!(concat!($operation, " ", $name, ", {}"), in(reg) value, options(nostack)) }
    }};
}

/// Sets bits in a register that the hart may lack: what it holds then, or none where there is no such register.
/// For use before there are traps to be served: the one that a missing register makes is caught here.
macro_rules! set_if_present {
    ($number:expr, $bits:expr) => {{
        let value: u64;
        let present: u64;
        // SAFETY: an illegal instruction goes to `2`, with nothing changed but what a trap writes (mepc, mcause,
        // mtval, mstatus's previous mode), which nobody relies on before the first entry into S-mode. The trap
        // vector is as before afterwards.
        unsafe {
            core::arch::asm!(
                "lla {old}, 2f",
                "csrrw {old}, mtvec, {old}",
                "li {present}, 0",
                "csrs {number}, {bits}",
                "csrr {value}, {number}",
                "li {present}, 1",
                ".balign 4",
                "2: csrw mtvec, {old}",
                number = const $number,
                bits = in(reg) $bits,
                old = out(reg) _,
                value = out(reg) value,
                present = out(reg) present,
                options(nostack),
            );
        }
        (present != 0).then_some(value)
    }};
}

pub(crate) use {change, clear, read, set, set_if_present, write};
