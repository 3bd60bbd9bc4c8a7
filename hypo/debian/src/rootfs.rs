//! Debian's root file system on a disk image, made from Debian's packages without root's rights and without emulation of
//! single programs: packages are unpacked here, into a tar archive that keeps owners and modes, and a machine that QEMU
//! emulates puts them onto the disk and lets dpkg configure them. docs/adr/0014 says why.

use crate::archive::Archive;
use crate::dpkg::Unpacked;
use crate::initramfs;
use hypo_common::bound;
use hypo_common::error::{Error, Result};
use hypo_common::qemu::{Boot, Machine, NativeGuest, VIRT, Words, escaped};
use hypo_common::setup;
use hypo_common::size::Size;
use indicatif::ProgressBar;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What is installed, beside what it depends on.
const PACKAGES: &[&str] = &[
    "?essential",
    "apt",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "kmod",
    "login",
    "netcat-openbsd",
    "passwd",
    "procps",
    "systemd",
    "systemd-sysv",
    "udev",
];

/// The package that makes the links from /bin to /usr/bin and so on, which others need.
const FIRST: &str = "base-files_";

/// The name of the file system, by which the guest finds it among other disks.
pub const LABEL: &str = "debian";
/// The size of the disk; its file takes what is used of it.
const DISK: Size = Size(2 << 30);

/// How long the emulated machine may take. It needs two minutes where nothing else runs.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// What the machine says when all went well.
const DONE: &str = "hypo: the root file system is complete";
/// What it says when something did not.
const FAILED: &str = "hypo: cannot make the root file system: ";
/// How dpkg announces each package that it configures.
const CONFIGURING: &str = "Setting up ";

/// The machine's first program after its drivers are loaded. The disks are told apart by their serial numbers.
const STAGE: &str = r#"#!/bin/busybox sh
fail() {
    echo "hypo: cannot make the root file system: $1"
    poweroff -f
    sleep 60
}
disk() {
    local serial=$(grep -l "^$1\$" /sys/block/vd*/serial)
    serial=${serial%/serial}
    echo "/dev/${serial##*/}"
}
mount -t ext4 $(disk root) /root || fail "the disk cannot be mounted"
cd /root
tar -x --numeric-owner -f $(disk tree) || fail "the packages cannot be unpacked"
for folder in dev proc sys; do
    mount -o bind /$folder $folder || fail "$folder cannot be mounted"
done
mount -t tmpfs run run && mount -t tmpfs tmp tmp || fail "run and tmp cannot be mounted"
cp /configure run/configure
chroot . /bin/sh /run/configure || fail "configuring the packages failed; see above"
umount run tmp sys proc dev
cd /
umount /root || fail "the disk cannot be unmounted"
echo "hypo: the root file system is complete"
poweroff -f
"#;

/// What runs on the new system. The scripts that dpkg would have run before it unpacked a package come first; that of
/// base-passwd makes the users that others ask for.
const CONFIGURE: &str = r#"
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
cd /var/lib/dpkg/info
export DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_ARCH=riscv64 DPKG_ROOT=
for script in base-passwd.preinst *.preinst; do
    name=${script%.preinst}
    DPKG_MAINTSCRIPT_PACKAGE=${name%:*} ./$script install
done
unset DPKG_MAINTSCRIPT_NAME DPKG_MAINTSCRIPT_ARCH DPKG_ROOT
cd /
dpkg --force-unsafe-io --configure -a
dpkg --audit
passwd -d root
systemctl enable systemd-networkd.service
# So that the first boot finds nothing to bring up to date.
/usr/lib/systemd/systemd-update-done
"#;

/// Files of the system that no package has.
const FILES: &[(&str, &str)] = &[
    ("etc/hostname", "debian\n"),
    ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost ip6-loopback\n"),
    ("etc/fstab", "# The initial RAM disk mounts the root file system.\n"),
    // QEMU's user network answers there.
    ("etc/resolv.conf", "nameserver 10.0.2.3\n"),
    ("etc/issue.d/10-login.issue", "Log in as root; there is no password.\n\n"),
    (
        "etc/apt/sources.list.d/debian.sources",
        "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: trixie trixie-updates\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    ),
    ("etc/systemd/network/80-wired.network", "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n"),
    // Of the devices that were there before udev, those that a unit or a rule is about: it would look at a hundred
    // terminals, too, for a third of the time that the machine takes to start.
    (
        "etc/systemd/system/systemd-udev-trigger.service.d/few-devices.conf",
        "[Service]\nExecStart=\n\
         ExecStart=-/usr/bin/udevadm trigger --action=add --subsystem-match=block --subsystem-match=net --subsystem-match=rtc\n\
         ExecStart=-/usr/bin/udevadm trigger --action=add --subsystem-match=tty --sysname-match=ttyS0\n",
    ),
    // A machine that is emulated twice over is slow, which is no failure.
    (
        "etc/systemd/system.conf.d/slow-machine.conf",
        "[Manager]\nDefaultDeviceTimeoutSec=infinity\nDefaultTimeoutStartSec=30min\nDefaultTimeoutStopSec=10min\n",
    ),
];

/// Units that this machine has no use for, and that take their time.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    // Its kernel module is not there.
    "proc-sys-fs-binfmt_misc.automount",
    // Nobody sits at its screen.
    "getty@tty1.service",
    // Their kernel modules are not there, either.
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    // Nothing waits for the network before the login.
    "systemd-networkd-wait-online.service",
];

/// Makes the image `image`. `linux` is the folder of the fetched kernel.
///
/// # Errors
/// Packages cannot be fetched, a program is missing and cannot be installed, or the emulated machine fails; the message
/// has the end of its console.
pub fn build(archive: &Archive, linux: &Path, image: &Path, progress: &ProgressBar) -> Result<()> {
    let make_file_system = setup::system_program("mke2fs", "e2fsprogs")?;
    setup::ensure_qemu(Path::new(setup::QEMU), true)?;
    let scratch =
        tempfile::Builder::new().prefix(".rootfs-").tempdir_in(image.parent().unwrap_or(Path::new(".")));
    let scratch = scratch.map_err(|error| Error::file("write beside", image, &error))?;
    let mut packages = archive.download_system(PACKAGES, progress)?;
    let is_first = |path: &Path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(FIRST.as_bytes()))
    };
    packages.sort_by_key(|path| !is_first(path));

    let tree = scratch.path().join("tree.tar");
    progress.set_message("unpacking packages");
    let file = File::create(&tree).map_err(|error| Error::file("write", &tree, &error))?;
    let mut unpacked = Unpacked::new(BufWriter::new(file));
    for (at, package) in packages.iter().enumerate() {
        progress.set_position((at * 100 / packages.len()) as u64);
        unpacked.package(package)?;
    }
    let written = add_files(&mut unpacked).and_then(|()| unpacked.finish()?.flush());
    written.map_err(|error| Error::file("write", &tree, &error))?;

    let file = File::create(image).and_then(|file| file.set_len(DISK.0));
    file.map_err(|error| Error::file("write", image, &error))?;
    let mut command = Command::new(&make_file_system);
    // The file is all zeros, so nothing of it has to be written later.
    command.args([
        "-q",
        "-t",
        "ext4",
        "-L",
        LABEL,
        "-m",
        "1",
        "-E",
        "assume_storage_prezeroed=1,root_owner=0:0",
    ]);
    let output = command.arg(image).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::file("start", &make_file_system, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::new(format_args!("mke2fs cannot make a file system: {said}")));
    }
    configure(linux, &tree, image, scratch.path(), packages.len(), progress)
}

fn add_files(unpacked: &mut Unpacked<impl Write>) -> std::io::Result<()> {
    for (path, text) in FILES {
        unpacked.file(path, 0o644, text.as_bytes())?;
    }
    for unit in MASKED {
        unpacked.symlink(&format!("etc/systemd/system/{unit}"), "/dev/null")?;
    }
    Ok(())
}

/// Lets an emulated machine put the `tree` onto the `image` and configure `count` packages.
fn configure(
    linux: &Path,
    tree: &Path,
    image: &Path,
    scratch: &Path,
    count: usize,
    progress: &ProgressBar,
) -> Result<()> {
    let initrd = scratch.join("initrd");
    let bytes = initramfs::with_drivers(
        &linux.join("busybox"),
        &linux.join("modules"),
        STAGE,
        &[("configure", CONFIGURE)],
    )?;
    fs::write(&initrd, bytes).map_err(|error| Error::file("write", &initrd, &error))?;
    let guest = NativeGuest {
        kernel: linux.join("Image"),
        initrd: Some(initrd),
        append: "console=ttyS0 quiet panic=-1".to_owned(),
        loads: Vec::new(),
        // A kernel that panics ends the machine.
        reset_ends: true,
    };
    let mut words: Vec<OsString> = Vec::new();
    for (serial, path, options) in [("root", image, "cache=unsafe"), ("tree", tree, "readonly=on")] {
        let mut drive =
            OsString::from(format!("format=raw,if=none,id={serial},werror=report,{options},file="));
        drive.push(escaped(path));
        words.extend(["-drive".into(), drive]);
        words.extend(["-device".into(), format!("virtio-blk-device,drive={serial},serial={serial}").into()]);
    }
    let machine = Machine {
        program: setup::QEMU.into(),
        model: VIRT.to_owned(),
        cpu: None,
        harts: Some(1),
        memory: Size(1 << 30),
        firmware: "default".into(),
        icount: false,
        devices: Words { words, drives: Vec::new() },
        extra: Vec::new(),
    };
    let line = machine.command_line(Some(Boot::Native(&guest)), None);
    progress.set_message("filling the disk");
    progress.set_position(0);
    let mut configured = 0;
    let console = run(&line, |line| {
        if let Some(package) = line.strip_prefix(CONFIGURING) {
            configured += 1;
            progress.set_message(format!(
                "configuring {}",
                package.split_whitespace().next().unwrap_or_default()
            ));
            progress.set_position((configured * 100 / count.max(1)) as u64);
        }
    })?;
    if console.iter().any(|line| line == DONE) {
        return Ok(());
    }
    let reason =
        console.iter().find_map(|line| line.strip_prefix(FAILED)).unwrap_or("the machine ended too early");
    let last = console.get(console.len().saturating_sub(20)..).unwrap_or_default().join("\n    ");
    Err(Error::new(format_args!(
        "cannot make the root file system: {reason}\n  its console ends:\n    {last}"
    ))
    .remedy("try once more; if it fails again, the packages of Debian's archive may just be changing"))
}

/// Runs a machine to its end, shows each line of its console to `watch`, and gives them all.
fn run(line: &[OsString], mut watch: impl FnMut(&str)) -> Result<Vec<String>> {
    let (program, arguments) = line.split_first().ok_or_else(|| Error::new("no command to run"))?;
    let mut command = bound::command(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child =
        command.spawn().map_err(|error| hypo_common::qemu::not_started(Path::new(program), &error))?;
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(std::result::Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
    }
    let deadline = Instant::now() + LIMIT;
    let mut console = Vec::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                watch(&line);
                console.push(line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                console.push(format!("hypo: not ready after {} minutes", LIMIT.as_secs() / 60));
                // It may have ended in this very moment.
                let _ = child.kill();
                break;
            }
        }
    }
    child.wait().map_err(|error| Error::new(format_args!("cannot wait for QEMU: {error}")))?;
    Ok(console)
}
