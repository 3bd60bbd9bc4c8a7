//! The file system that `run linux` boots into: busybox, a start script, and the kernel's modules where there are any.

use crate::cpio::Archive;
use crate::error::{Error, Result};
use crate::modules;
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

/// The archive, gzip-ed, around a static `busybox`, with the folder `modules` as `/lib/modules`.
///
/// # Errors
/// A file cannot be read, or the compressor fails.
pub fn with_busybox(busybox: &Path, modules: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).map_err(|error| Error::file("read", path, &error));
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        archive.directory(directory);
    }
    // The kernel opens it for the first program before that can mount anything.
    archive.character_device("dev/console", 5, 1);
    archive.file("bin/busybox", 0o755, &read(busybox)?);
    archive.symlink("bin/sh", "busybox");
    archive.symlink("sbin", "bin");
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
