//! The smallest ELF object that objdump takes: a .text and the attribute that says which extensions to
//! decode. A raw binary will not do, because objdump then knows no more than rv64gc.

const HEADER_LEN: usize = 64;
const SECTION_HEADER_LEN: usize = 64;
const NAMES: &[u8] = b"\0.text\0.riscv.attributes\0.shstrtab\0";

const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_RISCV_ATTRIBUTES: u32 = 0x7000_0003;
const SHF_ALLOC_EXECINSTR: u64 = 6;

/// An object with this code at address 0 of .text, for a hart with this ISA string.
pub fn object(code: &[u8], arch: &str) -> Vec<u8> {
    let attributes = attributes(arch);
    let mut file = vec![0; HEADER_LEN];
    let mut sections = vec![[0; SECTION_HEADER_LEN]];
    let parts: [(&str, u32, u64, &[u8]); 3] = [
        (".text", SHT_PROGBITS, SHF_ALLOC_EXECINSTR, code),
        (".riscv.attributes", SHT_RISCV_ATTRIBUTES, 0, &attributes),
        (".shstrtab", SHT_STRTAB, 0, NAMES),
    ];
    for (name, kind, flags, contents) in parts {
        sections.push(section_header(name, kind, flags, file.len(), contents.len()));
        file.extend_from_slice(contents);
    }
    file.resize(file.len().next_multiple_of(8), 0);
    let table = file.len();
    file.extend(sections.concat());
    file[..HEADER_LEN].copy_from_slice(&header(table, sections.len() as u16));
    file
}

/// A relocatable object, little-endian, ELFCLASS64, for EM_RISCV with RVC.
fn header(section_table: usize, sections: u16) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[16..18].copy_from_slice(&1u16.to_le_bytes());
    header[18..20].copy_from_slice(&243u16.to_le_bytes());
    header[20..24].copy_from_slice(&1u32.to_le_bytes());
    header[40..48].copy_from_slice(&(section_table as u64).to_le_bytes());
    header[48..52].copy_from_slice(&1u32.to_le_bytes());
    header[52..54].copy_from_slice(&(HEADER_LEN as u16).to_le_bytes());
    header[58..60].copy_from_slice(&(SECTION_HEADER_LEN as u16).to_le_bytes());
    header[60..62].copy_from_slice(&sections.to_le_bytes());
    header[62..64].copy_from_slice(&(sections - 1).to_le_bytes());
    header
}

fn section_header(name: &str, kind: u32, flags: u64, offset: usize, len: usize) -> [u8; SECTION_HEADER_LEN] {
    let at = NAMES.windows(name.len()).position(|window| window == name.as_bytes()).expect("a known name");
    let mut header = [0; SECTION_HEADER_LEN];
    header[..4].copy_from_slice(&(at as u32).to_le_bytes());
    header[4..8].copy_from_slice(&kind.to_le_bytes());
    header[8..16].copy_from_slice(&flags.to_le_bytes());
    header[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
    header[32..40].copy_from_slice(&(len as u64).to_le_bytes());
    header[48..56].copy_from_slice(&1u64.to_le_bytes());
    header
}

/// RISC-V ELF psABI, "Attributes": format A, vendor "riscv", Tag_file, Tag_RISCV_arch. Each length counts
/// itself.
fn attributes(arch: &str) -> Vec<u8> {
    let tag_arch = [b"\x05", arch.as_bytes(), b"\0"].concat();
    let tag_file = [b"\x01", &(5 + tag_arch.len() as u32).to_le_bytes()[..], &tag_arch].concat();
    let vendor = [b"riscv\0", &tag_file[..]].concat();
    [b"A", &(4 + vendor.len() as u32).to_le_bytes()[..], &vendor].concat()
}
