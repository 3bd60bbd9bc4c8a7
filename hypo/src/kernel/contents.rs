//! What a kernel file comes to: pieces of memory, or the reason why it is none.

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
    /// A legacy image of U-Boot's.
    UBoot,
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
    #[error("the {0} data is damaged or cut off ({1}); copy or pack the file again")]
    Damaged(&'static str, String),
    #[error(
        "unpacked, the file is larger than the guest's memory, {0} MiB; check that it is a kernel, or give more"
    )]
    TooLarge(u64),
    #[error("the file is packed more than {0} times; unpack it first")]
    Layers(usize),
    #[error("this is {0}, which hypo cannot unpack; give the Linux Image, ELF or flat binary that is in it")]
    CannotUnpack(String),
    #[error(
        "this U-Boot image holds no kernel (its type is {0}, not 2); give one made with `mkimage -T kernel`"
    )]
    UBootType(u8),
    #[error(
        "this U-Boot image is packed by method {0}, which QEMU does not know; use `mkimage -C none` or `-C gzip`"
    )]
    UBootCompression(u8),
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
    /// The address from which QEMU counts to the place of the initial RAM disk.
    pub fn base(&self) -> u64 {
        match self.format {
            Format::UBoot => self.entry,
            _ => self.pieces.first().map_or(LOAD_ADDRESS, |piece| piece.address),
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
