//! The Linux `Image`: "Boot image header in RISC-V Linux" in the kernel's documentation. With an EFI stub it
//! also looks like a PE file; the header is the same.

use super::contents::{Format, Kernel, KernelError, LOAD_ADDRESS, Piece};

/// Offset of the second magic number, which every version of the header has.
const MAGIC_AT: usize = 0x38;
const MAGIC: &[u8] = b"RSC\x05";
/// Offset of the bytes that the kernel takes in memory, .bss included.
const IMAGE_SIZE_AT: usize = 0x10;
const FLAGS_AT: usize = 0x18;
const FLAG_BIG_ENDIAN: u64 = 1;

pub(super) fn recognises(file: &[u8]) -> bool {
    file.get(MAGIC_AT..).is_some_and(|rest| rest.starts_with(MAGIC))
}

pub(super) fn parse(file: Vec<u8>) -> Result<Kernel, KernelError> {
    let field = |at: usize| file.get(at..)?.first_chunk().copied().map(u64::from_le_bytes);
    let present = file.len() as u64;
    // Both fields lie before the magic number that was just found.
    let (Some(image_size), Some(flags)) = (field(IMAGE_SIZE_AT), field(FLAGS_AT)) else {
        return Err(KernelError::Empty);
    };
    if flags & FLAG_BIG_ENDIAN != 0 {
        return Err(KernelError::BigEndian);
    }
    // QEMU ignores `text_offset` and so do we: RAM's base plus it is LOAD_ADDRESS for every known kernel.
    let piece = Piece { address: LOAD_ADDRESS, occupied: image_size.max(present), data: file };
    Ok(Kernel { format: Format::Image, entry: LOAD_ADDRESS, pieces: vec![piece] })
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    fn image(image_size: u64, flags: u64) -> Vec<u8> {
        let mut file = vec![0; 4096];
        file[IMAGE_SIZE_AT..][..8].copy_from_slice(&image_size.to_le_bytes());
        file[FLAGS_AT..][..8].copy_from_slice(&flags.to_le_bytes());
        file[MAGIC_AT..][..4].copy_from_slice(MAGIC);
        file
    }

    #[test]
    fn an_image_occupies_what_its_header_says() {
        let kernel = parse(image(0x10_0000, 0)).unwrap();
        assert_eq!((kernel.format, kernel.entry), (Format::Image, LOAD_ADDRESS));
        assert_eq!((kernel.pieces[0].data.len(), kernel.pieces[0].occupied), (4096, 0x10_0000));
    }

    #[test]
    fn an_old_image_without_a_size_occupies_its_file() {
        assert_eq!(parse(image(0, 0)).unwrap().pieces[0].occupied, 4096);
    }

    #[test]
    fn a_big_endian_image_is_refused() {
        assert_eq!(parse(image(0, 1)), Err(KernelError::BigEndian));
    }
}
