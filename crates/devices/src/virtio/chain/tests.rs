//! Chains as hostile drivers make them.

extern crate std;

use std::vec::Vec;

use memory::BLOCK_SIZE;

use super::*;
use crate::virtio::testing::{DATA, INDIRECT, NEXT, RAM, WRITE, descriptor, put, ram};

const SIZE: u16 = 8;
/// More than the queue has: a table may be longer.
const ROOM: usize = 20;
const TABLE: u64 = DATA + 0x1000;
const END: u64 = RAM + 2 * BLOCK_SIZE;

type Entry = ((u64, u32), u16, u16);

/// What becomes of `direct` in the queue's table and `table` in another: its readable and writable parts.
fn read(direct: &[Entry], table: &[Entry]) -> Result<(Vec<u64>, Vec<u64>), Broken> {
    let ram = ram();
    for (at, entries) in [(RAM, direct), (TABLE, table)] {
        for (n, (part, flags, next)) in entries.iter().enumerate() {
            put(&ram, at + 16 * n as u64, &descriptor(*part, *flags, *next));
        }
    }
    let mut chain = Chain::new(ROOM);
    chain.read(&ram, GuestPhysAddr(RAM), SIZE, 0)?;
    let addresses = |segments: &[Segment]| segments.iter().map(|segment| segment.address.0).collect();
    Ok((addresses(chain.readable()), addresses(chain.writable())))
}

#[test]
fn what_the_device_reads_comes_before_what_it_writes() {
    let parts = [((DATA, 1), NEXT, 1), ((DATA + 1, 1), NEXT | WRITE, 2), ((DATA + 2, 1), WRITE, 0)];
    assert_eq!(read(&parts, &[]), Ok((Vec::from([DATA]), Vec::from([DATA + 1, DATA + 2]))));
    let wrong = [((DATA, 1), NEXT | WRITE, 1), ((DATA, 1), 0, 0)];
    assert_eq!(read(&wrong, &[]), Err(Broken));
}

#[test]
fn loops_and_chains_longer_than_the_queue_or_the_room_end() {
    assert_eq!(read(&[((DATA, 1), NEXT, 0)], &[]), Err(Broken));
    assert_eq!(read(&[((DATA, 1), NEXT, 1), ((DATA, 1), NEXT, 0)], &[]), Err(Broken));
    let chain = |len: u16| -> Vec<Entry> {
        (0..len).map(|n| ((DATA, 1), if n + 1 < len { NEXT } else { 0 }, n + 1)).collect()
    };
    assert_eq!(read(&chain(SIZE), &[]).unwrap().0.len(), 8);
    assert_eq!(read(&[((DATA, 1), NEXT, SIZE)], &[]), Err(Broken), "no such descriptor");
    let indirect = |len: u16| read(&[((TABLE, 16 * u32::from(len)), INDIRECT, 0)], &chain(len));
    assert_eq!(indirect(SIZE).unwrap().0.len(), 8);
    assert_eq!(indirect(20).unwrap().0.len(), 20);
    assert_eq!(indirect(21), Err(Broken));
    let circle = [((DATA, 1), NEXT, 1), ((DATA, 1), NEXT, 0)];
    assert_eq!(read(&[((TABLE, 32), INDIRECT, 0)], &circle), Err(Broken), "a circle in a table");
}

#[test]
fn a_table_may_follow_direct_descriptors() {
    let direct = [((DATA, 1), NEXT, 1), ((TABLE, 32), INDIRECT, 0)];
    let table = [((DATA + 1, 1), NEXT | WRITE, 1), ((DATA + 2, 1), WRITE, 0)];
    assert_eq!(read(&direct, &table), Ok((Vec::from([DATA]), Vec::from([DATA + 1, DATA + 2]))));
}

#[test]
fn tables_are_whole_and_in_ram() {
    let one = [((DATA, 1), 0, 0)];
    for table in [(TABLE, 0), (TABLE, 8), (TABLE, 24), (END - 16, 32), (END, 16), (u64::MAX - 7, 16), (0, 16)]
    {
        assert_eq!(read(&[(table, INDIRECT, 0)], &one), Err(Broken), "{table:x?}");
    }
    let first = Ok((Vec::from([DATA]), Vec::new()));
    assert_eq!(
        read(&[((TABLE, 16), INDIRECT | NEXT, 1), ((DATA + 1, 1), 0, 0)], &one),
        first,
        "the table ends it"
    );
    let nested = read(&[((TABLE, 16), INDIRECT, 0)], &[((DATA, 16), INDIRECT, 0)]);
    assert_eq!(nested, first, "in a table the flag means nothing");
    assert_eq!(read(&[((TABLE, 16), INDIRECT, 0)], &[((DATA, 1), NEXT, 1)]), Err(Broken), "leaves its table");
    assert!(read(&[((TABLE, 16), INDIRECT | WRITE, 0)], &one).is_ok(), "the flag means nothing there");
}

#[test]
fn buffers_lie_in_ram_and_are_not_empty() {
    for part in [
        (DATA, 0),
        (END - 1, 2),
        (END, 1),
        (RAM - 1, 2),
        (0, 1),
        (u64::MAX, 1),
        (u64::MAX, 2),
        (RAM, u32::MAX),
    ] {
        for flags in [0, WRITE] {
            assert_eq!(read(&[(part, flags, 0)], &[]), Err(Broken), "{part:x?}");
        }
    }
    assert!(read(&[((END - 1, 1), 0, 0)], &[]).is_ok());
}

#[test]
fn bytes_are_cut_off_both_ends() {
    let ram = ram();
    let parts = [
        ((DATA, 4), NEXT, 1),
        ((DATA + 8, 4), NEXT, 2),
        ((DATA + 16, 1), WRITE | NEXT, 3),
        ((DATA + 24, 1), WRITE, 0),
    ];
    for (n, (part, flags, next)) in parts.iter().enumerate() {
        put(&ram, RAM + 16 * n as u64, &descriptor(*part, *flags, *next));
    }
    let mut chain = Chain::new(ROOM);
    chain.read(&ram, GuestPhysAddr(RAM), SIZE, 0).unwrap();
    assert_eq!(chain.cut_front(6), 1);
    assert_eq!(chain.readable()[1], Segment { address: GuestPhysAddr(DATA + 10), len: 2 });
    assert_eq!(chain.cut_last_byte(), Some(GuestPhysAddr(DATA + 24)));
    assert_eq!(chain.cut_last_byte(), Some(GuestPhysAddr(DATA + 16)));
    assert_eq!((chain.cut_last_byte(), chain.writable().len()), (None, 0));
}
