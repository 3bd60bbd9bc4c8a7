//! Disk images on the developer's machine: whether a file can be a disk, and where its partitions are. Reads no more
//! than that takes.

use block::SECTOR;
use block::gpt::{FIRST_HEADER, GptError, Header, Range, Which};
use bundle::Partition;
use hypo_common::error::{Error, Result};
use hypo_common::size::Size;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The first bytes of files that hold a disk, but not as it is, and what makes it so.
const WRAPPED: [(&[u8], &str, &str); 6] = [
    (b"QFI\xfb", "a qcow2 image", "convert it: qemu-img convert -O raw"),
    (b"KDMV", "a VMDK image", "convert it: qemu-img convert -O raw"),
    (b"vhdxfile", "a VHDX image", "convert it: qemu-img convert -O raw"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it with gunzip:"),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it with unxz:"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it with unzstd:"),
];

/// What a disk is to be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whether it is written.
    pub write: bool,
    /// Its least size; with one, a file that is missing will be made.
    pub size: Option<Size>,
    /// The part of it that is used; `None` is the whole.
    pub partition: Option<&'a Partition>,
}

/// A file that can be a disk.
#[derive(Clone, Debug)]
pub struct Image {
    /// The same for all names of one file.
    pub identity: Identity,
    /// Bytes of the file.
    pub len: u64,
    /// The sectors that are used.
    pub range: Range,
    /// Whether it has yet to be made.
    pub is_new: bool,
}

/// What makes a file itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Its file system and its number there.
    File(u64, u64),
    /// The place of one that is not there yet.
    Place(PathBuf),
}

/// Looks at the file at `path`.
///
/// # Errors
/// It cannot be the disk that is wanted; the message names it, with a remedy.
pub fn inspect(path: &Path, wanted: Wanted<'_>) -> Result<Image> {
    let shown = path.display();
    if let Some(size) = wanted.size
        && (size.0 == 0 || !size.0.is_multiple_of(SECTOR))
    {
        return Err(Error::new(format_args!("a disk of {size} is not possible"))
            .remedy("give a multiple of 512 bytes, for example \"1G\""));
    }
    let metadata = match (fs::metadata(path), wanted.size) {
        (Ok(metadata), _) => metadata,
        (Err(error), Some(size)) if error.kind() == ErrorKind::NotFound => {
            return new_image(path, size, wanted);
        }
        (Err(error), None) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::new(format_args!("there is no disk image `{shown}`")).remedy(format_args!(
                "check the path; or make one of 1 GiB: truncate -s 1G {shown}; or say its size, as in \
                 size = \"1G\", and it is made at the start"
            )));
        }
        (Err(error), _) => return Err(Error::file("use the disk image", path, &error)),
    };
    let kind = metadata.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        let what = if kind.is_dir() { "a directory" } else { "no file that can be read anywhere" };
        return Err(Error::new(format_args!("the disk image `{shown}` is {what}"))
            .remedy("give a raw image file or a block device"));
    }
    let mut file = OpenOptions::new().read(true).write(wanted.write).open(path).map_err(|error| {
        let doing = if wanted.write { "open for writing the disk image" } else { "read the disk image" };
        Error::file(doing, path, &error).remedy("allow it with chmod, or make the disk readonly or snapshot")
    })?;
    let unreadable = |error| Error::file("read the disk image", path, &error);
    let start = read_at(&mut file, 0, 1).map_err(unreadable)?;
    if let Some((_, what, remedy)) = WRAPPED.iter().find(|(magic, ..)| start.starts_with(magic)) {
        let whole = if remedy.contains("qemu-img") {
            format!("{remedy} {shown} {}", path.with_extension("img").display())
        } else {
            format!("{remedy} {shown}")
        };
        return Err(
            Error::new(format_args!("the disk image `{shown}` is {what}, not a raw disk")).remedy(whole)
        );
    }
    let len = length(&metadata, &mut file).map_err(unreadable)?;
    check_length(path, len, wanted.size)?;
    let range =
        match wanted.partition {
            None => Range { first: 0, count: len / SECTOR },
            Some(partition) => {
                partition_of(&mut file, len / SECTOR, partition).map_err(unreadable)?.map_err(|error| {
                    Error::new(format_args!("the disk image `{shown}` has no partition {partition}: {error}"))
                .remedy("see `sfdisk -l` for what there is; or leave `partition` out to give the whole disk")
                })?
            }
        };
    let identity = if kind.is_block_device() {
        Identity::File(0, metadata.rdev())
    } else {
        Identity::File(metadata.dev(), metadata.ino())
    };
    Ok(Image { identity, len, range, is_new: false })
}

/// Makes a file of `size` bytes that occupies nothing yet.
///
/// # Errors
/// It is there already, or cannot be made.
pub fn create(path: &Path, size: u64) -> Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).open(path).and_then(|file| file.set_len(size));
    made.map_err(|error| Error::file("make the disk image", path, &error))
}

fn new_image(path: &Path, size: Size, wanted: Wanted<'_>) -> Result<Image> {
    if let Some(partition) = wanted.partition {
        return Err(Error::new(format_args!(
            "there is no disk image `{}`, so it has no partition {partition}",
            path.display()
        ))
        .remedy("make the disk and its partitions first, or leave `partition` out"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(|error| {
        Error::file("make a disk image in", folder, &error)
            .remedy("make the folder first, or change the path")
    })?;
    let place = folder.join(path.file_name().unwrap_or_default());
    let range = Range { first: 0, count: size.0 / SECTOR };
    Ok(Image { identity: Identity::Place(place), len: size.0, range, is_new: true })
}

/// Where the partition is, by the first table that is whole; the second one is at the disk's end.
fn partition_of(
    file: &mut File,
    sectors: u64,
    partition: &Partition,
) -> std::io::Result<std::result::Result<Range, GptError>> {
    let which = match partition {
        Partition::Number(number) => Which::Number(*number),
        Partition::Name(name) => Which::Name(name),
    };
    let mut found = Err(GptError::NoTable);
    for sector in [FIRST_HEADER, sectors.saturating_sub(1)] {
        let header = Header::read(&read_at(file, sector, 1)?, sector, sectors);
        let result = match header {
            Ok(header) => {
                let Range { first, count } = header.entries();
                header.partition(&read_at(file, first, count)?, which)
            }
            Err(error) => Err(error),
        };
        match result {
            Err(GptError::NoTable | GptError::BadHeader | GptError::BadEntries) => {}
            told => return Ok(told),
        }
        // What is wrong with the first says more.
        if found == Err(GptError::NoTable) {
            found = result;
        }
    }
    Ok(found)
}

/// `count` sectors from `first`, or as many as there are.
fn read_at(file: &mut File, first: u64, count: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(first * SECTOR))?;
    file.take(count * SECTOR).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn length(metadata: &Metadata, file: &mut File) -> std::io::Result<u64> {
    if metadata.file_type().is_file() { Ok(metadata.len()) } else { file.seek(SeekFrom::End(0)) }
}

fn check_length(path: &Path, len: u64, least: Option<Size>) -> Result<()> {
    let (shown, size) = (path.display(), Size(len));
    if len == 0 {
        return Err(Error::new(format_args!("the disk image `{shown}` is empty"))
            .remedy(format_args!("give it a size: truncate -s 1G {shown}")));
    }
    if !len.is_multiple_of(SECTOR) {
        return Err(Error::new(format_args!("the disk image `{shown}` has {size}, no multiple of 512"))
            .remedy(format_args!("is it a disk? if so, fill up its last sector: truncate -s %512 {shown}")));
    }
    match least {
        Some(least) if len < least.0 => {
            Err(Error::new(format_args!("the disk image `{shown}` is too small: {size}, not {least}"))
                .remedy(format_args!("make it larger: truncate -s {} {shown}; or ask for less", least.0)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Wanted<'_> = Wanted { write: false, size: None, partition: None };

    fn inspected(contents: &[u8], wanted: Wanted<'_>) -> Result<Image> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), contents).unwrap();
        inspect(file.path(), wanted)
    }

    #[test]
    fn a_disk_is_whole_sectors() {
        assert_eq!(inspected(&[0; 1024], READ).unwrap().len, 1024);
        for (contents, message) in [(vec![], "is empty"), (vec![0; 513], "no multiple of 512")] {
            assert!(inspected(&contents, READ).unwrap_err().to_string().contains(message));
        }
    }

    #[test]
    fn what_is_no_raw_disk_says_how_to_make_it_one() {
        for (start, remedy) in [(&b"QFI\xfb"[..], "qemu-img convert"), (b"\x1f\x8b\x08", "gunzip")] {
            let message = inspected(&[start, &[0; 1021]].concat(), READ).unwrap_err().to_string();
            assert!(message.contains(remedy), "{message}");
        }
    }

    #[test]
    fn a_size_is_the_least() {
        let wanted = |size| Wanted { size: Some(Size(size)), ..READ };
        assert!(inspected(&[0; 1024], wanted(1024)).is_ok());
        let message = inspected(&[0; 1024], wanted(1536)).unwrap_err().to_string();
        assert!(message.contains("too small: 1K, not 1536 bytes"), "{message}");
        assert!(inspected(&[0; 1024], wanted(100)).unwrap_err().to_string().contains("multiple of 512"));
    }

    #[test]
    fn a_partition_is_where_either_table_says() {
        // The start of 8 MiB on which `sfdisk` has made two partitions of 1 MiB.
        let mut disk = include_bytes!("../../crates/block/src/gpt/fixtures/sfdisk.bin").to_vec();
        disk.resize(8 << 20, 0);
        let range = |disk: &[u8], partition: Partition| {
            let wanted = Wanted { partition: Some(&partition), ..READ };
            inspected(disk, wanted).map(|image| image.range).map_err(|error| error.to_string())
        };
        let second = Ok(Range { first: 4096, count: 2048 });
        assert_eq!(range(&disk, Partition::Number(2)), second);
        assert_eq!(range(&disk, Partition::Name("second".into())), second);
        let message = range(&disk, Partition::Name("third".into())).unwrap_err();
        assert!(message.contains("no partition `third`: it has no partition of this name"), "{message}");
        disk[512 + 20] ^= 1;
        assert!(range(&disk, Partition::Number(2)).unwrap_err().contains("header of its GPT is damaged"));
        assert!(range(&disk[..4096], Partition::Number(3)).unwrap_err().contains("damaged"));
        assert!(range(&[0; 512], Partition::Number(1)).unwrap_err().contains("no GPT"));
        let new = Wanted { size: Some(Size(512)), partition: Some(&Partition::Number(1)), ..READ };
        assert!(inspect(Path::new("no-such"), new).unwrap_err().to_string().contains("partitions first"));
    }

    #[test]
    fn a_missing_disk_is_made_if_its_size_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.img");
        assert!(inspect(&path, READ).unwrap_err().to_string().contains("truncate -s 1G"));
        let wanted = Wanted { size: Some(Size(1 << 20)), ..READ };
        let image = inspect(&path, wanted).unwrap();
        assert!(image.is_new && image.len == 1 << 20 && !path.exists());
        create(&path, image.len).unwrap();
        assert!(!inspect(&path, wanted).unwrap().is_new);
        assert!(create(&path, 512).is_err(), "what is there stays");
        assert!(inspect(&folder.path().join("no/x.img"), wanted).is_err());
    }

    #[test]
    fn all_names_of_a_file_are_one_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), [0; 512]).unwrap();
        fs::hard_link(path("a"), path("b")).unwrap();
        std::os::unix::fs::symlink("a", path("c")).unwrap();
        fs::write(path("d"), [0; 512]).unwrap();
        let identity = |name| inspect(&path(name), READ).unwrap().identity;
        assert!(identity("a") == identity("b") && identity("a") == identity("c"));
        assert_ne!(identity("a"), identity("d"));
        assert!(inspect(folder.path(), READ).unwrap_err().to_string().contains("a directory"));
        assert!(inspect(Path::new("/dev/zero"), READ).unwrap_err().to_string().contains("block device"));
    }
}
