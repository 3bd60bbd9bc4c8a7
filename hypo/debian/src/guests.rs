//! The guests that have names: our own kernel, Debian's Linux, all of Debian, and U-Boot. Fetches or builds what they need, and
//! fetches what else comes from Debian.

use crate::archive::{self, Archive};
use crate::{initramfs, modules, rootfs};
use hypo_common::cache::Cache;
use hypo_common::error::{Error, Result};
use hypo_common::size::{Address, Size};
use hypo_common::{build, say, setup};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where U-Boot finds Linux and its initial RAM disk, as in U-Boot's own documentation for QEMU's `virt`.
const UBOOT_KERNEL: Address = Address(0x8400_0000);
const UBOOT_INITRD: Address = Address(0x8800_0000);

/// Debian's root file system as it was made, in its folder in the cache.
const ROOT_IMAGE: &str = "root.img";
/// What the guest has made of it, beside it: a file in Debian's folder in the cache.
pub const OWN_DISK: &str = "disk.img";

/// What modules of Debian's kernel come along, beside those that they need: the drivers of the devices that guests may
/// have, a file system with the checksum that it asks for by a name of its own, and what the kernel tests itself with.
const MODULES: &[&str] = &[
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "ext4",
    "crc32c_generic",
    "loop",
    "dummy",
    "crc7",
    "crc8",
    "test_bpf",
    "test_static_keys",
];

/// A guest that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Our teaching kernel.
    Minikernel,
    /// Debian's kernel with busybox.
    Linux,
    /// Debian with systemd, on a disk that keeps what is written to it.
    Debian,
    /// Debian's U-Boot for S-mode, with Linux in memory beside it.
    UBoot,
}

/// What is fetched as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Asset {
    /// Debian's kernel, some of its modules, and its static busybox
    Linux,
    /// Debian 13 on a disk, made from its packages; takes minutes
    Debian,
    /// Debian's U-Boot
    UBoot,
    /// Debian's OpenSBI 1.6, a firmware to run on
    #[value(name = "opensbi-1.6")]
    OpenSbi16,
}

/// A named guest whose files are there.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Its name.
    pub name: &'static str,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub append: String,
    /// RAM, where it is not as much as any guest's.
    pub memory: Option<Size>,
    /// A disk that it writes to.
    pub disk: Option<PathBuf>,
    /// Whether it is connected to QEMU's user network.
    pub has_network: bool,
    /// More files, and where in its memory they go.
    pub loads: Vec<(PathBuf, Address)>,
    /// What the operator should know at the start.
    pub hint: Option<String>,
}

impl Ready {
    /// A guest of this name and kernel that has nothing else.
    pub fn new(name: &'static str, kernel: PathBuf) -> Self {
        Self {
            name,
            kernel,
            initrd: None,
            append: String::new(),
            memory: None,
            disk: None,
            has_network: false,
            loads: Vec::new(),
            hint: None,
        }
    }
}

impl Named {
    const TABLE: [(&str, Self); 4] = [
        ("minikernel", Self::Minikernel),
        ("linux", Self::Linux),
        ("debian", Self::Debian),
        ("u-boot", Self::UBoot),
    ];

    /// All names.
    pub fn names() -> Vec<&'static str> {
        Self::TABLE.iter().map(|(name, _)| *name).collect()
    }

    /// The guest of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(known, _)| *known == name).map(|(_, named)| *named)
    }

    /// The guest with its files in the user's cache, in cargo's target folder, or in `scratch`. Sees to what building
    /// it takes.
    ///
    /// # Errors
    /// Something is missing, or cannot be built or fetched.
    pub fn ready(self, scratch: &Path) -> Result<Ready> {
        if self == Self::Minikernel {
            setup::ensure_target()?;
        }
        self.prepare(Cache::open, scratch)
    }

    /// Makes the guest's files: in the cache, in cargo's target folder, or in `scratch`.
    ///
    /// # Errors
    /// Something cannot be built or fetched.
    pub fn prepare(self, cache: impl FnOnce() -> Result<Cache>, scratch: &Path) -> Result<Ready> {
        match self {
            Self::Minikernel => Ok(Ready::new("minikernel", build::program("minikernel")?)),
            Self::Linux => {
                let linux = Asset::Linux.fetch(&cache()?)?;
                Ok(Ready {
                    initrd: Some(make_initramfs(&linux, scratch)?),
                    append: "console=ttyS0".to_owned(),
                    memory: Some(Size(1 << 30)),
                    ..Ready::new("linux", linux.join("Image"))
                })
            }
            Self::Debian => {
                let cache = cache()?;
                let (debian, linux) = (Asset::Debian.fetch(&cache)?, Asset::Linux.fetch(&cache)?);
                let initrd = scratch.join("debian.cpio");
                let (busybox, modules) = (linux.join("busybox"), linux.join("modules"));
                let archive = initramfs::with_drivers(&busybox, &modules, initramfs::DISK, &[])?;
                fs::write(&initrd, archive).map_err(|error| Error::file("write", &initrd, &error))?;
                Ok(Ready {
                    initrd: Some(initrd),
                    append: format!("console=ttyS0 root=LABEL={}", rootfs::LABEL),
                    memory: Some(Size(1 << 30)),
                    disk: Some(own_disk(&debian)?),
                    has_network: true,
                    ..Ready::new("debian", linux.join("Image"))
                })
            }
            Self::UBoot => {
                let cache = cache()?;
                let (uboot, linux) = (Asset::UBoot.fetch(&cache)?, Asset::Linux.fetch(&cache)?);
                let initrd = make_initramfs(&linux, scratch)?;
                let size = fs::metadata(&initrd).map_err(|error| Error::file("read", &initrd, &error))?.len();
                let hint = format!(
                    "Linux is in memory; at U-Boot's prompt type: \
                     booti {UBOOT_KERNEL} {UBOOT_INITRD}:{size:#x} ${{fdtcontroladdr}}"
                );
                Ok(Ready {
                    memory: Some(Size(1 << 30)),
                    loads: vec![(linux.join("Image"), UBOOT_KERNEL), (initrd, UBOOT_INITRD)],
                    hint: Some(hint),
                    ..Ready::new("u-boot", uboot.join("u-boot.bin"))
                })
            }
        }
    }
}

impl Asset {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Debian => "debian",
            Self::UBoot => "u-boot",
            Self::OpenSbi16 => "opensbi-1.6",
        }
    }

    /// The name of its folder in the cache: another one whenever something else is kept in it.
    fn folder(self) -> &'static str {
        match self {
            Self::Linux => "linux-with-modules",
            Self::Debian | Self::UBoot | Self::OpenSbi16 => self.name(),
        }
    }

    /// Whether it is in the cache.
    pub fn is_in(self, cache: &Cache) -> bool {
        cache.has(self.folder())
    }

    /// The command that fetches it by the way.
    pub fn used_by(self) -> &'static str {
        match self {
            Self::Linux => "cargo hypo run linux",
            Self::Debian => "cargo hypo run debian",
            Self::UBoot => "cargo hypo run u-boot",
            Self::OpenSbi16 => "cargo hypo run --firmware opensbi-1.6",
        }
    }

    /// Fetches what is not in the cache and gives the folder.
    ///
    /// # Errors
    /// The archive or the cache cannot be used.
    pub fn fetch(self, cache: &Cache) -> Result<PathBuf> {
        // Before the cache is locked for this one.
        let linux = if self == Self::Debian { Some(Self::Linux.fetch(cache)?) } else { None };
        cache.entry(self.folder(), |folder| {
            say::tell(format_args!("fetching {} from Debian's archive", self.name()));
            let progress = archive::progress_bar();
            let archive = Archive::open(&progress)?;
            match self {
                Self::Linux => {
                    let kernel = archive.dependency("linux-image-riscv64", "linux-image-6")?;
                    let package = archive.download(&kernel, &progress)?;
                    progress.set_message("unpacking the kernel");
                    take_kernel(&package, folder)?;
                    let package = archive.download("busybox-static", &progress)?;
                    // /usr/bin since Debian 13, /bin before.
                    take(&package, "*bin/busybox", folder, "busybox")?;
                }
                Self::Debian => {
                    if let Some(linux) = &linux {
                        rootfs::build(&archive, linux, &folder.join(ROOT_IMAGE), &progress)?;
                    }
                }
                Self::UBoot => {
                    let package = archive.download("u-boot-qemu", &progress)?;
                    take(&package, "*/qemu-riscv64_smode/u-boot.bin", folder, "u-boot.bin")?;
                }
                Self::OpenSbi16 => {
                    let package = archive.download("opensbi", &progress)?;
                    take(&package, "./usr/lib/riscv64*/generic/fw_dynamic.bin", folder, "fw_dynamic.bin")?;
                }
            }
            progress.finish_and_clear();
            Ok(())
        })
    }
}

/// Makes Debian begin anew: removes the disk that it keeps.
///
/// # Errors
/// It cannot be removed.
pub fn forget_disk(cache: &Cache) -> Result<()> {
    let path = cache.path(Asset::Debian.folder()).join(OWN_DISK);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", &path, &error)),
        _ => Ok(()),
    }
}

/// The disk that Debian writes to, beside the one that was made: a copy of it where there is none yet.
fn own_disk(folder: &Path) -> Result<PathBuf> {
    let path = folder.join(OWN_DISK);
    if path.is_file() {
        return Ok(path);
    }
    let fail = |error| {
        Error::file("write", &path, &error).remedy("make room there, or set HYPO_CACHE to another folder")
    };
    // It appears in one step, so that one that is there is whole.
    let copy = tempfile::Builder::new().prefix(".disk-").tempfile_in(folder).map_err(fail)?.into_temp_path();
    let mut command = Command::new("cp");
    // Holes stay holes, and where the file system can share blocks it does.
    command.args(["--sparse=always", "--reflink=auto"]).arg(folder.join(ROOT_IMAGE)).arg(&copy);
    let output = command.output().map_err(fail)?;
    if !output.status.success() {
        return Err(fail(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())));
    }
    copy.persist(&path).map_err(|error| fail(error.error))?;
    Ok(path)
}

/// Unpacks the one file that matches `pattern` as `folder/name`.
fn take(package: &Path, pattern: &str, folder: &Path, name: &str) -> Result<()> {
    let scratch = scratch(folder)?;
    archive::unpack(package, &[pattern], scratch.path())?;
    place(package, scratch.path(), folder, name)
}

/// Unpacks a kernel as `folder/Image`, and its modules that guests get as `folder/modules`.
fn take_kernel(package: &Path, folder: &Path) -> Result<()> {
    let scratch = scratch(folder)?;
    archive::unpack(package, &["./boot/vmlinux-*", "./usr/lib/modules/*"], scratch.path())?;
    // Already an uncompressed Image, for all its name.
    place(package, &scratch.path().join("boot"), folder, "Image")?;
    let versions = scratch.path().join("usr/lib/modules");
    let fail = |error| Error::file("read", &versions, &error);
    for version in fs::read_dir(&versions).map_err(fail)? {
        let version = version.map_err(fail)?;
        let to = folder.join("modules").join(version.file_name());
        for missing in modules::pick(MODULES, &version.path(), &to)? {
            say::tell(format_args!("Debian's kernel has no module `{missing}` any more; guests go without"));
        }
    }
    Ok(())
}

/// Moves the one file that was unpacked from `package` into `scratch` to `folder/name`.
fn place(package: &Path, scratch: &Path, folder: &Path, name: &str) -> Result<()> {
    let files = modules::files(scratch)?;
    let [file] = files.as_slice() else {
        return Err(Error::new(format_args!(
            "`{}` has {} files that could be `{name}`",
            package.display(),
            files.len()
        )));
    };
    let file = scratch.join(file);
    fs::rename(&file, folder.join(name)).map_err(|error| Error::file("move", &file, &error))
}

fn scratch(folder: &Path) -> Result<tempfile::TempDir> {
    tempfile::tempdir_in(folder).map_err(|error| Error::file("write", folder, &error))
}

fn make_initramfs(linux: &Path, scratch: &Path) -> Result<PathBuf> {
    let path = scratch.join("initramfs.cpio.gz");
    let bytes = initramfs::with_busybox(&linux.join("busybox"), &linux.join("modules"))?;
    fs::write(&path, bytes).map_err(|error| Error::file("write", &path, &error))?;
    Ok(path)
}
