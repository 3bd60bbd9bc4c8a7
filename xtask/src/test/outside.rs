//! What a session has outside of its guest: a peer to talk to over TCP, and a disk of Debian's that no other session and
//! no user writes to, looked through at the end.

use crate::launch::Hypo;
use anyhow::{Context, Result, bail, ensure};
use hypo_common::setup;
use hypo_debian::guests::{Asset, OWN_DISK};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Listens on the loopback interface, which is 10.0.2.2 to a guest on QEMU's user network, and sends back what it gets,
/// for as long as the tests run. Gives the port.
pub fn echo_peer() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on the loopback interface")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A guest may break off; its session tells.
            std::thread::spawn(move || echo(&stream));
        }
    });
    Ok(port)
}

fn echo(stream: &TcpStream) -> io::Result<()> {
    io::copy(&mut &*stream, &mut &*stream)?;
    stream.shutdown(Shutdown::Write)
}

/// A cache for one session: what is fetched is the user's, Debian's disk is its own.
pub struct OwnCache {
    folder: TempDir,
}

impl OwnCache {
    /// One in `folder`. Has `hypo` fetch Debian if it is not there.
    pub fn new(hypo: &Hypo, folder: &Path) -> Result<OwnCache> {
        let debian = hypo.fetch(Asset::Debian.name())?;
        let name = debian.file_name().context("the cache has no name")?;
        let own = OwnCache { folder: tempfile::Builder::new().prefix("cache-").tempdir_in(folder)? };
        let root = debian.parent().context("the cache has no folder")?;
        link_all(root, own.path(), |entry| entry != name && !entry.as_encoded_bytes().starts_with(b"."))?;
        fs::create_dir(own.path().join(name))?;
        link_all(&debian, &own.path().join(name), |entry| entry != OWN_DISK)?;
        Ok(own)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Checks the file system on the disk, which has to be clean; what the check says goes to `log`.
    pub fn check_disk(&self, log: &mut Vec<u8>) -> Result<()> {
        let disk = self.path().join(Asset::Debian.name()).join(OWN_DISK);
        ensure!(disk.is_file(), "there is no {}", disk.display());
        check(&disk, log)
    }
}

/// Whether the file system on a disk is whole and was unmounted.
fn check(disk: &Path, log: &mut Vec<u8>) -> Result<()> {
    let program = setup::system_program("e2fsck", "e2fsprogs")?;
    let output = Command::new(&program).arg("-fn").arg(disk).output().context("e2fsck cannot be started")?;
    log.extend(format!("$ e2fsck -fn {}\n", disk.display()).bytes());
    log.extend(&output.stdout);
    log.extend(&output.stderr);
    // It corrects nothing under -n, and says by its status what it would correct; a journal that is not empty it only
    // mentions.
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if !output.status.success() || said.contains("skipping journal recovery") {
        bail!("the file system on the disk is not clean: {}", output.status);
    }
    Ok(())
}

/// Links the entries of `from` whose names are wanted into `to`.
fn link_all(from: &Path, to: &Path, wanted: impl Fn(&std::ffi::OsStr) -> bool) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        if wanted(&entry.file_name()) {
            let target: PathBuf = to.join(entry.file_name());
            symlink(entry.path(), &target).with_context(|| format!("cannot link {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_peer_sends_back_what_it_gets_and_ends_when_the_other_side_does() {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, echo_peer().unwrap())).unwrap();
        stream.write_all(b"there and back").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).unwrap();
        assert_eq!(back, "there and back");
    }

    #[test]
    fn a_disk_without_a_file_system_is_not_clean() {
        let disk = tempfile::NamedTempFile::new().unwrap();
        disk.as_file().set_len(1 << 20).unwrap();
        let mut log = Vec::new();
        assert!(check(disk.path(), &mut log).unwrap_err().to_string().contains("not clean"));
        assert!(!log.is_empty());
    }
}
