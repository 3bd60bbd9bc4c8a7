//! Disks for cases: image files with a known content. What must not be written is compared at the end.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

const SECTOR: usize = 512;

/// A disk as the tables describe it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its size.
    mib: usize,
    /// What follows the file in `--disk`: `readonly`, `snapshot`, or nothing.
    #[serde(default)]
    options: String,
}

/// The disks of one run.
pub struct Disks {
    disks: Vec<(Disk, PathBuf)>,
    _folder: TempDir,
}

impl Disks {
    /// Makes the files.
    pub fn new(wanted: &[Disk]) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for disks")?;
        let mut disks = Vec::new();
        for (disk, number) in wanted.iter().zip(1..) {
            let file = folder.path().join(format!("{number}.img"));
            fs::write(&file, content(disk, number))
                .with_context(|| format!("cannot write {}", file.display()))?;
            disks.push((disk.clone(), file));
        }
        Ok(Self { disks, _folder: folder })
    }

    /// hypo's arguments for them.
    pub fn arguments(&self) -> impl Iterator<Item = String> + '_ {
        self.disks.iter().flat_map(|(disk, file)| {
            let comma = if disk.options.is_empty() { "" } else { "," };
            ["--disk".into(), format!("{}{comma}{}", file.display(), disk.options)]
        })
    }

    /// Checks, after the run, that nobody has written what must not be written.
    pub fn check(&self) -> Result<()> {
        for ((disk, file), number) in self.disks.iter().zip(1..) {
            if !disk.options.is_empty() {
                let now = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
                ensure!(now == content(disk, number), "disk {number}, {}, was written", disk.options);
            }
        }
        Ok(())
    }
}

/// What a disk holds at first: in sector `s` of disk `number`, byte `i` is 7 s + i + 31 number.
fn content(disk: &Disk, number: usize) -> Vec<u8> {
    let byte = |at: usize| (at / SECTOR * 7 + at % SECTOR + 31 * number) as u8;
    (0..disk.mib << 20).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_was_written_although_it_must_not_be_is_named() {
        let wanted = |options: &str| Disk { mib: 1, options: options.into() };
        let disks = Disks::new(&[wanted(""), wanted("snapshot")]).unwrap();
        let arguments: Vec<_> = disks.arguments().collect();
        assert!(arguments[1].ends_with("1.img") && arguments[3].ends_with("2.img,snapshot"));
        fs::write(&disks.disks[0].1, "changed").unwrap();
        disks.check().unwrap();
        fs::write(&disks.disks[1].1, "changed").unwrap();
        assert!(disks.check().unwrap_err().to_string().starts_with("disk 2"));
    }
}
