//! What known harts do otherwise than the specification says, as far as the hypervisor has to know.
//!
//! Decides by the machine ids; `hart` asks the firmware for them and does what is to be done. The facts are those of
//! Linux, arch/riscv/errata.

use crate::paging::Mode;
use crate::trap::Exception;

/// Who made a hart, which design it is of, and which version. Priv. spec, "Machine-Level CSRs".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HartIds {
    /// mvendorid.
    pub vendor: u64,
    /// marchid.
    pub architecture: u64,
    /// mimpid.
    pub implementation: u64,
}

/// A fault of a hart's design.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Erratum {
    /// SiFive CIP-453: at instruction faults, the upper bits of stval are 0 where they should repeat bit 38.
    CutFetchAddress,
    /// SiFive CIP-1200: an SFENCE.VMA with an address does not reach all that it should.
    WeakAddressFence,
}

const SIFIVE: u64 = 0x489;
/// The 7 series: U74 and its kin.
const SIFIVE_7: u64 = 0x8000_0000_0000_0007;
/// Rocket, as cores of the 5 series say.
const ROCKET: u64 = 1;

/// An erratum, and which harts have it.
type Row = (Erratum, fn(HartIds) -> bool);

const TABLE: &[Row] = &[
    (Erratum::CutFetchAddress, |ids| {
        ids.vendor == SIFIVE
            && ids.architecture == SIFIVE_7
            && (0x2018_1004..=0x2019_1105).contains(&ids.implementation)
    }),
    (Erratum::WeakAddressFence, |ids| {
        ids.vendor == SIFIVE
            && matches!(ids.architecture, SIFIVE_7 | ROCKET)
            && ids.implementation & 0xff_ffff <= 0x20_0630
            && ids.implementation != 0x120_0626
    }),
];

/// The errata that a hart has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Errata(u8);

impl Errata {
    /// Those of a hart with these ids.
    pub fn of(ids: HartIds) -> Self {
        let found = TABLE.iter().filter(|(_, has)| has(ids));
        Self(found.fold(0, |bits, (erratum, _)| bits | 1 << *erratum as u8))
    }

    /// Whether it has this one.
    #[inline]
    pub const fn has(self, erratum: Erratum) -> bool {
        self.0 >> erratum as u8 & 1 != 0
    }

    /// What stval should have been, where a trap with this cause was taken while the hart translated in `mode`.
    #[inline]
    pub fn trap_value(self, mode: Mode, cause: u64, value: u64) -> u64 {
        if self.has(Erratum::CutFetchAddress) { whole_address(mode, cause, value) } else { value }
    }
}

/// What `stval` should have been on a hart that cuts the addresses of fetches.
#[cold]
const fn whole_address(mode: Mode, cause: u64, value: u64) -> u64 {
    let is_fetch =
        cause == Exception::InstructionAccessFault.code() || cause == Exception::InstructionPageFault.code();
    if is_fetch && matches!(mode, Mode::Sv39) { ((value as i64) << 25 >> 25) as u64 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vendor: u64, architecture: u64, implementation: u64) -> [bool; 2] {
        let errata = Errata::of(HartIds { vendor, architecture, implementation });
        [Erratum::CutFetchAddress, Erratum::WeakAddressFence].map(|erratum| errata.has(erratum))
    }

    #[test]
    fn versions_have_what_linux_says() {
        // An early core of the 7 series, one of the 5 series, a late one of the 7 series.
        assert_eq!(of(SIFIVE, SIFIVE_7, 0x2018_1004), [true, true]);
        assert_eq!(of(SIFIVE, ROCKET, 0x2018_0323), [false, true]);
        assert_eq!(of(SIFIVE, SIFIVE_7, 0x421_0427), [false, false]);
    }

    #[test]
    fn the_ranges_borders_are_inside() {
        assert_eq!(of(SIFIVE, SIFIVE_7, 0x2018_1003), [false, true]);
        assert_eq!(of(SIFIVE, SIFIVE_7, 0x2019_1105), [true, true]);
        assert_eq!(of(SIFIVE, SIFIVE_7, 0x2019_1106), [false, true]);
        assert_eq!(of(SIFIVE, SIFIVE_7, 0x2020_0630), [false, true]);
        assert_eq!(of(SIFIVE, SIFIVE_7, 0x2020_0631), [false, false]);
        assert_eq!(of(SIFIVE, SIFIVE_7, 0x120_0626), [false, false]);
    }

    #[test]
    fn other_makers_harts_have_none() {
        // QEMU says 0 for vendor and implementation, and so do others.
        assert_eq!(of(0, 0, 0), [false, false]);
        assert_eq!(of(0x5b7, SIFIVE_7, 0x2018_1004), [false, false]);
        assert_eq!(of(SIFIVE, 2, 0), [false, false]);
    }

    #[test]
    fn a_cut_address_of_a_fetch_is_extended_and_no_other() {
        let ids = HartIds { vendor: SIFIVE, architecture: SIFIVE_7, implementation: 0x2018_1004 };
        let (errata, cut, whole) = (Errata::of(ids), 0x7f_8000_0000, 0xffff_ffff_8000_0000);
        assert_eq!(errata.trap_value(Mode::Sv39, 12, cut), whole);
        assert_eq!(errata.trap_value(Mode::Sv39, 1, cut), whole);
        assert_eq!(errata.trap_value(Mode::Sv39, 12, whole), whole);
        assert_eq!(errata.trap_value(Mode::Sv39, 12, 0x3f_8000_0000), 0x3f_8000_0000);
        assert_eq!(errata.trap_value(Mode::Sv39, 13, cut), cut);
        assert_eq!(errata.trap_value(Mode::Sv48, 12, cut), cut);
        assert_eq!(Errata::default().trap_value(Mode::Sv39, 12, cut), cut);
    }
}
