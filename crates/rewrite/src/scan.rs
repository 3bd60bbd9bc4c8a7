//! Finds, in a page that nothing has trapped in yet, the instructions that some firmware complains of when they trap.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use isa::Instr;
use isa::instr::{decode, length};
use memory::{GuestPhysAddr, GuestRam};

/// The offsets of those instructions in the page at `page`.
pub(crate) fn loud_sites(ram: &GuestRam, page: GuestPhysAddr) -> Vec<u64> {
    // Looked at before by whoever wants to execute it, or here.
    let Some(words) = ram.host_address(page).and_then(|_| ram.table(page)) else { return Vec::new() };
    let words = words.iter().map(|word| word.load(Ordering::Relaxed));
    if !may_have_loud(words.clone()) {
        return Vec::new();
    }
    let parcels: Vec<u16> =
        words.flat_map(|word| [0, 16, 32, 48].map(|shift| (word >> shift) as u16)).collect();
    sites_in(&parcels)
}

/// Whether the bits of a loud instruction are there at all, across two others or not. Most pages have none: this looks for
/// the opcode, four parcels at a time.
fn may_have_loud(words: impl Iterator<Item = u64>) -> bool {
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        if may_have_system(word) {
            let both = u128::from(words.peek().copied().unwrap_or(0)) << 64 | u128::from(word);
            if [0, 16, 32, 48].into_iter().any(|shift| is_loud((both >> shift) as u32)) {
                return true;
            }
        }
    }
    false
}

/// Whether a parcel in the word could be the first half of SRET, WFI or one of the fences: opcode SYSTEM, rd = 0,
/// funct3 = 0.
const fn may_have_system(word: u64) -> bool {
    const PATTERN: u64 = 0x0073_0073_0073_0073;
    // The sixteen bits but the lowest of rs1 are given.
    let different = (word ^ PATTERN) & 0x7fff_7fff_7fff_7fff;
    (different.wrapping_sub(0x0001_0001_0001_0001) & !different & 0x8000_8000_8000_8000) != 0
}

fn sites_in(parcels: &[u16]) -> Vec<u64> {
    let [first, second] = [sweep(parcels, 0), sweep(parcels, 1)];
    // Both in order.
    first.into_iter().filter(|offset| second.binary_search(offset).is_ok()).collect()
}

/// The offsets of the loud instructions that are met reading from a parcel on.
fn sweep(parcels: &[u16], start: usize) -> Vec<u64> {
    let mut found = Vec::new();
    let mut at = start;
    while let (Some(&low), Some(&high)) = (parcels.get(at), parcels.get(at.wrapping_add(1))) {
        let long = length(low) == 4;
        if long && is_loud(u32::from(high) << 16 | u32::from(low)) {
            found.push(2 * at as u64);
        }
        at = at.wrapping_add(if long { 2 } else { 1 });
    }
    found
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
                assert_eq!(sites_in(&parcels), [200 + 2 * shift as u64], "{code:x?}");
            }
        }
        assert!(!quick(&page(&[])));
    }

    #[test]
    fn what_lies_across_two_instructions_is_none() {
        // lui zero, 0x73..; c.addi: the first half of SRET is the second of a long instruction.
        assert_eq!(sites_in(&page(&[0x0037, SRET[0], SRET[1]])), []);
    }

    #[test]
    fn an_instruction_that_the_pages_end_cuts_is_left_alone() {
        let mut parcels = page(&[]);
        parcels[PARCELS - 1] = SRET[0];
        assert_eq!(sites_in(&parcels), []);
    }

    #[test]
    fn other_system_instructions_are_not_loud() {
        // ecall, ebreak, mret, csrr a0, sstatus
        for code in [[0x0073, 0x0000], [0x0073, 0x0010], [0x0073, 0x3020], [0x2573, 0x1000]] {
            assert_eq!(sites_in(&page(&code)), [], "{code:x?}");
            assert!(!quick(&page(&code)), "{code:x?}");
        }
    }
}
