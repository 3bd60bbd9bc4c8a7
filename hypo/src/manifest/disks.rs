//! Disks as users describe them, in a manifest or on the command line. Looks at no file.

use bundle::Partition;
use hypo_common::size::Size;
use serde::de::{self, Deserializer, Visitor};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A guest's disk.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "DiskTable")]
pub struct Disk {
    /// Where its sectors are.
    pub source: Source,
    /// The part of it; `None` is the whole.
    pub partition: Option<Partition>,
    /// Whether the guest is told that it cannot write.
    pub readonly: bool,
    /// Whether what the guest writes is kept in memory and dropped at the end.
    pub snapshot: bool,
    /// What the guest is told as its serial number.
    pub serial: Option<String>,
    /// The least size of the file, which is made where there is none.
    pub size: Option<Size>,
}

/// Where a disk's sectors are.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A file that QEMU makes a host disk of.
    File(PathBuf),
    /// A file that is put into the bundle.
    Image(PathBuf),
    /// A disk that the host has, by its serial number.
    Host(String),
}

/// `[[vm.disk]]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct DiskTable {
    file: Option<PathBuf>,
    image: Option<PathBuf>,
    host: Option<String>,
    #[serde(default, deserialize_with = "partition")]
    partition: Option<Partition>,
    #[serde(default)]
    readonly: bool,
    #[serde(default)]
    snapshot: bool,
    serial: Option<String>,
    size: Option<Size>,
}

impl TryFrom<DiskTable> for Disk {
    type Error = &'static str;

    fn try_from(table: DiskTable) -> std::result::Result<Self, &'static str> {
        let source = match (table.file, table.image, table.host) {
            (Some(file), None, None) => Source::File(file),
            (None, Some(image), None) => Source::Image(image),
            (None, None, Some(serial)) => Source::Host(serial),
            (None, None, None) => {
                return Err(
                    "a disk has no source; add `file = \"...\"`, `image = \"...\"` or `host = \"SERIAL\"`",
                );
            }
            _ => return Err("a disk has several sources; keep one of `file`, `image` and `host`"),
        };
        if table.partition.is_some() && matches!(source, Source::Image(_)) {
            return Err("an `image` has no partitions to choose from; use `file`, or leave `partition` out");
        }
        if table.size.is_some() && !matches!(source, Source::File(_)) {
            return Err("`size` is for a `file`; leave it out");
        }
        if table.readonly && table.snapshot {
            return Err(
                "a disk is `readonly` and `snapshot`; keep `readonly` if the guest may not write, else `snapshot`",
            );
        }
        let DiskTable { partition, readonly, snapshot, serial, size, .. } = table;
        Ok(Self { source, partition, readonly, snapshot, serial, size })
    }
}

impl Disk {
    /// The whole of a file, written by the guest.
    pub fn file(path: PathBuf) -> Self {
        Self {
            source: Source::File(path),
            partition: None,
            readonly: false,
            snapshot: false,
            serial: None,
            size: None,
        }
    }

    /// Makes a path relative to `folder`.
    pub fn relative_to(&mut self, folder: &Path) {
        if let Source::File(path) | Source::Image(path) = &mut self.source {
            *path = folder.join(&*path);
        }
    }
}

/// `FILE[,readonly][,snapshot][,serial=TEXT][,size=SIZE]`. What is none of these is part of the file's name.
impl FromStr for Disk {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (mut file, mut options) = (text, Vec::new());
        while let Some((rest, option)) = file.rsplit_once(',') {
            let known = matches!(option, "readonly" | "snapshot")
                || matches!(option.split_once('='), Some(("serial" | "size", _)));
            if !known {
                break;
            }
            options.push(option);
            file = rest;
        }
        let mut disk = Self::file(file.into());
        for option in options {
            match option.split_once('=') {
                Some(("serial", serial)) => disk.serial = Some(serial.to_owned()),
                Some((_, size)) => disk.size = Some(size.parse()?),
                None if option == "readonly" => disk.readonly = true,
                None => disk.snapshot = true,
            }
        }
        if file.is_empty() {
            return Err(format!("`{text}` names no file; write FILE[,readonly][,snapshot]"));
        }
        if disk.readonly && disk.snapshot {
            return Err("a disk is either readonly or snapshot; leave one out".to_owned());
        }
        Ok(disk)
    }
}

fn partition<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Partition>, D::Error> {
    struct PartitionVisitor;
    impl Visitor<'_> for PartitionVisitor {
        type Value = Option<Partition>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a partition's number, from 1 up, or its name in quotes")
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> std::result::Result<Self::Value, E> {
            let number = u32::try_from(number).ok().filter(|number| *number > 0);
            let wrong = || E::custom("partitions are counted from 1; give the number that Linux shows");
            number.map(|number| Some(Partition::Number(number))).ok_or_else(wrong)
        }
        fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<Self::Value, E> {
            Ok(Some(Partition::Name(name.to_owned())))
        }
    }
    deserializer.deserialize_any(PartitionVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_on_the_command_line_is_a_file_with_options() {
        let disk: Disk = "a,b.img,readonly,serial=x,size=1G".parse().unwrap();
        assert_eq!(disk.source, Source::File("a,b.img".into()));
        assert_eq!((disk.readonly, disk.snapshot), (true, false));
        assert_eq!((disk.serial.as_deref(), disk.size), (Some("x"), Some(Size(1 << 30))));
        assert!("x.img,snapshot".parse::<Disk>().unwrap().snapshot);
        for (text, message) in [
            (",readonly", "names no file"),
            ("x,readonly,snapshot", "leave one out"),
            ("x,size=1Q", "not a size"),
        ] {
            assert!(text.parse::<Disk>().unwrap_err().contains(message), "{text}");
        }
    }
}
