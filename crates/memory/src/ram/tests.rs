//! Guest RAM: what it holds before anybody writes, and how bytes, words and ranges end at its edges.

use super::*;
use alloc::vec;

const BASE: GuestPhysAddr = GuestPhysAddr(0x8000_0000);

fn ram(blocks: u64, initial: Vec<InitialData>) -> GuestRam {
    let dirty: Vec<_> = (0..blocks * BLOCK_SIZE / WORD).map(|_| AtomicU64::new(0xdead_beef)).collect();
    GuestRam::new(dirty.leak(), BASE, HostPhysAddr(0x4000_0000), initial)
}

#[test]
fn ram_is_zero_before_anyone_sees_it() {
    let ram = ram(2, vec![]);
    assert_eq!(ram.read_word(BASE), Some(0));
    assert_eq!(ram.read_word(GuestPhysAddr(0x803f_fff8)), Some(0));
    assert_eq!(ram.read_word(GuestPhysAddr(0x8040_0000)), None);
}

#[test]
fn an_untouched_block_is_not_written() {
    let ram = ram(2, vec![]);
    ram.read_word(BASE);
    assert_eq!(ram.words.last().unwrap().load(Ordering::Relaxed), 0xdead_beef);
}

#[test]
fn initial_data_may_cross_a_block_and_is_followed_by_zeros() {
    let data: &'static [u64] = (1..=39).collect::<Vec<u64>>().leak();
    let address = GuestPhysAddr(0x8020_0000 - 10 * 8);
    let ram = ram(2, vec![InitialData { address, words: data }]);
    assert_eq!(ram.read_word(GuestPhysAddr(address.0 - 8)), Some(0));
    for (i, value) in data.iter().enumerate() {
        assert_eq!(ram.read_word(address.wrapping_add(i as u64 * 8)), Some(*value));
    }
    assert_eq!(ram.read_word(address.wrapping_add(39 * 8)), Some(0));
}

#[test]
fn forget_brings_the_initial_data_back() {
    let ram = ram(1, vec![InitialData { address: BASE, words: &[7] }]);
    ram.write(BASE, &[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
    ram.forget();
    assert_eq!(ram.read_word(BASE), Some(7));
    assert_eq!(ram.read_word(GuestPhysAddr(BASE.0 + 8)), Some(0));
}

#[test]
fn bytes_are_written_without_disturbing_their_neighbours() {
    let ram = ram(1, vec![InitialData { address: BASE, words: &[u64::MAX, u64::MAX] }]);
    ram.write(GuestPhysAddr(BASE.0 + 7), &[0xaa, 0xbb]).unwrap();
    assert_eq!(ram.read_word(BASE), Some(0xaaff_ffff_ffff_ffff));
    let mut bytes = [0; 3];
    ram.read(GuestPhysAddr(BASE.0 + 7), &mut bytes).unwrap();
    assert_eq!(bytes, [0xaa, 0xbb, 0xff]);
}

#[test]
fn ranges_that_wrap_or_leave_ram_are_refused() {
    let ram = ram(1, vec![]);
    assert!(!ram.contains(GuestPhysAddr(u64::MAX), 2));
    assert!(!ram.contains(GuestPhysAddr(0x801f_ffff), 2));
    assert!(ram.contains(GuestPhysAddr(0x801f_ffff), 1));
    assert_eq!(ram.read(GuestPhysAddr(0x801f_ffff), &mut [0; 2]), Err(NotRam));
    assert_eq!(ram.write(GuestPhysAddr(0x7fff_ffff), &[0; 2]), Err(NotRam));
    assert_eq!(ram.compare_exchange(GuestPhysAddr(0x8000_0004), 0, 1), None);
}

#[test]
fn a_word_is_written_where_it_is_ram_and_aligned() {
    let ram = ram(1, vec![]);
    assert_eq!(ram.write_word(GuestPhysAddr(BASE.0 + 8), 5), Ok(()));
    assert_eq!(ram.read_words(BASE).map(|words| words[1]), Some(5));
    for address in [BASE.0 + 4, BASE.0 - 8, BASE.0 + BLOCK_SIZE] {
        assert_eq!(ram.write_word(GuestPhysAddr(address), 5), Err(NotRam));
    }
}

#[test]
fn parcels_are_read_at_every_even_address_of_a_page() {
    let ram = ram(2, Vec::new());
    let bytes: Vec<u8> = (0..32).collect();
    ram.write(BASE, &bytes).unwrap();
    for at in (0..28_u64).step_by(2) {
        let expected = bytes[at as usize..].first_chunk().copied().map(u32::from_le_bytes);
        assert_eq!(ram.read_parcels(BASE.wrapping_add(at)), expected);
    }
    let end = 2 * BLOCK_SIZE;
    for refused in [1, 4094, end - 2, end, end + 0x1000, 0_u64.wrapping_sub(4)] {
        assert_eq!(ram.read_parcels(BASE.wrapping_add(refused)), None, "{refused:#x}");
    }
    assert_eq!(ram.read_parcels(BASE.wrapping_add(4092)), Some(0));
    assert_eq!(ram.read_parcels(BASE.wrapping_add(end - 4)), Some(0));
}

#[test]
fn compare_exchange_wants_the_current_value() {
    let ram = ram(1, vec![]);
    assert_eq!(ram.compare_exchange(BASE, 1, 2), Some(false));
    assert_eq!(ram.compare_exchange(BASE, 0, 2), Some(true));
    assert_eq!(ram.read_word(BASE), Some(2));
}
