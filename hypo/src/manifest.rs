//! The guests that a run consists of, and the TOML file that describes them. Opens no kernel: `pack` does.
//!
//! ```toml
//! [host]
//! log-level = 2
//!
//! [[vm]]
//! name = "linux"
//! kernel = "Image"            # Linux Image (also gzip-ed), ELF or flat binary
//! initrd = "rootfs.cpio.gz"
//! append = "console=ttyS0"
//! memory = "1G"
//! vcpus = 1
//! on-reset = "restart"        # or "exit"
//!
//! [[vm.load]]
//! file = "extra.bin"
//! address = 0x84000000
//! ```
//! Paths are relative to the manifest.

use crate::error::{Error, Result};
use crate::size::{Address, Size};
use bundle::OnReset;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A guest's RAM where nothing else is said.
pub const DEFAULT_MEMORY: Size = Size(512 << 20);

/// A manifest, read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Settings of the hypervisor.
    #[serde(default)]
    pub host: Host,
    /// The guests.
    #[serde(rename = "vm", default)]
    pub vms: Vec<Vm>,
}

/// Settings of the hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Host {
    /// Log verbosity, 0 to 4.
    #[serde(default)]
    pub log_level: Option<u8>,
    /// Exits between two scans of the shadow tables for broken invariants; 0, the default, is never.
    pub check_every: Option<u32>,
    /// Where the hypervisor lives on a host with Sv39 only.
    #[serde(default)]
    pub window: Option<Address>,
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Vm {
    /// Its name, unique in the manifest.
    pub name: String,
    /// The kernel: a Linux `Image`, an ELF or a flat binary, any of them also gzip-ed.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// The kernel command line.
    #[serde(default)]
    pub append: String,
    /// RAM.
    #[serde(default = "default_memory")]
    pub memory: Size,
    /// Virtual harts.
    #[serde(default = "default_vcpus")]
    pub vcpus: u32,
    /// What a reset does.
    #[serde(default)]
    pub on_reset: Reset,
    /// Whether hot pages of kernel code are rewritten.
    #[serde(default = "yes")]
    pub rewrite: bool,
    /// Whether the hottest exits are served in assembly.
    #[serde(default = "yes")]
    pub fast: bool,
    /// Whether what cannot be kept exactly as on hardware is left out.
    #[serde(default)]
    pub exact: bool,
    /// More files to put into memory.
    #[serde(default)]
    pub load: Vec<Load>,
}

/// What a guest's reset does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// Start again.
    #[default]
    Restart,
    /// End the run.
    Exit,
}

impl From<Reset> for OnReset {
    fn from(reset: Reset) -> Self {
        match reset {
            Reset::Restart => Self::Restart,
            Reset::Exit => Self::Exit,
        }
    }
}

/// A file that is put into memory as it is. On the command line: `FILE@ADDRESS`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// The file.
    pub file: PathBuf,
    /// Guest-physical address, a multiple of 8.
    pub address: Address,
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (file, address) =
            text.rsplit_once('@').ok_or_else(|| format!("`{text}` has no address; write FILE@0x84000000"))?;
        Ok(Self { file: file.into(), address: address.parse()? })
    }
}

impl Vm {
    /// A guest of this name and kernel with the defaults for everything else.
    pub fn new(name: &str, kernel: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            kernel,
            initrd: None,
            append: String::new(),
            memory: default_memory(),
            vcpus: default_vcpus(),
            on_reset: Reset::Restart,
            rewrite: true,
            fast: true,
            exact: false,
            load: Vec::new(),
        }
    }

    fn relative_to(&mut self, folder: &Path) {
        let files = self.load.iter_mut().map(|load| &mut load.file);
        for path in [&mut self.kernel].into_iter().chain(self.initrd.as_mut()).chain(files) {
            *path = folder.join(&*path);
        }
    }
}

fn default_memory() -> Size {
    DEFAULT_MEMORY
}

fn yes() -> bool {
    true
}

fn default_vcpus() -> u32 {
    1
}

impl Manifest {
    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or is not a manifest; the message has line and column.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::file("read the manifest", path, &error).remedy("give the path of a TOML file")
        })?;
        let mut manifest = Self::parse(&text).map_err(|error| error.within(path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        manifest.vms.iter_mut().for_each(|vm| vm.relative_to(folder));
        Ok(manifest)
    }

    fn parse(text: &str) -> Result<Self> {
        let manifest: Self =
            toml::from_str(text).map_err(|error| Error::new(error.to_string().trim_end()))?;
        if manifest.vms.is_empty() {
            return Err(Error::new("there is no [[vm]] in the manifest")
                .remedy("add `[[vm]]` with at least `name` and `kernel`"));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_be_said() {
        let manifest = Manifest::parse(
            r#"
            [host]
            log-level = 3
            window = "0xffffffc000000000"
            [[vm]]
            name = "a"
            kernel = "Image"
            initrd = "rd"
            append = "quiet"
            memory = "64M"
            vcpus = 2
            on-reset = "exit"
            rewrite = false
            fast = false
            exact = true
            [[vm.load]]
            file = "x"
            address = 0x84000000
            [[vm]]
            name = "b"
            kernel = "b.elf"
            "#,
        )
        .unwrap();
        assert_eq!(manifest.host.window, Some(Address(0xffff_ffc0_0000_0000)));
        let a = &manifest.vms[0];
        assert_eq!((a.memory, a.vcpus, a.on_reset), (Size(64 << 20), 2, Reset::Exit));
        assert_eq!((a.rewrite, a.fast, a.exact), (false, false, true));
        assert_eq!(a.load, [Load { file: "x".into(), address: Address(0x8400_0000) }]);
        assert_eq!(manifest.vms[1], Vm::new("b", "b.elf".into()));
    }

    fn message(text: &str) -> String {
        Manifest::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_is_shown_with_line_and_column() {
        for (text, place, what) in [
            ("[[vm]]\nname = \"a\"\nkernal = \"x\"\n", "line 3, column 1", "unknown field `kernal`"),
            (
                "[[vm]]\nname = \"a\"\nkernel = \"x\"\nmemory = \"12Q\"\n",
                "line 4, column 10",
                "`12Q` is not a size",
            ),
            ("[[vm]]\nname = \"a\"\nkernel = \"x\"\nmemory = 512\n", "line 4, column 10", "a size in quotes"),
            ("[[vm]]\nname = \"a\"\nkernel = \"x\"\nvcpus = -1\n", "line 4, column 9", "expected u32"),
            ("[[vm]]\nname = \"a\"\n", "line 1, column 1", "missing field `kernel`"),
            ("[host]\nlog = 1\n", "line 2, column 1", "unknown field `log`"),
            ("[[vm]\n", "line 1, column", "unclosed"),
        ] {
            let message = message(text);
            assert!(message.contains(place) && message.contains(what), "{message}");
        }
    }

    #[test]
    fn a_manifest_without_a_guest_says_what_to_add() {
        assert!(message("").contains("[[vm]]"));
    }

    #[test]
    fn paths_are_relative_to_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        std::fs::write(&path, "[[vm]]\nname = \"a\"\nkernel = \"k\"\ninitrd = \"/abs\"\n").unwrap();
        let vm = Manifest::load(&path).unwrap().vms.remove(0);
        assert_eq!(vm.kernel, folder.path().join("k"));
        assert_eq!(vm.initrd, Some("/abs".into()));
    }

    #[test]
    fn a_load_is_a_file_at_an_address() {
        let load: Load = "some@where.bin@0x84000000".parse().unwrap();
        assert_eq!(load, Load { file: "some@where.bin".into(), address: Address(0x8400_0000) });
        assert!("file".parse::<Load>().unwrap_err().contains("has no address"));
    }
}
