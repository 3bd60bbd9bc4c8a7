//! The program with the assembly, as `hypo` would build it, loaded into this process and decoded.

use std::fs;
use std::sync::LazyLock;

use elf::ElfBytes;
use elf::abi::{PT_LOAD, R_RISCV_RELATIVE, STT_FUNC, STT_NOTYPE, STT_OBJECT};
use elf::endian::LittleEndian;

use crate::decode::{Instruction, decode};
use crate::memory::{Memory, What};

/// Bytes of a parcel, by which instructions are numbered.
const PARCEL: u64 = 2;

/// The program.
#[derive(Debug)]
pub struct Image {
    words: Box<[u64]>,
    /// Where the code begins, and how long it is.
    code_at: u64,
    /// By parcel; `None` where no instruction begins.
    code: Vec<Instruction>,
    /// Names of the code's places, in order, by their addresses.
    symbols: Vec<(u64, String)>,
    /// Where the assembly of the fast path is, by parcels.
    pub fast: core::ops::Range<usize>,
    /// Where a trap of the hypervisor's own is reported.
    pub host_trap: u64,
    /// The way into the guest.
    pub switch: u64,
    /// The vector where there is no fast path.
    pub exit: u64,
    /// The vector of virtual supervisor mode.
    pub vector: u64,
    /// The vector of virtual user mode.
    pub vector_user: u64,
    /// What tells the assembly's addresses.
    pub addresses: u64,
}

/// The file's bytes.
static FILE: LazyLock<Vec<u8>> = LazyLock::new(file);

/// Builds the file, if need be.
fn file() -> Vec<u8> {
    let path = match hypo_common::build::program("assembly") {
        Ok(path) => path,
        Err(error) => panic!("{error}"),
    };
    fs::read(&path).expect("the program that was built")
}

impl Image {
    /// Loads it.
    pub fn load() -> Self {
        let file = FILE.as_slice();
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).expect("an ELF file");
        let segments: Vec<_> =
            elf.segments().expect("segments").iter().filter(|s| s.p_type == PT_LOAD).collect();
        let end = segments.iter().map(|segment| segment.p_vaddr + segment.p_memsz).max().expect("segments");
        let mut words = vec![0_u64; end.div_ceil(8) as usize].into_boxed_slice();
        let base = words.as_mut_ptr().expose_provenance() as u64;
        let mut set = |address: u64, byte: u8| {
            let shift = 8 * (address % 8);
            words[(address / 8) as usize] |= u64::from(byte) << shift;
        };
        for segment in &segments {
            let from = segment.p_offset as usize;
            let bytes = &file[from..from + segment.p_filesz as usize];
            (segment.p_vaddr..).zip(bytes).for_each(|(address, byte)| set(address, *byte));
        }
        let relocations = elf.section_header_by_name(".rela.dyn").expect("sections").expect("relocations");
        for relocation in elf.section_data_as_relas(&relocations).expect("relocations") {
            assert_eq!(relocation.r_type, R_RISCV_RELATIVE);
            assert!(relocation.r_offset.is_multiple_of(8));
            words[(relocation.r_offset / 8) as usize] = base.wrapping_add_signed(relocation.r_addend);
        }
        let text = elf.section_header_by_name(".text").expect("sections").expect("code");
        let mut image = Self {
            words,
            code_at: base + text.sh_addr,
            code: vec![decode(0); (text.sh_size / PARCEL) as usize],
            symbols: symbols(&elf, base),
            fast: 0..0,
            host_trap: 0,
            switch: 0,
            exit: 0,
            vector: 0,
            vector_user: 0,
            addresses: 0,
        };
        for index in 0..image.code.len() {
            image.code[index] = decode(image.bits(index));
        }
        image.host_trap = image.symbol("5fault9host_trap");
        image.switch = image.symbol("6switch6switch");
        image.exit = image.symbol("6switch4exit");
        image.vector = image.symbol("fast_vector");
        image.vector_user = image.symbol("fast_vector_user");
        image.addresses = image.symbol("assembly_addresses");
        let first = image.index(image.vector).expect("code");
        let end = image.symbols.iter().find(|(at, name)| *at > image.vector && !name.starts_with("fast_"));
        image.fast = first..image.index(end.expect("code behind the assembly").0).expect("code");
        image
    }

    /// The first two parcels from a place on.
    pub fn bits(&self, index: usize) -> u32 {
        let base = self.words.as_ptr().addr() as u64;
        let parcel = |index: usize| {
            let offset = self.code_at - base + index as u64 * PARCEL;
            let word = self.words.get((offset / 8) as usize).copied().unwrap_or(0);
            (word >> (8 * (offset % 8))) as u16
        };
        u32::from(parcel(index)) | u32::from(parcel(index + 1)) << 16
    }

    /// Where the instruction at an address is among the parcels, if it is code.
    pub fn index(&self, address: u64) -> Option<usize> {
        let offset = address.wrapping_sub(self.code_at);
        let index = (offset / PARCEL) as usize;
        (offset.is_multiple_of(PARCEL) && index < self.code.len()).then_some(index)
    }

    /// The instruction at an address, and its place.
    #[inline]
    pub fn instruction(&self, address: u64) -> Option<(usize, &Instruction)> {
        let index = self.index(address)?;
        Some((index, self.code.get(index)?))
    }

    /// The instructions of the fast path, one behind the other, and their places.
    pub fn instructions(&self) -> impl Iterator<Item = (usize, &Instruction)> {
        let mut next = self.fast.start;
        core::iter::from_fn(move || {
            let index = next;
            let instruction = self.fast.contains(&index).then(|| &self.code[index])?;
            next += usize::from(instruction.length) / PARCEL as usize;
            Some((index, instruction))
        })
    }

    /// Parcels of code.
    pub fn parcels(&self) -> usize {
        self.code.len()
    }

    /// The assembly's name for a place, and how many bytes behind it the place is.
    pub fn name(&self, index: usize) -> (&str, u64) {
        let address = self.code_at + index as u64 * PARCEL;
        let after = self.symbols.partition_point(|(at, _)| *at <= address);
        let (at, name) = &self.symbols[after.checked_sub(1).expect("code has names")];
        (name, address - at)
    }

    /// The address of what has this name, or a name of Rust's that has this in it.
    pub fn symbol(&self, name: &str) -> u64 {
        let is_meant = |symbol: &str| symbol == name || symbol.starts_with('_') && symbol.contains(name);
        let found = self.symbols.iter().find(|(_, symbol)| is_meant(symbol));
        found.unwrap_or_else(|| panic!("the program has no {name}")).0
    }

    /// Puts another instruction in the place of one, as long as that: a fault to be found.
    pub fn replace(&mut self, index: usize, with: impl FnOnce(Instruction) -> Instruction) {
        self.code[index] = with(self.code[index]);
    }

    /// Lets the assembly read it.
    pub fn add_to(&self, memory: &mut Memory) {
        // SAFETY: nobody writes there.
        unsafe {
            memory.add(
                What::Image,
                self.words.as_ptr().expose_provenance() as u64,
                size_of_val(&*self.words),
            );
        }
    }
}

/// The names of code, but for those that the assembler makes up.
fn symbols(elf: &ElfBytes<'_, LittleEndian>, base: u64) -> Vec<(u64, String)> {
    let (table, strings) = elf.symbol_table().expect("symbols").expect("symbols");
    let kinds = [STT_NOTYPE, STT_FUNC, STT_OBJECT];
    let mut symbols: Vec<_> = table
        .iter()
        .filter(|symbol| symbol.st_shndx != 0 && kinds.contains(&symbol.st_symtype()))
        .filter_map(|symbol| Some((base + symbol.st_value, strings.get(symbol.st_name as usize).ok()?)))
        .filter(|(_, name)| !name.is_empty() && !name.starts_with(['.', '$']))
        .map(|(address, name)| (address, name.to_owned()))
        .collect();
    symbols.sort();
    symbols
}
