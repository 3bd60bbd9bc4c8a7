//! Which ISA extensions a hart has, and which of them a guest is shown.
//!
//! One table names every extension the hypervisor has an opinion on. What it does not name is not shown: an
//! extension may bring state or traps that the virtual hart does not have. `text` reads and writes the
//! properties that carry the names.

pub(crate) mod text;

use core::fmt;
use core::ops::{BitAnd, BitOr};

/// Whether guests are shown an extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Where every host hart has it.
    Shown,
    /// Whatever the host has: the virtual hart itself has it, for the reason given.
    Always(&'static str),
    /// Never, for the reason given.
    Hidden(&'static str),
}

macro_rules! extensions {
    ($($variant:ident $name:literal $policy:expr;)+) => {
        /// An ISA extension, in the canonical order of the names. Unpriv. spec, "ISA Extension Naming Conventions".
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        #[allow(missing_docs, reason = "each is named after the extension")]
        #[repr(u8)]
        pub enum Extension {
            $($variant),+
        }

        /// Name and policy of every known extension, indexed by `Extension`.
        const TABLE: &[(Extension, &str, Policy)] = {
            use Policy::*;
            &[$((Extension::$variant, $name, $policy)),+]
        };
    };
}

const AIA: &str = "the interrupt controller is a PLIC, without AIA's registers";
const CFI: &str = "the virtual senvcfg has no control-flow integrity";
const POINTER_MASKING: &str = "the guest's page walk does not ignore upper address bits";
const COUNTERS: &str = "guests have no counters of their own";
const ENTRY_BITS: &str = "the guest's page walk treats these entry bits as reserved";
const ENCODINGS: &str = "the decoder does not know its encodings";

extensions! {
    I "i" Shown;
    M "m" Shown;
    A "a" Shown;
    F "f" Shown;
    D "d" Shown;
    C "c" Shown;
    B "b" Shown;
    V "v" Shown;
    H "h" Hidden("a guest hypervisor would need a virtual HS-mode");
    Zic64b "zic64b" Shown;
    Zicbom "zicbom" Shown;
    Zicbop "zicbop" Shown;
    Zicboz "zicboz" Shown;
    Ziccamoa "ziccamoa" Shown;
    Ziccif "ziccif" Shown;
    Zicclsm "zicclsm" Shown;
    Ziccrse "ziccrse" Shown;
    Zicfilp "zicfilp" Hidden(CFI);
    Zicfiss "zicfiss" Hidden(CFI);
    Zicntr "zicntr" Always("cycle, time and instret can be read on any host, if only by a trap");
    Zicond "zicond" Shown;
    Zicsr "zicsr" Shown;
    Zifencei "zifencei" Shown;
    Zihintntl "zihintntl" Shown;
    Zihintpause "zihintpause" Shown;
    Zihpm "zihpm" Hidden(COUNTERS);
    Za128rs "za128rs" Shown;
    Za64rs "za64rs" Shown;
    Zaamo "zaamo" Shown;
    Zabha "zabha" Shown;
    Zacas "zacas" Shown;
    Zalrsc "zalrsc" Shown;
    Zawrs "zawrs" Hidden("wrs.nto would trap in each of Linux's wait loops");
    Zfa "zfa" Shown;
    Zfbfmin "zfbfmin" Shown;
    Zfh "zfh" Shown;
    Zfhmin "zfhmin" Shown;
    Zca "zca" Shown;
    Zcb "zcb" Hidden(ENCODINGS);
    Zcd "zcd" Shown;
    Zcmp "zcmp" Hidden(ENCODINGS);
    Zcmt "zcmt" Hidden(ENCODINGS);
    Zba "zba" Shown;
    Zbb "zbb" Shown;
    Zbc "zbc" Shown;
    Zbkb "zbkb" Shown;
    Zbkc "zbkc" Shown;
    Zbkx "zbkx" Shown;
    Zbs "zbs" Shown;
    Zk "zk" Hidden("it contains zkr; its other parts are shown one by one");
    Zkn "zkn" Shown;
    Zknd "zknd" Shown;
    Zkne "zkne" Shown;
    Zknh "zknh" Shown;
    Zkr "zkr" Hidden("seed is not readable from U-mode, where guests run");
    Zks "zks" Shown;
    Zksed "zksed" Shown;
    Zksh "zksh" Shown;
    Zkt "zkt" Shown;
    Ztso "ztso" Shown;
    Zvbb "zvbb" Shown;
    Zvbc "zvbc" Shown;
    Zve32f "zve32f" Shown;
    Zve32x "zve32x" Shown;
    Zve64d "zve64d" Shown;
    Zve64f "zve64f" Shown;
    Zve64x "zve64x" Shown;
    Zvfbfmin "zvfbfmin" Shown;
    Zvfbfwma "zvfbfwma" Shown;
    Zvfh "zvfh" Shown;
    Zvfhmin "zvfhmin" Shown;
    Zvkb "zvkb" Shown;
    Zvkg "zvkg" Shown;
    Zvkn "zvkn" Shown;
    Zvknc "zvknc" Shown;
    Zvkned "zvkned" Shown;
    Zvkng "zvkng" Shown;
    Zvknha "zvknha" Shown;
    Zvknhb "zvknhb" Shown;
    Zvks "zvks" Shown;
    Zvksc "zvksc" Shown;
    Zvksed "zvksed" Shown;
    Zvksg "zvksg" Shown;
    Zvksh "zvksh" Shown;
    Zvkt "zvkt" Shown;
    Smaia "smaia" Hidden(AIA);
    Smstateen "smstateen" Hidden("firmware's, not a guest's");
    Ssaia "ssaia" Hidden(AIA);
    Sscofpmf "sscofpmf" Hidden(COUNTERS);
    Ssctr "ssctr" Hidden("the virtual hart has no control transfer records");
    Ssdbltrp "ssdbltrp" Hidden("sstatus.SDT reads 0");
    Ssnpm "ssnpm" Hidden(POINTER_MASKING);
    Ssstateen "ssstateen" Hidden("the virtual hart has no sstateen");
    Sstc "sstc" Hidden("stimecmp would trap on each write, as an SBI call does");
    Supm "supm" Hidden(POINTER_MASKING);
    Svade "svade" Hidden("the scheme for accessed and dirty bits is not promised");
    Svadu "svadu" Hidden("the scheme for accessed and dirty bits is not promised");
    Svinval "svinval" Shown;
    Svnapot "svnapot" Hidden(ENTRY_BITS);
    Svpbmt "svpbmt" Hidden(ENTRY_BITS);
    Svvptc "svvptc" Always("shadow tables never hold invalid entries");
}

const _: () = assert!(TABLE.len() <= u128::BITS as usize);

impl Extension {
    /// All known extensions in canonical order.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|&(extension, _, _)| extension)
    }

    /// The extension called `name`, in lower case.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|(_, known, _)| *known == name).map(|&(extension, _, _)| extension)
    }

    /// Its name in lower case, as in device trees.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Whether guests are shown it, and why where that is not up to the host.
    pub fn policy(self) -> Policy {
        TABLE[self as usize].2
    }
}

/// A set of extensions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Extensions(u128);

impl Extensions {
    /// No extension at all.
    pub const EMPTY: Self = Self(0);

    /// Whether `extension` is in the set.
    pub const fn contains(self, extension: Extension) -> bool {
        self.0 >> extension as u8 & 1 != 0
    }

    /// The set and `extension`.
    #[must_use]
    pub const fn with(self, extension: Extension) -> Self {
        Self(self.0 | 1 << extension as u8)
    }

    /// The set but `extension`.
    #[must_use]
    pub const fn without(self, extension: Extension) -> Self {
        Self(self.0 & !(1 << extension as u8))
    }

    /// The members in canonical order.
    pub fn iter(self) -> impl Iterator<Item = Extension> {
        Extension::all().filter(move |&extension| self.contains(extension))
    }
}

impl FromIterator<Extension> for Extensions {
    fn from_iter<T: IntoIterator<Item = Extension>>(members: T) -> Self {
        members.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl BitAnd for Extensions {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Extensions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Extension::name)).finish()
    }
}

/// What a hart's device-tree node says of its ISA.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HartIsa {
    /// The known extensions it has.
    pub extensions: Extensions,
    /// Bytes that cbo.clean, cbo.flush and cbo.inval work on (`riscv,cbom-block-size`).
    pub cbom_block_size: Option<u32>,
    /// Bytes that cbo.zero clears (`riscv,cboz-block-size`).
    pub cboz_block_size: Option<u32>,
    /// Bytes that the prefetch hints are about (`riscv,cbop-block-size`).
    pub cbop_block_size: Option<u32>,
}

impl HartIsa {
    /// What code may rely on that runs now on a hart like `self`, now on one like `other`.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        let alike = |ours: Option<u32>, theirs| ours.filter(|_| ours == theirs);
        Self {
            extensions: self.extensions & other.extensions,
            cbom_block_size: alike(self.cbom_block_size, other.cbom_block_size),
            cboz_block_size: alike(self.cboz_block_size, other.cboz_block_size),
            cbop_block_size: alike(self.cbop_block_size, other.cbop_block_size),
        }
    }

    /// What a guest is shown on harts of this ISA. Cache-block operations need a known block size.
    #[must_use]
    pub fn guest_view(self) -> Self {
        let mut extensions: Extensions = Extension::all()
            .filter(|&extension| match extension.policy() {
                Policy::Shown => self.extensions.contains(extension),
                Policy::Always(_) => true,
                Policy::Hidden(_) => false,
            })
            .collect();
        if self.cbom_block_size.is_none() {
            extensions = extensions.without(Extension::Zicbom);
        }
        if self.cboz_block_size.is_none() {
            extensions = extensions.without(Extension::Zicboz);
        }
        let only_with = |extension, size: Option<u32>| size.filter(|_| extensions.contains(extension));
        Self {
            extensions,
            cbom_block_size: only_with(Extension::Zicbom, self.cbom_block_size),
            cboz_block_size: only_with(Extension::Zicboz, self.cboz_block_size),
            cbop_block_size: only_with(Extension::Zicbop, self.cbop_block_size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_indexed_by_extension_and_in_canonical_order() {
        // Unpriv. spec, "ISA Extension Naming Conventions": single letters in this order, then Z by its
        // second letter in the same order, then S; within a group by the alphabet.
        const LETTERS: &str = "imafdqlcbkjtpvnh";
        let key = |name: &'static str| {
            let letter = |at: usize| LETTERS.find(&name[at..=at]).unwrap_or(LETTERS.len());
            match (name.len(), &name[..1]) {
                (1, _) => (0, letter(0), name),
                (_, "z") => (1, letter(1), name),
                (_, "s") => (2, 0, name),
                _ => panic!("{name} is of no known group"),
            }
        };
        for (index, window) in TABLE.windows(2).enumerate() {
            assert_eq!(window[0].0 as usize, index);
            assert!(key(window[0].1) < key(window[1].1), "{} before {}", window[0].1, window[1].1);
        }
    }

    #[test]
    fn a_guest_is_shown_what_the_virtual_hart_has_whatever_the_host_has() {
        let shown = HartIsa::default().guest_view();
        assert_eq!(shown.extensions, Extensions::EMPTY.with(Extension::Zicntr).with(Extension::Svvptc));
    }

    #[test]
    fn a_guest_of_a_hart_with_everything_is_shown_nothing_that_is_hidden() {
        let host = HartIsa {
            extensions: Extension::all().collect(),
            cbom_block_size: Some(64),
            cboz_block_size: Some(64),
            cbop_block_size: Some(64),
        };
        let shown = host.guest_view();
        use Extension::*;
        for hidden in [H, Sstc, Svpbmt, Svadu, Svnapot, Zawrs, Smaia, Ssaia, Sscofpmf, Zicfilp, Zkr, Zk] {
            assert!(!shown.extensions.contains(hidden), "{hidden:?}");
        }
        for kept in [V, Svinval, Zicbom, Zicboz, Zacas, Zkn, Zfh] {
            assert!(shown.extensions.contains(kept), "{kept:?}");
        }
        assert_eq!(shown.guest_view(), shown, "a view is its own view");
    }

    #[test]
    fn vector_is_not_shown_on_a_host_without_it() {
        let host = HartIsa { extensions: Extensions::EMPTY.with(Extension::I), ..HartIsa::default() };
        assert!(!host.guest_view().extensions.contains(Extension::V));
    }

    #[test]
    fn cache_block_operations_are_hidden_where_harts_differ_in_block_size() {
        let extensions = Extensions::EMPTY.with(Extension::Zicboz).with(Extension::Zicbom);
        let one = HartIsa {
            extensions,
            cbom_block_size: Some(64),
            cboz_block_size: Some(64),
            ..HartIsa::default()
        };
        let other = HartIsa { cboz_block_size: Some(128), ..one };
        let shown = one.intersection(other).guest_view();
        assert!(shown.extensions.contains(Extension::Zicbom));
        assert!(!shown.extensions.contains(Extension::Zicboz));
        assert_eq!((shown.cbom_block_size, shown.cboz_block_size), (Some(64), None));
    }
}
