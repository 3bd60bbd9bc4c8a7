//! Kernel files: recognises the format and says what memory must hold. Knows nothing of guests or files on
//! disk: bytes in, pieces of memory out. `contents` is what a kernel is, each other file here a format.

mod contents;
mod elf;
mod flat;
mod image;
mod packed;
mod uboot;

pub use contents::{Format, Kernel, KernelError, LOAD_ADDRESS, Piece};
pub use uboot::ram_disk;

impl Kernel {
    /// Recognises `file`, unpacks it if it is packed, and reads it. `most` are the bytes that a packed kernel may have:
    /// the guest's memory.
    ///
    /// # Errors
    /// The file claims to be of a known format but is damaged, too large, or not for this machine.
    pub fn parse(file: Vec<u8>, most: u64) -> Result<Self, KernelError> {
        let file = packed::unpack(file, most)?;
        match file {
            empty if empty.is_empty() => Err(KernelError::Empty),
            elf if elf::recognises(&elf) => elf::parse(&elf),
            image if image::recognises(&image) => image::parse(image),
            uboot if uboot::recognises(&uboot) => uboot::parse(&uboot, most),
            other => Ok(flat::parse(other)),
        }
    }
}

/// A kernel file as QEMU can load it: not packed. `most` are the bytes that it may have.
///
/// # Errors
/// The data is damaged, too large, or packed in a way that is not known here.
pub fn unpacked(file: Vec<u8>, most: u64) -> Result<Vec<u8>, KernelError> {
    packed::unpack(file, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    pub fn gzipped(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    pub fn parse(file: Vec<u8>) -> Result<Kernel, KernelError> {
        Kernel::parse(file, 1 << 30)
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert_eq!(parse(Vec::new()), Err(KernelError::Empty));
    }

    #[test]
    fn what_is_nothing_else_is_flat() {
        let kernel = parse(vec![0x13, 0, 0, 0, 9]).unwrap();
        assert_eq!((kernel.format, kernel.entry), (Format::Flat, LOAD_ADDRESS));
        assert_eq!(kernel.pieces[0].data, [0x13, 0, 0, 0, 9]);
    }

    #[test]
    fn a_flattened_kernel_has_zeros_in_its_gaps() {
        let piece = |address, byte| Piece { address, data: vec![byte; 3], occupied: 3 };
        let kernel = Kernel { format: Format::Elf, entry: 64, pieces: vec![piece(64, 1), piece(72, 2)] };
        assert_eq!(kernel.flatten(), [1, 1, 1, 0, 0, 0, 0, 0, 2, 2, 2]);
    }
}
