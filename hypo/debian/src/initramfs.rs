//! Initial RAM disks: busybox, a start script, and modules of the kernel. `run linux` boots into one and stays there;
//! another one mounts a disk and goes on with what is on it.

use crate::cpio::Archive;
use crate::modules;
use hypo_common::error::{Error, Result};
use std::fs;
use std::path::Path;

/// The first program: mounts what a shell needs and starts one with job control, again and again.
/// cttyhack finds the terminal behind /dev/console, so the same script serves any console.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
hostname guest
export HOME=/root TERM=${TERM:-vt100} PS1='\w # '
cd /root
echo
echo "Linux $(uname -r) on $(nproc) hart(s), busybox shell. poweroff -f ends, reboot -f starts again."
while :; do
    setsid cttyhack sh
done
"#;

/// The first program of a guest that lives on a disk: mounts it and hands over to the first program there. `root=` (a
/// device, `LABEL=` or `UUID=`), `init=` and `ro` on the kernel's command line mean what they mean to Linux itself; the
/// disk may be slow to appear.
pub const DISK: &str = r#"#!/bin/busybox sh
root=/dev/vda init=/sbin/init mode=rw
for word in $(cat /proc/cmdline); do
    case $word in
        root=*) root=${word#root=} ;;
        init=*) init=${word#init=} ;;
        ro) mode=ro ;;
    esac
done
device() {
    case $root in
        LABEL=* | UUID=*) findfs "$root" 2>/dev/null ;;
        *) echo "$root" ;;
    esac
}
tries=0
while [ ! -b "$(device)" ]; do
    [ $tries = 50 ] && echo "waiting for the disk $root"
    tries=$((tries + 1))
    sleep 0.1
done
mount -t ext4 -o $mode "$(device)" /root || echo "cannot mount $root; this is a shell in the initial RAM disk"
while ! grep -q " /root " /proc/mounts; do
    setsid cttyhack sh
done
for folder in dev proc sys; do
    mount -o move /$folder /root/$folder
done
exec switch_root /root "$init"
"#;

/// What comes before the start script of a guest that has drivers: the script finds its devices.
const DRIVERS: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /modules/*.ko; do
    insmod "$module"
done
exec /script
"#;

/// Drivers of the disks, networks and random numbers that guests may have, and the file system of their disks.
const MODULES: &[&str] = &["crc32c_generic", "ext4", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng"];

/// An archive around a static `busybox` that loads the drivers in the kernel's `modules` and then runs `script`, with
/// more `files` beside it. It is not compressed, and neither are the modules: the guest would have to unpack them,
/// instruction by instruction.
///
/// # Errors
/// A file cannot be read, or a module is damaged.
pub fn with_drivers(busybox: &Path, modules: &Path, script: &str, files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut archive = base(busybox)?;
    archive.file("init", 0o755, DRIVERS.as_bytes());
    archive.file("script", 0o755, script.as_bytes());
    for (path, text) in files {
        archive.file(path, 0o644, text.as_bytes());
    }
    let fail = |error| Error::file("read", modules, &error);
    for version in fs::read_dir(modules).map_err(fail)? {
        let loaded = crate::modules::in_order(MODULES, &version.map_err(fail)?.path())?;
        for (at, (name, object)) in loaded.iter().enumerate() {
            archive.file(&format!("modules/{at:02}-{name}.ko"), 0o644, object);
        }
    }
    Ok(archive.finish())
}

/// The archive, gzip-ed, around a static `busybox`, with the folder `modules` as `/lib/modules`.
///
/// # Errors
/// A file cannot be read, or the compressor fails.
pub fn with_busybox(busybox: &Path, modules: &Path) -> Result<Vec<u8>> {
    let mut archive = base(busybox)?;
    archive.file("etc/passwd", 0o644, b"root::0:0:root:/root:/bin/sh\n");
    archive.file("etc/group", 0o644, b"root:x:0:\n");
    archive.file("init", 0o755, INIT.as_bytes());
    for file in modules::files(modules)? {
        let path = Path::new("lib/modules").join(&file);
        archive.file(&path.display().to_string(), 0o644, &read(&modules.join(file))?);
    }
    archive
        .finish_gzip()
        .map_err(|error| Error::new(format_args!("cannot compress the initial RAM disk: {error}")))
}

/// What is in each of them.
fn base(busybox: &Path) -> Result<Archive> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        archive.directory(directory);
    }
    // The kernel opens it for the first program before that can mount anything.
    archive.character_device("dev/console", 5, 1);
    archive.file("bin/busybox", 0o755, &read(busybox)?);
    archive.symlink("bin/sh", "busybox");
    archive.symlink("sbin", "bin");
    Ok(archive)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::file("read", path, &error))
}
