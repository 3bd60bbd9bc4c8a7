//! CSR addresses and the fields of those that a virtual hart has.

use core::fmt;

/// A CSR's 12-bit address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CsrAddr(u16);

impl CsrAddr {
    /// The CSR at the low twelve bits of `address`.
    pub const fn new(address: u32) -> Self {
        Self((address & 0xfff) as u16)
    }

    /// Its address, 0 to 0xfff.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// The lowest privilege that may access it: 0 user, 1 supervisor, 2 hypervisor, 3 machine.
    /// Priv. spec, "CSR Address Mapping Conventions": bits 9:8.
    pub const fn privilege(self) -> u8 {
        ((self.0 >> 8) & 3) as u8
    }

    /// Whether every write is illegal: bits 11:10 are 11.
    pub const fn is_read_only(self) -> bool {
        self.0 >> 10 == 3
    }
}

impl fmt::Debug for CsrAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "csr:{:#05x}", self.0)
    }
}

macro_rules! csrs {
    ($($name:ident = $address:literal),* $(,)?) => {
        impl CsrAddr {
            $(
                #[allow(missing_docs)] // The names are the specification's.
                pub const $name: Self = Self($address);
            )*
        }
    };
}

csrs! {
    FFLAGS = 0x001, FRM = 0x002, FCSR = 0x003, VSTART = 0x008, VXSAT = 0x009, VXRM = 0x00a, VCSR = 0x00f,
    SEED = 0x015,
    SSTATUS = 0x100, SIE = 0x104, STVEC = 0x105, SCOUNTEREN = 0x106, SENVCFG = 0x10a,
    SSCRATCH = 0x140, SEPC = 0x141, SCAUSE = 0x142, STVAL = 0x143, SIP = 0x144, STIMECMP = 0x14d,
    SATP = 0x180,
    CYCLE = 0xc00, TIME = 0xc01, INSTRET = 0xc02, HPMCOUNTER3 = 0xc03, HPMCOUNTER31 = 0xc1f,
    VL = 0xc20, VTYPE = 0xc21, VLENB = 0xc22,
}

/// Fields of sstatus. Priv. spec, "Supervisor Status Register".
pub mod sstatus {
    /// Supervisor interrupt enable.
    pub const SIE: u64 = 1 << 1;
    /// SIE before the trap.
    pub const SPIE: u64 = 1 << 5;
    /// Set where the trap came from supervisor mode.
    pub const SPP: u64 = 1 << 8;
    /// State of the vector unit, two bits.
    pub const VS: u64 = 3 << 9;
    /// State of the floating-point unit, two bits.
    pub const FS: u64 = 3 << 13;
    /// FS at Dirty.
    pub const FS_DIRTY: u64 = 3 << 13;
    /// FS at Initial.
    pub const FS_INITIAL: u64 = 1 << 13;
    /// VS at Dirty.
    pub const VS_DIRTY: u64 = 3 << 9;
    /// VS at Initial.
    pub const VS_INITIAL: u64 = 1 << 9;
    /// Supervisor may access user pages.
    pub const SUM: u64 = 1 << 18;
    /// Loads may read executable pages.
    pub const MXR: u64 = 1 << 19;
    /// UXL as it reads for 64 bits.
    pub const UXL_64: u64 = 2 << 32;
    /// Set where FS, VS or XS is Dirty.
    pub const SD: u64 = 1 << 63;
}

/// Fields of senvcfg. Priv. spec, "Supervisor Environment Configuration Register".
pub mod senvcfg {
    /// Fences of I/O imply memory.
    pub const FIOM: u64 = 1 << 0;
    /// CBO.INVAL's treatment in user mode, two bits.
    pub const CBIE: u64 = 3 << 4;
    /// CBIE: CBO.INVAL performs a flush.
    pub const CBIE_FLUSH: u64 = 1 << 4;
    /// CBO.CLEAN and CBO.FLUSH allowed in user mode.
    pub const CBCFE: u64 = 1 << 6;
    /// CBO.ZERO allowed in user mode.
    pub const CBZE: u64 = 1 << 7;
}

/// Fields of scounteren.
pub mod scounteren {
    /// User mode may read cycle.
    pub const CY: u64 = 1 << 0;
    /// User mode may read time.
    pub const TM: u64 = 1 << 1;
    /// User mode may read instret.
    pub const IR: u64 = 1 << 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::format;

    #[test]
    fn privilege_is_in_bits_9_and_8() {
        assert_eq!(CsrAddr::CYCLE.privilege(), 0);
        assert_eq!(CsrAddr::SATP.privilege(), 1);
        assert_eq!(CsrAddr::new(0x680).privilege(), 2, "hgatp");
        assert_eq!(CsrAddr::new(0x300).privilege(), 3, "mstatus");
    }

    #[test]
    fn only_the_last_quarter_is_read_only() {
        assert!(!CsrAddr::new(0xbff).is_read_only());
        assert!(CsrAddr::CYCLE.is_read_only());
        assert!(CsrAddr::new(0xfff).is_read_only());
        assert!(!CsrAddr::SSTATUS.is_read_only());
    }

    #[test]
    fn an_address_has_twelve_bits() {
        assert_eq!(CsrAddr::new(0xffff_f180), CsrAddr::SATP);
        assert_eq!(CsrAddr::SATP.as_u16(), 0x180);
        assert_eq!(format!("{:?}", CsrAddr::FFLAGS), "csr:0x001");
    }

    #[test]
    fn sstatus_fields_do_not_overlap() {
        use sstatus::*;
        let fields = [SIE, SPIE, SPP, VS, FS, SUM, MXR, UXL_64, SD];
        let bits: u32 = fields.iter().map(|field| field.count_ones()).sum();
        let union = fields.iter().fold(0, |union, field| union | field);
        assert_eq!(bits, union.count_ones());
        assert_eq!(union, 0x8000_0002_000c_6722);
        assert_eq!([FS_DIRTY | FS_INITIAL, VS_DIRTY | VS_INITIAL], [FS, VS]);
    }

    #[test]
    fn senvcfg_fields_are_at_their_places() {
        use senvcfg::*;
        assert_eq!(FIOM | CBIE | CBCFE | CBZE, 0xf1);
        assert_eq!(CBIE & CBIE_FLUSH, 0x10);
    }
}
