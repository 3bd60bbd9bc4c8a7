//! Finds, in a page that nothing has trapped in yet, the instructions that some firmware complains of when they trap.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use isa::Instr;
use isa::instr::{decode, length};
use memory::{GuestPhysAddr, GuestRam};

/// The offsets of those instructions in the page at `page`. An instruction begins at `entry`, if that is known. The last one
/// may be torn: it is found if it can be one of them, whatever its second half is. `before` is the page in front of this one,
/// where it is executed.
pub(crate) fn loud_sites(
    ram: &GuestRam,
    page: GuestPhysAddr,
    entry: Option<u64>,
    before: impl FnOnce() -> Option<GuestPhysAddr>,
) -> Vec<u64> {
    let Some(words) = words(ram, page) else { return Vec::new() };
    // Most pages have none, so this is most of the time.
    if !words.clone().any(may_have_system) || !may_have_loud(words.clone()) {
        return Vec::new();
    }
    let parcels = parcels(words);
    let begins = starts_loud(&parcels) && before().is_some_and(|before| ends_whole(ram, before));
    sites_in(&parcels, entry, begins)
}

/// The words of a page that is filled in.
fn words(ram: &GuestRam, page: GuestPhysAddr) -> Option<impl Iterator<Item = u64> + Clone> {
    let words = ram.host_address(page).and_then(|_| ram.table(page))?;
    Some(words.iter().map(|word| word.load(Ordering::Relaxed)))
}

fn parcels(words: impl Iterator<Item = u64>) -> Vec<u16> {
    words.flat_map(|word| [0, 16, 32, 48].map(|shift| (word >> shift) as u16)).collect()
}

/// Whether the page begins with a loud instruction, if an instruction begins there at all.
fn starts_loud(parcels: &[u16]) -> bool {
    matches!(parcels, [low, high, ..] if is_loud(u32::from(*high) << 16 | u32::from(*low)))
}

/// Whether an instruction ends where the page at `page` does, whichever way one reads it.
fn ends_whole(ram: &GuestRam, page: GuestPhysAddr) -> bool {
    words(ram, page)
        .map(parcels)
        .is_some_and(|parcels| [0, 1].into_iter().all(|start| is_whole(&parcels, start)))
}

/// Whether reading the page's instructions from a parcel on ends with a whole one.
fn is_whole(parcels: &[u16], start: usize) -> bool {
    let mut at = start;
    while let Some(&low) = parcels.get(at) {
        at = at.wrapping_add(if length(low) == 4 { 2 } else { 1 });
    }
    at == parcels.len()
}

/// Whether the bits of a loud instruction are there at all, across two others or not.
fn may_have_loud(words: impl Iterator<Item = u64>) -> bool {
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        if may_have_system(word) {
            let both = u128::from(words.peek().copied().unwrap_or(0)) << 64 | u128::from(word);
            let is_torn = words.peek().is_none() && may_be_torn((word >> 48) as u16);
            if is_torn || [0, 16, 32, 48].into_iter().any(|shift| is_loud((both >> shift) as u32)) {
                return true;
            }
        }
    }
    false
}

/// Whether one of the four parcels in the word could be the first half of SRET, WFI or one of the fences: opcode SYSTEM, rd = 0,
/// funct3 = 0.
const fn may_have_system(word: u64) -> bool {
    const PATTERN: u64 = 0x0073_0073_0073_0073;
    // The sixteen bits but the lowest of rs1 are given.
    let different = (word ^ PATTERN) & 0x7fff_7fff_7fff_7fff;
    (different.wrapping_sub(0x0001_0001_0001_0001) & !different & 0x8000_8000_8000_8000) != 0
}

/// `begins` says that an instruction begins at the page's start.
fn sites_in(parcels: &[u16], entry: Option<u64>, begins: bool) -> Vec<u64> {
    let [mut found, second] = [0, 1].map(|start| sweep(parcels, start, false));
    // Both in order.
    found.retain(|offset| begins || second.binary_search(offset).is_ok());
    if let Some(entry) = entry {
        for offset in sweep(parcels, (entry / 2) as usize, true) {
            if let Err(place) = found.binary_search(&offset) {
                found.insert(place, offset);
            }
        }
    }
    found
}

/// The offsets of the loud instructions that are met reading from a parcel on; only those that are executed one after the
/// other, if that is wanted.
fn sweep(parcels: &[u16], start: usize, straight: bool) -> Vec<u64> {
    let mut found = Vec::new();
    let mut at = start;
    while let Some(&low) = parcels.get(at) {
        let long = length(low) == 4;
        let bits = match parcels.get(at.wrapping_add(1)) {
            Some(&high) if long => u32::from(high) << 16 | u32::from(low),
            None if long => {
                if may_be_torn(low) {
                    found.push(2 * at as u64);
                }
                break;
            }
            _ => u32::from(low),
        };
        // Decoding all of them would take most of the time.
        if may_be_torn(low) && is_loud(bits) {
            found.push(2 * at as u64);
        }
        if straight && may_jump(bits) {
            break;
        }
        at = at.wrapping_add(if long { 2 } else { 1 });
    }
    found
}

/// Whether the first half of an instruction can be that of a loud one.
pub(crate) const fn may_be_torn(low: u16) -> bool {
    // As above.
    low & 0x7fff == 0x0073
}

/// Whether what follows may not be what is executed next: branches, jumps, and what ends in a trap or returns from one.
const fn may_jump(bits: u32) -> bool {
    match bits & 3 {
        // C.J, C.BEQZ, C.BNEZ
        1 => matches!(bits >> 13 & 7, 5..=7),
        // C.JR, C.JALR, C.EBREAK and the forms of C.MV and C.ADD
        2 => bits >> 13 & 7 == 4,
        3 => match bits & 0x7f {
            // BRANCH, JALR, JAL
            0x63 | 0x67 | 0x6f => true,
            // ECALL, EBREAK, SRET, but not CSR accesses, WFI and fences
            0x73 => matches!(bits, 0x0000_0073 | 0x0010_0073 | 0x1020_0073 | 0x3020_0073),
            _ => false,
        },
        // The all-zero instruction, and what is in front of data
        _ => bits == 0,
    }
}

/// Whether it is one of those instructions.
pub(crate) fn is_loud(bits: u32) -> bool {
    matches!(
        decode(bits),
        Instr::Sret
            | Instr::Wfi
            | Instr::SfenceVma { .. }
            | Instr::SinvalVma { .. }
            | Instr::SfenceWInval
            | Instr::SfenceInvalIr
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use memory::PAGE_SIZE;

    const PARCELS: usize = (PAGE_SIZE / 2) as usize;
    const NOP: u16 = 0x0001;
    const SRET: [u16; 2] = [0x0073, 0x1020];
    /// sfence.vma a0, a1: rs1's lowest bit is in the first half.
    const FENCE: [u16; 2] = [0x0073, 0x12b5];
    /// sfence.vma a1
    const FENCE_ODD: [u16; 2] = [0x8073, 0x1205];

    fn page(code: &[u16]) -> Vec<u16> {
        let mut parcels = alloc::vec![NOP; PARCELS];
        parcels[100..100 + code.len()].copy_from_slice(code);
        parcels
    }

    fn quick(parcels: &[u16]) -> bool {
        may_have_loud(
            parcels.chunks(4).map(|four| four.iter().rev().fold(0, |word, p| word << 16 | u64::from(*p))),
        )
    }

    #[test]
    fn loud_instructions_are_found_wherever_they_lie() {
        for code in [SRET, FENCE, FENCE_ODD, [0x0073, 0x1050]] {
            for shift in 0..4 {
                let mut parcels = page(&[]);
                parcels[100 + shift..102 + shift].copy_from_slice(&code);
                assert!(quick(&parcels), "{code:x?}");
                assert_eq!(sites_in(&parcels, None, false), [200 + 2 * shift as u64], "{code:x?}");
            }
        }
        assert!(!quick(&page(&[])));
    }

    #[test]
    fn what_lies_across_two_instructions_is_none() {
        // lui zero, 0x73..; c.addi: the first half of SRET is the second of a long instruction.
        assert_eq!(sites_in(&page(&[0x0037, SRET[0], SRET[1]]), None, false), []);
    }

    #[test]
    fn an_instruction_that_the_pages_end_cuts_is_found_if_it_may_be_loud() {
        for (low, is_found) in [(SRET[0], true), (FENCE_ODD[0], true), (0x2573, false), (0x00f3, false)] {
            let mut parcels = page(&[]);
            parcels[PARCELS - 1] = low;
            let wanted = if is_found { vec![4094] } else { vec![] };
            assert_eq!(sites_in(&parcels, None, false), wanted, "{low:#x}");
            assert_eq!(quick(&parcels), is_found, "{low:#x}");
        }
        // The second half of a long one.
        let mut parcels = page(&[]);
        parcels[PARCELS - 2..].copy_from_slice(&[0x0037, SRET[0]]);
        assert_eq!(sites_in(&parcels, None, false), []);
    }

    #[test]
    fn where_an_instruction_is_known_to_begin_those_behind_it_are_too() {
        let mut parcels = page(&[]);
        parcels[..2].copy_from_slice(&FENCE);
        assert_eq!(sites_in(&parcels, None, false), [], "the page before may have its first half");
        assert_eq!(sites_in(&parcels, Some(0), false), [0]);
        // Whatever one reads from the page's two first parcels on never meets the other.
        for (first, is_seen) in
            [(0x0003_0013, true), (0x0003_006f, false), (0x0003_0067, false), (0x0003_0063, false)]
        {
            let mut parcels = alloc::vec![0x0003; PARCELS];
            parcels[101..105].copy_from_slice(&[first as u16, (first >> 16) as u16, FENCE[0], FENCE[1]]);
            assert_eq!(sites_in(&parcels, None, false), []);
            let wanted = if is_seen { vec![206] } else { vec![] };
            assert_eq!(sites_in(&parcels, Some(202), false), wanted, "{first:#x}");
        }
    }

    #[test]
    fn what_may_jump_is_known() {
        // c.j, c.beqz, c.bnez, c.jr, c.jalr, c.ebreak, ecall, ebreak, sret, mret, unimp
        for bits in
            [0xa001, 0xc111, 0xe111, 0x8082, 0x9082, 0x9002, 0x73, 0x10_0073, 0x1020_0073, 0x3020_0073, 0]
        {
            assert!(may_jump(bits), "{bits:#x}");
        }
        // c.nop, c.li, c.ldsp, c.sdsp, c.ld, csrr, wfi, sfence.vma, ld
        for bits in [0x0001, 0x4501, 0x6502, 0xe02a, 0x6108, 0x1000_2573, 0x1050_0073, 0x1200_0073, 0x3503] {
            assert!(!may_jump(bits), "{bits:#x}");
        }
    }

    #[test]
    fn other_system_instructions_are_not_loud() {
        // ecall, ebreak, mret, csrr a0, sstatus
        for code in [[0x0073, 0x0000], [0x0073, 0x0010], [0x0073, 0x3020], [0x2573, 0x1000]] {
            assert_eq!(sites_in(&page(&code), None, false), [], "{code:x?}");
            assert!(!quick(&page(&code)), "{code:x?}");
        }
    }
}
