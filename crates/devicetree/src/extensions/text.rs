//! Reads and writes the properties that name extensions: `riscv,isa`, `riscv,isa-base` and
//! `riscv,isa-extensions`, and the cache-block sizes. Devicetree bindings, `riscv/extensions.yaml`.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::BitOr;

use super::{Extension, Extensions, HartIsa};
use crate::blob::{be32, strings};

/// Extensions that are only names for a set of others.
const SETS: &[(Extension, &[Extension])] = {
    use Extension::*;
    &[
        (B, &[Zba, Zbb, Zbs]),
        (Zk, &[Zkn, Zkr, Zkt]),
        (Zkn, &[Zbkb, Zbkc, Zbkx, Zknd, Zkne, Zknh]),
        (Zks, &[Zbkb, Zbkc, Zbkx, Zksed, Zksh]),
        (Zvkng, &[Zvkn, Zvkg]),
        (Zvknc, &[Zvkn, Zvbc]),
        (Zvkn, &[Zvkned, Zvknhb, Zvkb, Zvkt]),
        (Zvksg, &[Zvks, Zvkg]),
        (Zvksc, &[Zvks, Zvbc]),
        (Zvks, &[Zvksed, Zvksh, Zvkb, Zvkt]),
    ]
};

/// The properties of a cpu node about its ISA, as far as it has them.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct IsaProperties<'a> {
    pub(crate) isa: Option<&'a [u8]>,
    pub(crate) base: Option<&'a [u8]>,
    pub(crate) list: Option<&'a [u8]>,
    pub(crate) cbom_block_size: Option<&'a [u8]>,
    pub(crate) cboz_block_size: Option<&'a [u8]>,
    pub(crate) cbop_block_size: Option<&'a [u8]>,
}

impl IsaProperties<'_> {
    /// What they say; `None` where they name no 64-bit base ISA. The list is believed before the string, as
    /// Linux does.
    pub(crate) fn parse(&self) -> Option<HartIsa> {
        let listed = || {
            strings(self.base?).next().filter(|&base| base == b"rv64i")?;
            Some(Extensions::from_names(strings(self.list?).filter_map(utf8)))
        };
        let named = || Extensions::parse_isa(utf8(strings(self.isa?).next()?)?);
        let block = |size: Option<&[u8]>| size.and_then(|value| be32(value, 0)).filter(is_block_size);
        Some(HartIsa {
            extensions: listed().or_else(named)?,
            cbom_block_size: block(self.cbom_block_size),
            cboz_block_size: block(self.cboz_block_size),
            cbop_block_size: block(self.cbop_block_size),
        })
    }
}

impl Extensions {
    /// Reads a `riscv,isa-extensions` list. Unknown names are left out.
    pub fn from_names<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        names.filter_map(Extension::named).collect::<Self>().with_parts()
    }

    /// Reads a `riscv,isa` string in lower case: `rv64`, single letters, then longer names separated by `_`,
    /// each with or without a version. Unknown names are left out. `None` where it does not begin with `rv64i`
    /// or `rv64g`.
    pub fn parse_isa(isa: &str) -> Option<Self> {
        let names = isa.strip_prefix("rv64").filter(|names| names.starts_with(['i', 'g']))?;
        Some(names.split('_').map(Self::parse_group).fold(Self::EMPTY, Self::bitor).with_parts())
    }

    /// Reads what stands between two `_`: single letters, then at most one longer name.
    fn parse_group(group: &str) -> Self {
        let mut found = Self::EMPTY;
        let mut rest = group;
        while let Some(letter) = rest.get(..1) {
            // The old spelling of the privilege modes, which are no extensions: `rv64imafdcsu`.
            if rest.len() < group.len() && rest.starts_with("su") {
                rest = &rest[2..];
            } else if matches!(letter, "z" | "s" | "x") {
                return found | Extension::named(without_version(rest)).into_iter().collect();
            } else {
                found = found | Self::from_letter(letter);
                rest = skip_version(&rest[1..]);
            }
        }
        found
    }

    fn from_letter(letter: &str) -> Self {
        use Extension::*;
        match letter {
            "g" => [I, M, A, F, D, Zicsr, Zifencei].into_iter().collect(),
            _ => Extension::named(letter).into_iter().collect(),
        }
    }

    /// The set and what its members are names for.
    fn with_parts(self) -> Self {
        let parts_of = |found: Self, (set, parts): &(Extension, &[Extension])| {
            if found.contains(*set) { parts.iter().copied().fold(found, Self::with) } else { found }
        };
        SETS.iter().fold(self, parts_of)
    }

    /// Writes a `riscv,isa` string.
    pub fn to_isa(self) -> String {
        let mut isa = String::from("rv64");
        for name in self.iter().map(Extension::name) {
            if name.len() > 1 {
                isa.push('_');
            }
            isa.push_str(name);
        }
        isa
    }

    /// Writes a `riscv,isa-extensions` list.
    pub fn to_names(self) -> Vec<&'static str> {
        self.iter().map(Extension::name).collect()
    }
}

/// `name` without a version behind it: `zba1p0` and `zba1` are `zba`.
fn without_version(name: &str) -> &str {
    let digits = |text: &str| text.ends_with(|last: char| last.is_ascii_digit());
    let trimmed = name.trim_end_matches(|last: char| last.is_ascii_digit());
    match trimmed.strip_suffix('p') {
        Some(major) if trimmed.len() < name.len() && digits(major) => {
            major.trim_end_matches(|last: char| last.is_ascii_digit())
        }
        _ => trimmed,
    }
}

/// What follows the version that `text` may begin with: `2p1c` leaves `c`.
fn skip_version(text: &str) -> &str {
    let digits =
        |text: &'_ str| text.len() - text.trim_start_matches(|first: char| first.is_ascii_digit()).len();
    let major = digits(text);
    let rest = &text[major..];
    match rest.strip_prefix('p') {
        Some(minor) if major > 0 && digits(minor) > 0 => &minor[digits(minor)..],
        _ => rest,
    }
}

fn utf8(name: &[u8]) -> Option<&str> {
    core::str::from_utf8(name).ok()
}

/// Whether cache blocks can have this many bytes.
fn is_block_size(bytes: &u32) -> bool {
    bytes.is_power_of_two() && (8..=4096).contains(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(members: &[Extension]) -> Extensions {
        members.iter().copied().collect()
    }

    #[test]
    fn qemu_s_isa_string_is_read() {
        use Extension::*;
        let isa = "rv64imafdch_zicsr_zifencei_zihintpause_zba_zbb_zbc_zbs_sstc";
        let expected = set(&[I, M, A, F, D, C, H, Zicsr, Zifencei, Zihintpause, Zba, Zbb, Zbc, Zbs, Sstc]);
        assert_eq!(Extensions::parse_isa(isa), Some(expected));
        assert_eq!(expected.to_isa(), isa);
    }

    #[test]
    fn older_spellings_are_read() {
        use Extension::*;
        let expected = set(&[I, M, A, F, D, C, Zicsr, Zifencei]);
        for isa in [
            "rv64imafdc_zicsr_zifencei",
            "rv64imafdczicsr_zifencei",
            "rv64i2p1m2p0a2p1f2p2d2p2c2p0_zicsr2p0_zifencei2",
            "rv64gc",
            "rv64imafdcsu_zicsr_zifencei",
            "rv64i_m_a_f_d_c_zifencei_zicsr_xtheadba_zunknown",
        ] {
            assert_eq!(Extensions::parse_isa(isa), Some(expected), "{isa}");
        }
    }

    #[test]
    fn su_is_only_the_old_spelling_where_no_name_can_begin() {
        assert_eq!(Extensions::parse_isa("rv64i_supm"), Some(set(&[Extension::I, Extension::Supm])));
    }

    #[test]
    fn a_set_of_extensions_brings_its_parts() {
        use Extension::*;
        let found = Extensions::parse_isa("rv64i_zk").unwrap();
        assert_eq!(found, set(&[I, Zk, Zkn, Zkr, Zkt, Zbkb, Zbkc, Zbkx, Zknd, Zkne, Zknh]));
    }

    #[test]
    fn a_32_bit_isa_is_none() {
        for isa in ["rv32imac", "rv64", "rv64m", "RV64", ""] {
            assert_eq!(Extensions::parse_isa(isa), None, "{isa}");
        }
    }

    #[test]
    fn the_list_is_believed_before_the_string() {
        let properties = IsaProperties {
            isa: Some(b"rv64imac\0"),
            base: Some(b"rv64i\0"),
            list: Some(b"i\0m\0zicbom\0xventana\0"),
            cbom_block_size: Some(&[0, 0, 0, 64]),
            cboz_block_size: Some(&[0, 0, 0, 63]),
            ..IsaProperties::default()
        };
        let isa = properties.parse().unwrap();
        assert_eq!(isa.extensions, set(&[Extension::I, Extension::M, Extension::Zicbom]));
        assert_eq!((isa.cbom_block_size, isa.cboz_block_size), (Some(64), None));

        let only_string = IsaProperties { base: Some(b"rv32i\0"), ..properties };
        assert_eq!(only_string.parse().map(|isa| isa.extensions), Extensions::parse_isa("rv64imac"));
    }

    prop_compose! {
        fn any_set()(bits in any::<u128>()) -> Extensions {
            Extension::all().filter(|&e| bits >> e as u8 & 1 != 0).collect::<Extensions>().with_parts().with(Extension::I)
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(x in any_set()) {
            prop_assert_eq!(Extensions::parse_isa(&x.to_isa()), Some(x));
            prop_assert_eq!(Extensions::from_names(x.to_names().into_iter()), x);
        }

        #[test]
        fn what_a_guest_is_shown_survives_both_properties(x in any_set()) {
            let shown = HartIsa { extensions: x, ..HartIsa::default() }.guest_view().extensions;
            prop_assert_eq!(Extensions::parse_isa(&shown.to_isa()), Some(shown));
            prop_assert_eq!(Extensions::from_names(shown.to_names().into_iter()), shown);
        }

        #[test]
        fn any_text_is_read_without_a_panic(isa in "rv64[ig][\\PC0-9_pzsxu]{0,40}") {
            prop_assert!(Extensions::parse_isa(&isa).is_some());
        }
    }
}
