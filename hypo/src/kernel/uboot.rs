//! U-Boot's legacy images, as QEMU reads them (`load_uboot_image`): a header that says where the contents go. U-Boot,
//! include/image.h, "Legacy format image header"; all numbers are big-endian.

use super::contents::{Format, Kernel, KernelError, Piece};
use super::packed;

const MAGIC: &[u8] = &[0x27, 0x05, 0x19, 0x56];
const HEADER: usize = 64;
const LEN_AT: usize = 12;
const LOAD_AT: usize = 16;
const ENTRY_AT: usize = 20;
const TYPE_AT: usize = 30;
const COMPRESSION_AT: usize = 31;

const KERNEL: u8 = 2;
const RAM_DISK: u8 = 3;
const UNCOMPRESSED: u8 = 0;
const GZIP: u8 = 1;

pub(super) fn recognises(file: &[u8]) -> bool {
    file.starts_with(MAGIC)
}

/// The kernel in an image, where the image says. `most` are the bytes that it may have.
pub(super) fn parse(file: &[u8], most: u64) -> Result<Kernel, KernelError> {
    match file.get(TYPE_AT) {
        Some(&KERNEL) => {}
        other => return Err(KernelError::UBootType(other.copied().unwrap_or_default())),
    }
    let data = contents(file, most)?;
    let (load, entry) = (word(file, LOAD_AT)?, word(file, ENTRY_AT)?);
    // Memory is filled by whole words.
    let before = load % 8;
    let data = [vec![0; before as usize], data].concat();
    let piece = Piece { address: load - before, occupied: data.len() as u64, data };
    Ok(Kernel { format: Format::UBoot, entry, pieces: vec![piece] })
}

/// The RAM disk in `file`, if it is an image with one; any other file is one itself.
///
/// # Errors
/// The image is cut off, damaged, larger than `most` bytes, or packed in a way that QEMU does not know.
pub fn ram_disk(file: Vec<u8>, most: u64) -> Result<Vec<u8>, KernelError> {
    if recognises(&file) && file.get(TYPE_AT) == Some(&RAM_DISK) { contents(&file, most) } else { Ok(file) }
}

fn contents(file: &[u8], most: u64) -> Result<Vec<u8>, KernelError> {
    let len = word(file, LEN_AT)?;
    let data = file.get(HEADER..).and_then(|rest| rest.get(..len as usize)).ok_or_else(cut_off)?;
    match file.get(COMPRESSION_AT) {
        Some(&UNCOMPRESSED) => Ok(data.to_vec()),
        Some(&GZIP) => packed::gzip(data, most),
        other => Err(KernelError::UBootCompression(other.copied().unwrap_or_default())),
    }
}

fn word(file: &[u8], at: usize) -> Result<u64, KernelError> {
    let bytes = file.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map(|bytes| u32::from_be_bytes(*bytes).into()).ok_or_else(cut_off)
}

fn cut_off() -> KernelError {
    KernelError::Damaged("U-Boot image", "it is shorter than its header says".into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{gzipped, parse};
    use super::*;

    fn image(kind: u8, compression: u8, data: &[u8]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.resize(HEADER, 0);
        let mut put = |at: usize, number: u32| file[at..at + 4].copy_from_slice(&number.to_be_bytes());
        put(LEN_AT, data.len() as u32);
        put(LOAD_AT, 0x8030_0004);
        put(ENTRY_AT, 0x8030_0010);
        file[TYPE_AT] = kind;
        file[COMPRESSION_AT] = compression;
        [file, data.to_vec()].concat()
    }

    #[test]
    fn a_kernel_goes_where_its_header_says() {
        for file in [image(KERNEL, UNCOMPRESSED, b"code"), image(KERNEL, GZIP, &gzipped(b"code"))] {
            let kernel = parse(file).unwrap();
            assert_eq!(
                (kernel.format, kernel.entry, kernel.base()),
                (Format::UBoot, 0x8030_0010, 0x8030_0010)
            );
            let piece = &kernel.pieces[0];
            assert_eq!((piece.address, piece.data.as_slice()), (0x8030_0000, &b"\0\0\0\0code"[..]));
        }
    }

    #[test]
    fn a_ram_disk_loses_its_header_and_other_files_stay() {
        assert_eq!(ram_disk(image(RAM_DISK, UNCOMPRESSED, b"disk"), 99), Ok(b"disk".to_vec()));
        assert_eq!(ram_disk(image(RAM_DISK, GZIP, &gzipped(b"disk")), 99), Ok(b"disk".to_vec()));
        for file in [image(KERNEL, UNCOMPRESSED, b"code"), b"070701".to_vec(), MAGIC.to_vec(), gzipped(b"x")]
        {
            assert_eq!(ram_disk(file.clone(), 99), Ok(file), "as QEMU does");
        }
    }

    #[test]
    fn what_qemu_does_not_take_is_refused() {
        assert_eq!(parse(image(RAM_DISK, UNCOMPRESSED, b"disk")), Err(KernelError::UBootType(RAM_DISK)));
        assert_eq!(parse(image(KERNEL, 4, b"lzo")), Err(KernelError::UBootCompression(4)));
        let whole = image(KERNEL, UNCOMPRESSED, b"code");
        for len in TYPE_AT + 1..whole.len() {
            assert!(matches!(parse(whole[..len].to_vec()), Err(KernelError::Damaged(..))), "{len}");
        }
        assert_eq!(
            Kernel::parse(image(KERNEL, GZIP, &gzipped(&[0; 5000])), 4999),
            Err(KernelError::TooLarge(0))
        );
    }
}
