//! The M-mode firmware below: which one is asked for, and its file. QEMU's own OpenSBI needs none.

use hypo_common::cache::Cache;
use hypo_common::error::{Error, Result};
use hypo_common::{build, setup};
use hypo_debian::guests::Asset;
use std::fmt;
use std::path::PathBuf;

/// What QEMU understands as its own firmware.
const DEFAULT: &str = "default";
const OPENSBI_1_6: &str = "opensbi-1.6";
const RUSTSBI: &str = "rustsbi";

/// A firmware, as `--firmware` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// The OpenSBI that QEMU finds by itself: 1.1 with Debian 12's, 1.5 and later with QEMU 10.
    Default,
    /// Debian 13's OpenSBI.
    OpenSbi16,
    /// Ours, on RustSBI; only for QEMU's `virt`.
    RustSbi,
    /// A file.
    File(PathBuf),
}

impl From<&str> for Firmware {
    fn from(name: &str) -> Self {
        match name {
            DEFAULT => Self::Default,
            OPENSBI_1_6 => Self::OpenSbi16,
            RUSTSBI => Self::RustSbi,
            file => Self::File(file.into()),
        }
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str(DEFAULT),
            Self::OpenSbi16 => f.write_str(OPENSBI_1_6),
            Self::RustSbi => f.write_str(RUSTSBI),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Firmware {
    /// What QEMU gets after `-bios`: fetched or built if need be.
    ///
    /// # Errors
    /// It cannot be fetched or built, or the file is not there.
    pub fn prepare(&self, cache: impl FnOnce() -> Result<Cache>) -> Result<PathBuf> {
        match self {
            Self::Default => Ok(DEFAULT.into()),
            Self::OpenSbi16 => Ok(Asset::OpenSbi16.fetch(&cache()?)?.join("fw_dynamic.bin")),
            Self::RustSbi => {
                setup::ensure_target()?;
                // QEMU loads ELF files, too.
                build::program("firmware")
            }
            Self::File(path) if path.is_file() => Ok(path.clone()),
            Self::File(path) => Err(Error::new(format_args!(
                "the firmware `{}` is not a file",
                path.display()
            ))
            .remedy(format_args!(
                "give --firmware {DEFAULT}, {OPENSBI_1_6}, {RUSTSBI}, or the path of an M-mode firmware \
                         for QEMU's virt machine"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_files_and_are_printed_as_they_were_read() {
        for (name, firmware) in [
            ("default", Firmware::Default),
            ("opensbi-1.6", Firmware::OpenSbi16),
            ("rustsbi", Firmware::RustSbi),
            ("./rustsbi", Firmware::File("./rustsbi".into())),
        ] {
            assert_eq!(Firmware::from(name), firmware);
            assert_eq!(firmware.to_string(), name);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Firmware::from("no/such/fw.bin").prepare(|| panic!("not fetched")).unwrap_err();
        assert!(error.to_string().contains("`no/such/fw.bin` is not a file"));
        assert_eq!(Firmware::Default.prepare(|| panic!("not fetched")).unwrap(), PathBuf::from("default"));
    }
}
