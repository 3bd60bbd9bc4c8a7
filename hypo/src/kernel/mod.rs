//! Kernel files: recognises the format and says what memory must hold. Knows nothing of guests or files on
//! disk: bytes in, pieces of memory out.

mod elf;
mod flat;
mod gzip;
mod image;

use thiserror::Error;

/// Where a kernel without addresses of its own is loaded, as QEMU's `virt` machine does it.
pub const LOAD_ADDRESS: u64 = 0x8020_0000;

/// A kernel, ready to be placed.
#[derive(Debug, PartialEq)]
pub struct Kernel {
    /// What kind of file it was.
    pub format: Format,
    /// Guest-physical address of the first instruction.
    pub entry: u64,
    /// What memory holds, in the order of the addresses; never empty, never overlapping.
    pub pieces: Vec<Piece>,
}

/// The kind of a kernel file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A Linux `Image`, with or without an EFI stub.
    Image,
    /// A 64-bit RISC-V ELF executable.
    Elf,
    /// Anything else: loaded and entered at [`LOAD_ADDRESS`].
    Flat,
}

/// A stretch of memory that a kernel occupies.
#[derive(Debug, PartialEq)]
pub struct Piece {
    /// Guest-physical address, a multiple of 8.
    pub address: u64,
    /// What it holds at the start; empty where it is .bss alone.
    pub data: Vec<u8>,
    /// Bytes that the kernel takes for its own, at least as many as `data`; the rest is zero.
    pub occupied: u64,
}

/// Why a file is not a kernel that can run.
#[derive(Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)] // The messages say it all.
pub enum KernelError {
    #[error("the file is empty; give a Linux Image, an ELF or a flat binary")]
    Empty,
    #[error("the gzip data is damaged or cut off ({0}); copy or compress the file again")]
    Gzip(String),
    #[error(
        "unpacked, the file is larger than {0} MiB, more than a guest can hold; check that it is a kernel"
    )]
    GzipBomb(u64),
    #[error("this is an ELF file of {0}; build it for 64-bit little-endian RISC-V")]
    WrongMachine(String),
    #[error("this ELF file is {0}, not an executable; give the linked kernel")]
    NotExecutable(&'static str),
    #[error("the ELF file is damaged or cut off ({0}); build or copy it again")]
    BadElf(String),
    #[error("the ELF file has nothing to load (no PT_LOAD segment with contents); give the linked kernel")]
    NothingToLoad,
    #[error("the ELF file's segments overlap at physical address {0:#x}; correct its linker script")]
    Overlap(u64),
    #[error("the Linux Image says that it is big-endian, which no guest can run; build it little-endian")]
    BigEndian,
}

impl Kernel {
    /// Recognises `file` and reads it.
    ///
    /// # Errors
    /// The file claims to be of a known format but is damaged or not for this machine.
    pub fn parse(file: Vec<u8>) -> Result<Self, KernelError> {
        let file = if gzip::recognises(&file) { gzip::unpack(&file)? } else { file };
        match file {
            empty if empty.is_empty() => Err(KernelError::Empty),
            elf if elf::recognises(&elf) => elf::parse(&elf),
            image if image::recognises(&image) => image::parse(image),
            other => Ok(flat::parse(other)),
        }
    }

    /// The kernel as one stretch of bytes from its lowest address to the end of its data, gaps as zeros.
    pub fn flatten(&self) -> Vec<u8> {
        let base = self.pieces.first().map_or(0, |piece| piece.address);
        let mut flat = Vec::new();
        for piece in self.pieces.iter().filter(|piece| !piece.data.is_empty()) {
            flat.resize((piece.address - base) as usize, 0);
            flat.extend_from_slice(&piece.data);
        }
        flat
    }
}

/// Whether `file` is compressed and so needs [`unpacked`] before QEMU can load it.
pub fn is_gzip(file: &[u8]) -> bool {
    gzip::recognises(file)
}

/// The contents of a gzip file.
///
/// # Errors
/// The data is damaged, cut off or far larger than any kernel.
pub fn unpacked(file: &[u8]) -> Result<Vec<u8>, KernelError> {
    gzip::unpack(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_refused() {
        assert_eq!(Kernel::parse(Vec::new()), Err(KernelError::Empty));
    }

    #[test]
    fn what_is_nothing_else_is_flat() {
        let kernel = Kernel::parse(vec![0x13, 0, 0, 0, 9]).unwrap();
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
