//! Guest RAM against a model: a vector of bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, HostPhysAddr, InitialData, NotRam};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

const BASE: u64 = 0x8000_0000;
const HOST_BASE: HostPhysAddr = HostPhysAddr(0x1_2340_0000);
const SIZE: u64 = 2 * BLOCK_SIZE;

fn memory() -> &'static [AtomicU64] {
    let dirty: Vec<_> = (0..SIZE / 8).map(|_| AtomicU64::new(0x5555_5555_5555_5555)).collect();
    dirty.leak()
}

fn ram(words: &'static [AtomicU64], initial: Vec<InitialData>) -> GuestRam {
    GuestRam::new(words, GuestPhysAddr(BASE), HOST_BASE, initial)
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    ReadWord(u64),
    CompareExchange(u64, bool, u64),
    Forget,
}

/// Near the ends, the border of the blocks, and anywhere.
fn address() -> impl Strategy<Value = u64> {
    let border = select(&[BASE, BASE + BLOCK_SIZE, BASE + SIZE][..]);
    prop_oneof![
        6 => (border, 0..64u64).prop_map(|(border, distance)| border + distance - 32),
        1 => BASE..BASE + SIZE,
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (address(), 0..40usize).prop_map(|(address, len)| Step::Read(address, len)),
        8 => (address(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(a, bytes)| Step::Write(a, bytes)),
        8 => address().prop_map(Step::ReadWord),
        4 => (address(), any::<bool>(), any::<u64>()).prop_map(|(a, right, new)| Step::CompareExchange(a, right, new)),
        1 => Just(Step::Forget),
    ]
}

/// Pieces of initial data that do not overlap: sizes of gaps and pieces in words, in turn.
fn pieces() -> impl Strategy<Value = Vec<InitialData>> {
    let sizes = prop_oneof![0..40u64, BLOCK_SIZE / 8 - 20..BLOCK_SIZE / 8 + 20];
    prop::collection::vec((sizes, 0..100usize, any::<u64>()), 0..5).prop_map(|pieces| {
        let mut at = BASE;
        let mut placed = Vec::new();
        for (gap, len, seed) in pieces {
            let words: Vec<_> = (0..len as u64).map(|n| seed.wrapping_mul(n + 1) | 1).collect();
            let address = GuestPhysAddr(at + gap * 8);
            at = address.0 + len as u64 * 8;
            placed.push(InitialData { address, words: words.leak() });
        }
        placed.reverse();
        placed
    })
}

fn initial_bytes(pieces: &[InitialData]) -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    for piece in pieces {
        let start = (piece.address.0 - BASE) as usize;
        for (n, byte) in piece.words.iter().flat_map(|word| word.to_le_bytes()).enumerate() {
            // What lies beyond the end of RAM is left out.
            if let Some(place) = bytes.get_mut(start + n) {
                *place = byte;
            }
        }
    }
    bytes
}

/// Where the bytes at `address` are in the model, if all of them are RAM.
fn range(address: u64, len: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
    let end = start.checked_add(len)?;
    (end <= SIZE as usize).then_some(start..end)
}

fn word(bytes: &[u8], address: u64) -> Option<u64> {
    let range = range(address, 8).filter(|_| address.is_multiple_of(8))?;
    Some(u64::from_le_bytes(bytes[range].try_into().unwrap()))
}

/// *zeroed-ram*
#[test]
fn ram_holds_its_initial_data_and_what_was_written_since() {
    let words = memory();
    let cases = (pieces(), prop::collection::vec(step(), 1..60));
    let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
    let verdict = TestRunner::new(config).run(&cases, |(pieces, steps)| {
        // Other guests' memory: nothing of it may be seen.
        words[0].store(u64::MAX, Ordering::Relaxed);
        let ram = ram(words, pieces.clone());
        let mut model = initial_bytes(&pieces);
        for step in steps {
            match step {
                Step::Read(address, len) => {
                    let mut bytes = vec![0xee; len];
                    let verdict = ram.read(GuestPhysAddr(address), &mut bytes);
                    prop_assert_eq!(ram.contains(GuestPhysAddr(address), len as u64), verdict.is_ok());
                    match range(address, len) {
                        Some(range) => prop_assert_eq!(&bytes[..], &model[range]),
                        None => prop_assert_eq!(verdict, Err(NotRam)),
                    }
                }
                Step::Write(address, bytes) => {
                    let verdict = ram.write(GuestPhysAddr(address), &bytes);
                    prop_assert_eq!(verdict.is_ok(), range(address, bytes.len()).is_some());
                    if let Some(range) = range(address, bytes.len()) {
                        model[range].copy_from_slice(&bytes);
                    }
                }
                Step::ReadWord(address) => {
                    prop_assert_eq!(ram.read_word(GuestPhysAddr(address)), word(&model, address));
                }
                Step::CompareExchange(address, right, new) => {
                    let old = word(&model, address);
                    let current = if right { old.unwrap_or(0) } else { old.unwrap_or(0) ^ 1 };
                    let done = ram.compare_exchange(GuestPhysAddr(address), current, new);
                    prop_assert_eq!(done, old.map(|_| right));
                    if done == Some(true) {
                        model[range(address, 8).unwrap()].copy_from_slice(&new.to_le_bytes());
                    }
                }
                Step::Forget => {
                    ram.forget();
                    model = initial_bytes(&pieces);
                }
            }
        }
        Ok(())
    });
    if let Err(failure) = verdict {
        panic!("{failure}");
    }
}

#[test]
fn a_host_address_is_given_for_ram_only_and_its_block_is_filled_in_first() {
    let words = memory();
    let ram = ram(words, vec![InitialData { address: GuestPhysAddr(BASE + BLOCK_SIZE + 8), words: &[42] }]);
    let second = (BLOCK_SIZE / 8) as usize;
    let address = ram.host_address(GuestPhysAddr(BASE + BLOCK_SIZE + 0x123));
    assert_eq!(address, Some(HostPhysAddr(HOST_BASE.0 + BLOCK_SIZE + 0x123)));
    assert_eq!(words[second].load(Ordering::Relaxed), 0);
    assert_eq!(words[second + 1].load(Ordering::Relaxed), 42);
    assert_ne!(words[0].load(Ordering::Relaxed), 0, "the other block was not asked for");
    for outside in [0, BASE - 1, BASE + SIZE, u64::MAX] {
        assert_eq!(ram.host_address(GuestPhysAddr(outside)), None);
    }
}

/// *checked-ram*
#[test]
fn ram_owns_its_host_memory_and_no_byte_more() {
    let ram = ram(memory(), vec![]);
    let end = HostPhysAddr(HOST_BASE.0 + SIZE);
    assert!(ram.owns_host(HOST_BASE, SIZE));
    assert!(ram.owns_host(HostPhysAddr(end.0 - 1), 1));
    assert!(!ram.owns_host(HOST_BASE, SIZE + 1));
    assert!(!ram.owns_host(HostPhysAddr(HOST_BASE.0 - 1), 2));
    assert!(!ram.owns_host(end, 1));
    assert!(!ram.owns_host(HostPhysAddr(u64::MAX), 1));
    assert!(!ram.owns_host(HOST_BASE, u64::MAX));
}

#[test]
fn harts_that_look_at_a_block_at_once_all_find_it_filled_in() {
    let words = memory();
    let last = (BASE + BLOCK_SIZE - 8, 0x1234_5678_9abc_def0);
    let initial: &'static [u64] = vec![last.1].leak();
    for _ in 0..20 {
        let ram = ram(words, vec![InitialData { address: GuestPhysAddr(last.0), words: initial }]);
        words[(BLOCK_SIZE / 8 - 1) as usize].store(0, Ordering::Relaxed);
        let seen = std::thread::scope(|scope| {
            let harts: Vec<_> =
                (0..4).map(|_| scope.spawn(|| ram.read_word(GuestPhysAddr(last.0)))).collect();
            harts.into_iter().map(|hart| hart.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(seen, [Some(last.1); 4]);
    }
}

#[test]
fn writes_of_ours_and_filling_in_are_counted_for_the_sake_of_fence_i() {
    let ram = ram(memory(), vec![]);
    let mut counts = vec![ram.writes()];
    ram.read_word(GuestPhysAddr(BASE)).unwrap();
    counts.push(ram.writes());
    ram.write(GuestPhysAddr(BASE), &[1]).unwrap();
    counts.push(ram.writes());
    ram.note_code_write();
    counts.push(ram.writes());
    assert!(counts.is_sorted_by(|a, b| a < b), "{counts:?}");
    ram.read_word(GuestPhysAddr(BASE)).unwrap();
    ram.write(GuestPhysAddr(0), &[1]).unwrap_err();
    assert_eq!(ram.writes(), counts[3]);
}

#[test]
#[should_panic(expected = "whole number of blocks")]
fn ram_is_whole_blocks() {
    ram(&memory()[8..], vec![]);
}

#[test]
#[should_panic(expected = "unaligned")]
fn ram_begins_at_a_block() {
    GuestRam::new(memory(), GuestPhysAddr(BASE + 0x1000), HOST_BASE, vec![]);
}
