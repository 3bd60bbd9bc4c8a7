//! satp and page-table entries. Priv. spec, "Supervisor Address Translation and Protection Register" and
//! "Sv39", "Sv48", "Sv57".

/// A translation mode, by its code in satp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Mode {
    /// No translation.
    Bare = 0,
    /// Three levels, 39-bit addresses.
    Sv39 = 8,
    /// Four levels, 48-bit addresses.
    Sv48 = 9,
    /// Five levels, 57-bit addresses.
    Sv57 = 10,
}

impl Mode {
    /// The mode with this code, or `None` for a reserved one.
    pub const fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            0 => Self::Bare,
            8 => Self::Sv39,
            9 => Self::Sv48,
            10 => Self::Sv57,
            _ => return None,
        })
    }

    /// Levels of page tables: 0, 3, 4 or 5.
    pub const fn levels(self) -> usize {
        match self {
            Self::Bare => 0,
            Self::Sv39 => 3,
            Self::Sv48 => 4,
            Self::Sv57 => 5,
        }
    }

    /// Significant bits of a virtual address; 64 for Bare.
    pub const fn address_bits(self) -> u32 {
        match self {
            Self::Bare => 64,
            Self::Sv39 => 39,
            Self::Sv48 => 48,
            Self::Sv57 => 57,
        }
    }

    /// Whether the upper bits of `address` are copies of the highest significant one.
    pub const fn is_canonical(self, address: u64) -> bool {
        let unused = 64 - self.address_bits();
        ((address << unused) as i64 >> unused) as u64 == address
    }
}

/// satp's value, in its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Satp {
    /// The translation mode.
    pub mode: Mode,
    /// The address-space identifier, 16 bits.
    pub asid: u16,
    /// The root table's physical page number, 44 bits.
    pub ppn: u64,
}

impl Satp {
    /// How far to the left the ASID stands.
    pub const ASID_SHIFT: u32 = 44;

    /// Translation off.
    pub const BARE: Self = Self { mode: Mode::Bare, asid: 0, ppn: 0 };

    /// Splits a value; `None` where its mode is reserved.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match Mode::from_code(bits >> 60) {
            Some(mode) => Some(Self { mode, asid: (bits >> Self::ASID_SHIFT) as u16, ppn: bits & PPN_MASK }),
            None => None,
        }
    }

    /// The register's value.
    pub const fn bits(self) -> u64 {
        ((self.mode as u64) << 60) | ((self.asid as u64) << Self::ASID_SHIFT) | (self.ppn & PPN_MASK)
    }
}

const PPN_MASK: u64 = (1 << Satp::ASID_SHIFT) - 1;

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    /// Valid.
    pub const V: u64 = 1 << 0;
    /// Readable.
    pub const R: u64 = 1 << 1;
    /// Writable.
    pub const W: u64 = 1 << 2;
    /// Executable.
    pub const X: u64 = 1 << 3;
    /// Accessible to user mode.
    pub const U: u64 = 1 << 4;
    /// Global: in all address spaces.
    pub const G: u64 = 1 << 5;
    /// Accessed.
    pub const A: u64 = 1 << 6;
    /// Dirty.
    pub const D: u64 = 1 << 7;
    /// Bits that must be zero where neither Svnapot nor Svpbmt is shown: 54 to 63.
    pub const RESERVED: u64 = 0x3ff << 54;
    /// How far to the left the physical page number stands.
    pub const PPN_SHIFT: u32 = 10;

    /// An entry for the physical page at byte address `address` with these flag bits.
    pub const fn new(address: u64, flags: u64) -> Self {
        Self((address >> 12) << Self::PPN_SHIFT | flags)
    }

    /// Whether all bits of `flags` are set.
    pub const fn has(self, flags: u64) -> bool {
        self.0 & flags == flags
    }

    /// Whether it is valid and maps a page (R or X set) and not a table.
    pub const fn is_leaf(self) -> bool {
        self.0 & Self::V != 0 && self.0 & (Self::R | Self::X) != 0
    }

    /// Whether it is valid and points to the next table.
    pub const fn is_table(self) -> bool {
        self.0 & (Self::V | Self::R | Self::W | Self::X) == Self::V
    }

    /// The byte address it holds.
    pub const fn address(self) -> u64 {
        (self.0 >> Self::PPN_SHIFT & PPN_MASK) << 12
    }
}

/// A page table as the hardware reads it.
#[derive(Clone, Debug)]
#[repr(C, align(4096))]
pub struct PageTable(pub [u64; 512]);

impl PageTable {
    /// A table without a valid entry.
    pub const EMPTY: Self = Self([0; 512]);
}

/// The index of `address` into the table at `level`, 0 for the last.
#[inline]
pub const fn index(address: u64, level: usize) -> usize {
    // At most 63 whatever the level: no check is left over.
    (address >> (9_u32.wrapping_mul(level as u32).wrapping_add(12) & 63)) as usize & 511
}

/// Bytes that a leaf at `level` maps: 4 KiB, 2 MiB, 1 GiB, ...
pub const fn leaf_size(level: usize) -> u64 {
    1 << (12 + 9 * level)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSLATING: [Mode; 3] = [Mode::Sv39, Mode::Sv48, Mode::Sv57];

    #[test]
    fn canonical_addresses_end_below_the_hole_and_begin_again_above_it() {
        for mode in TRANSLATING {
            let half = 1u64 << (mode.address_bits() - 1);
            for inside in [0, half - 1, half.wrapping_neg(), u64::MAX] {
                assert!(mode.is_canonical(inside), "{mode:?} {inside:#x}");
            }
            for hole in [half, half.wrapping_neg() - 1, 1 << 63, u64::MAX >> 1] {
                assert!(!mode.is_canonical(hole), "{mode:?} {hole:#x}");
            }
        }
    }

    #[test]
    fn any_address_is_canonical_without_translation() {
        assert!(Mode::Bare.is_canonical(1 << 63));
        assert!(Mode::Bare.is_canonical(u64::MAX >> 1));
    }

    #[test]
    fn each_level_translates_nine_bits() {
        for mode in TRANSLATING {
            assert_eq!(mode.address_bits() as usize, 12 + 9 * mode.levels());
        }
    }

    #[test]
    fn mode_codes_are_those_of_satp() {
        for code in 0..16 {
            let expected = match code {
                0 | 8 | 9 | 10 => Some(code),
                _ => None,
            };
            assert_eq!(Mode::from_code(code).map(|mode| mode as u64), expected);
        }
    }

    #[test]
    fn satp_survives_the_way_into_fields_and_back() {
        let bits = 0x9abc_d123_4567_89ab;
        let satp = Satp::from_bits(bits).expect("Sv48");
        assert_eq!(satp, Satp { mode: Mode::Sv48, asid: 0xabcd, ppn: 0x123_4567_89ab });
        assert_eq!(satp.bits(), bits);
        assert_eq!(Satp::from_bits(0), Some(Satp::BARE));
        assert_eq!(Satp::BARE.bits(), 0);
    }

    #[test]
    fn satp_of_a_reserved_mode_has_no_fields() {
        assert_eq!(Satp::from_bits(11 << 60), None);
        assert_eq!(Satp::from_bits(1 << 60), None);
    }

    #[test]
    fn a_ppn_too_wide_for_satp_does_not_reach_the_asid() {
        let satp = Satp { mode: Mode::Sv39, asid: 0, ppn: u64::MAX };
        assert_eq!(satp.bits(), 8 << 60 | PPN_MASK);
    }

    #[test]
    fn an_entry_holds_a_page_address_and_flags() {
        let pte = Pte::new(0x8020_3fff, Pte::V | Pte::R | Pte::D);
        assert_eq!(pte.address(), 0x8020_3000);
        assert_eq!(pte.0, 0x2008_0c83);
        assert!(pte.has(Pte::V | Pte::R));
        assert!(!pte.has(Pte::R | Pte::W));
    }

    #[test]
    fn an_address_leaves_the_reserved_bits_out() {
        assert_eq!(Pte(u64::MAX).address(), 0x00ff_ffff_ffff_f000);
        assert_eq!(Pte::RESERVED, 0xffc0_0000_0000_0000);
    }

    #[test]
    fn leaf_table_and_invalid_are_told_apart() {
        let kinds = |flags| (Pte(flags).is_leaf(), Pte(flags).is_table());
        assert_eq!(kinds(Pte::V), (false, true));
        assert_eq!(kinds(Pte::V | Pte::G | Pte::A), (false, true));
        assert_eq!(kinds(Pte::V | Pte::R), (true, false));
        assert_eq!(kinds(Pte::V | Pte::X), (true, false));
        assert_eq!(kinds(Pte::V | Pte::R | Pte::W), (true, false));
        // W without R is reserved.
        assert_eq!(kinds(Pte::V | Pte::W), (false, false));
        assert_eq!(kinds(Pte::R | Pte::X), (false, false));
        assert_eq!(kinds(0), (false, false));
    }

    #[test]
    fn an_index_is_nine_bits_of_the_address() {
        let address = 1 << 48 | 2 << 39 | 3 << 30 | 4 << 21 | 511 << 12 | 0xfff;
        assert_eq!([0, 1, 2, 3, 4].map(|level| index(address, level)), [511, 4, 3, 2, 1]);
    }

    #[test]
    fn leaves_are_512_times_as_large_a_level_up() {
        assert_eq!([0, 1, 2, 3, 4].map(leaf_size), [4 << 10, 2 << 20, 1 << 30, 512 << 30, 1 << 48]);
    }
}
