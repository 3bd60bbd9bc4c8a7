//! ELF executables, loaded by their physical addresses as QEMU does it.

use super::contents::{Format, Kernel, KernelError, Piece};
use elf::ElfBytes;
use elf::abi::{
    EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, ELFMAGIC, EM_386, EM_AARCH64, EM_RISCV, EM_X86_64,
};
use elf::abi::{ET_CORE, ET_DYN, ET_EXEC, ET_REL, PT_LOAD};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;

/// Segments that lie closer than this become one piece.
const GAP: u64 = 4096;

pub(super) fn recognises(file: &[u8]) -> bool {
    file.starts_with(&ELFMAGIC)
}

pub(super) fn parse(file: &[u8]) -> Result<Kernel, KernelError> {
    check_machine(file)?;
    let bad = |error: elf::ParseError| KernelError::BadElf(error.to_string());
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(bad)?;
    match elf.ehdr.e_type {
        // ET_DYN is what a position-independent kernel is linked as.
        ET_EXEC | ET_DYN => {}
        ET_REL => return Err(KernelError::NotExecutable("an object file")),
        ET_CORE => return Err(KernelError::NotExecutable("a core dump")),
        _ => return Err(KernelError::NotExecutable("of an unknown type")),
    }
    let headers = elf.segments().ok_or(KernelError::NothingToLoad)?;
    let mut headers: Vec<ProgramHeader> =
        headers.iter().filter(|h| h.p_type == PT_LOAD && h.p_memsz > 0).collect();
    headers.sort_by_key(|header| header.p_paddr);
    let mut pieces: Vec<Piece> = Vec::new();
    for header in &headers {
        if header.p_filesz > header.p_memsz {
            return Err(KernelError::BadElf("a segment has more bytes in the file than in memory".into()));
        }
        let data = elf.segment_data(header).map_err(bad)?;
        add_segment(&mut pieces, header, data)?;
    }
    // QEMU enters an ELF file at its lowest address, whatever its entry point says: kernels that are linked
    // at virtual addresses depend on it.
    let entry = headers.iter().map(|header| header.p_paddr).min().ok_or(KernelError::NothingToLoad)?;
    if pieces.iter().all(|piece| piece.data.is_empty()) {
        return Err(KernelError::NothingToLoad);
    }
    Ok(Kernel { format: Format::Elf, entry, pieces })
}

fn check_machine(file: &[u8]) -> Result<(), KernelError> {
    let byte = |at: usize| file.get(at).copied().unwrap_or(0);
    let machine = u16::from_le_bytes([byte(18), byte(19)]);
    let name = match machine {
        EM_RISCV => "RISC-V".to_owned(),
        EM_X86_64 | EM_386 => "an x86 machine".to_owned(),
        EM_AARCH64 => "an Arm machine".to_owned(),
        other => format!("machine number {other}"),
    };
    match (byte(EI_CLASS), byte(EI_DATA)) {
        (ELFCLASS64, ELFDATA2LSB) if machine == EM_RISCV => Ok(()),
        (ELFCLASS64, ELFDATA2LSB) => Err(KernelError::WrongMachine(name)),
        (ELFCLASS64, _) => Err(KernelError::WrongMachine("a big-endian machine".to_owned())),
        _ => Err(KernelError::WrongMachine(format!("{name}, 32 bits"))),
    }
}

/// Adds a segment, which lies at or above the last piece's start.
fn add_segment(pieces: &mut Vec<Piece>, header: &ProgramHeader, data: &[u8]) -> Result<(), KernelError> {
    let past_the_end = || KernelError::BadElf("a segment wraps around the end of memory".into());
    let end = header.p_paddr.checked_add(header.p_memsz).ok_or_else(past_the_end)?;
    if let Some(last) = pieces.last_mut() {
        let last_end = last.address + last.occupied;
        if header.p_paddr < last_end {
            return Err(KernelError::Overlap(header.p_paddr));
        }
        // What lies between is .bss or padding, zero either way; only a little of it is worth storing.
        let data_end = last.address + last.data.len() as u64;
        if header.p_paddr - data_end < GAP {
            if !data.is_empty() {
                last.data.resize((header.p_paddr - last.address) as usize, 0);
                last.data.extend_from_slice(data);
            }
            last.occupied = end - last.address;
            return Ok(());
        }
    }
    // Pieces are copied by words, so they start at one.
    let address = header.p_paddr & !7;
    if let Some(last) = pieces.last_mut() {
        last.occupied = last.occupied.min(address - last.address);
    }
    let mut bytes = vec![0; if data.is_empty() { 0 } else { (header.p_paddr - address) as usize }];
    bytes.extend_from_slice(data);
    pieces.push(Piece { address, data: bytes, occupied: end - address });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    /// An ELF file of (paddr, contents, memsz) segments, entry point 0xffff_ffff_8000_0000.
    pub(crate) fn elf_file(segments: &[(u64, &[u8], u64)]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * segments.len()];
        file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &ET_EXEC.to_le_bytes());
        put(18, &EM_RISCV.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(24, &0xffff_ffff_8000_0000_u64.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(52, &64u16.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &(segments.len() as u16).to_le_bytes());
        let mut offset = (64 + 56 * segments.len()) as u64;
        for (i, (paddr, data, memsz)) in segments.iter().enumerate() {
            let at = 64 + 56 * i;
            let vaddr = paddr.wrapping_add(0xffff_ffff_0000_0000);
            put(at, &PT_LOAD.to_le_bytes());
            for (k, field) in [offset, vaddr, *paddr, data.len() as u64, *memsz, 8].into_iter().enumerate() {
                put(at + 8 + 8 * k, &field.to_le_bytes());
            }
            offset += data.len() as u64;
        }
        segments.iter().for_each(|(_, data, _)| file.extend_from_slice(data));
        file
    }

    #[test]
    fn segments_go_to_their_physical_addresses() {
        let file = elf_file(&[(0x8030_0000, b"data", 0x2000), (0x8020_0000, b"code", 4)]);
        let kernel = parse(file).unwrap();
        assert_eq!((kernel.format, kernel.entry), (Format::Elf, 0x8020_0000));
        let pieces = [
            Piece { address: 0x8020_0000, data: b"code".to_vec(), occupied: 4 },
            Piece { address: 0x8030_0000, data: b"data".to_vec(), occupied: 0x2000 },
        ];
        assert_eq!(kernel.pieces, pieces);
    }

    #[test]
    fn neighbours_become_one_piece_and_bss_stays_reserved() {
        let file = elf_file(&[(0x8020_0001, b"abc", 3), (0x8020_0006, b"d", 100)]);
        let pieces = parse(file).unwrap().pieces;
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].data, b"\0abc\0\0d");
        assert_eq!((pieces[0].address, pieces[0].occupied), (0x8020_0000, 106));
    }

    #[test]
    fn a_segment_of_bss_alone_occupies_memory() {
        let file = elf_file(&[(0x8020_0000, b"code", 4), (0x8100_0000, b"", 0x1000)]);
        let pieces = parse(file).unwrap().pieces;
        assert_eq!(pieces[1], Piece { address: 0x8100_0000, data: Vec::new(), occupied: 0x1000 });
    }

    #[test]
    fn overlapping_segments_are_refused() {
        let file = elf_file(&[(0x8020_0000, b"code", 0x1000), (0x8020_0800, b"data", 4)]);
        assert_eq!(parse(file), Err(KernelError::Overlap(0x8020_0800)));
    }

    #[test]
    fn files_for_other_machines_are_named() {
        let good = elf_file(&[(0x8020_0000, b"code", 4)]);
        let message = |at: usize, byte: u8| {
            let mut file = good.clone();
            file[at] = byte;
            parse(file).unwrap_err().to_string()
        };
        assert!(message(EI_CLASS, 1).contains("RISC-V, 32 bits"));
        assert!(message(18, 62).contains("an x86 machine"));
        assert!(message(18, 183).contains("an Arm machine"));
        assert!(message(EI_DATA, 2).contains("big-endian"));
        assert!(message(16, 1).contains("an object file"));
    }

    #[test]
    fn damaged_files_are_refused_and_never_panic() {
        let good = elf_file(&[(0x8020_0000, b"code", 4), (u64::MAX - 2, b"", 8)]);
        assert!(matches!(parse(good.clone()), Err(KernelError::BadElf(_))));
        for len in 4..good.len() {
            assert!(parse(good[..len].to_vec()).is_err(), "{len}");
        }
        assert_eq!(parse(elf_file(&[])), Err(KernelError::NothingToLoad));
        assert_eq!(parse(elf_file(&[(0x8020_0000, b"", 64)])), Err(KernelError::NothingToLoad));
        let more_in_the_file = elf_file(&[(0x8020_0000, b"code", 3)]);
        assert!(matches!(parse(more_in_the_file), Err(KernelError::BadElf(_))));
    }

    proptest::proptest! {
        #[test]
        fn changed_bytes_never_panic(changes in proptest::collection::vec((0usize..180, proptest::num::u8::ANY), 1..8)) {
            let mut file = elf_file(&[(0x8020_0000, b"code", 4), (0x8030_0000, b"data", 4)]);
            for (at, byte) in changes {
                if let Some(place) = file.get_mut(at) {
                    *place = byte;
                }
            }
            if let Ok(kernel) = parse(file) {
                proptest::prop_assert!(!kernel.pieces.is_empty());
            }
        }
    }
}
