//! Requests that come in parts.

use super::*;

#[test]
fn a_large_request_comes_in_parts() {
    let mut bench = Bench::plain();
    bench.offer(3, IN, 100, &[], &large());
    let parts: Vec<_> = core::iter::from_fn(|| bench.next()).collect();
    assert_eq!(
        parts.iter().map(|part| part.segments.clone()).collect::<Vec<_>>(),
        [
            vec![(DATA, 1 << 20), (DATA + 512, 1 << 20)],
            vec![(DATA + 512 + (1 << 20), (1 << 20) - 512), (DATA + 4, 1024), (DATA, (1 << 20) - 512)],
            vec![(DATA + (1 << 20) - 512, 512)],
        ]
    );
    assert_eq!(parts.iter().map(|part| part.sector).collect::<Vec<_>>(), [100, 100 + 4096, 100 + 8192]);
    for part in [2, 0, 1] {
        assert_eq!(bench.ring.used(&bench.ram), None);
        assert_eq!(bench.slot.in_flight(), 1);
        bench.complete(parts[part].token, Status::Ok);
    }
    assert_eq!(bench.ring.used(&bench.ram), Some((3, (1 << 22) + 512 + 1)));
}

#[test]
fn parts_that_can_no_longer_help_are_not_handed_out() {
    let mut bench = Bench::plain();
    bench.offer(3, OUT, 100, &large(), &[]);
    let first = bench.next().unwrap();
    let second = bench.next().unwrap();
    bench.complete(first.token, Status::IoErr);
    assert_eq!(bench.next(), None);
    assert_eq!(bench.ring.used(&bench.ram), None);
    bench.complete(second.token, Status::Ok);
    assert_eq!((bench.status(), bench.ring.used(&bench.ram)), (1, Some((3, 1))));
    // Reports of what nobody has are ignored.
    bench.complete(second.token, Status::Ok);
    assert_eq!(bench.ring.used(&bench.ram), None);
}

/// A table of `count` buffers of `len` bytes each, between a header and a status; the status is that of request `head`.
fn offer_pieces(bench: &mut Bench, kind: u32, count: u32, len: u32) {
    let table = DATA + 0x1_0000;
    bench.header(kind, 1);
    let flags = if kind == IN { WRITE } else { 0 };
    put(&bench.ram, table, &descriptor((HEADER, 16), NEXT, 1));
    for n in 1..=count {
        let part = (DATA + u64::from(len * (n - 1)), len);
        put(&bench.ram, table + 16 * u64::from(n), &descriptor(part, NEXT | flags, n as u16 + 1));
    }
    put(&bench.ram, table + 16 * u64::from(count + 1), &descriptor((STATUS, 1), WRITE, 0));
    bench.ring.descriptor(&bench.ram, 7, (table, 16 * (count + 2)), INDIRECT, 0);
    bench.ring.offer(&bench.ram, 7);
}

#[test]
fn a_request_of_more_pieces_than_a_part_has_is_cut_between_sectors() {
    for (kind, count, len) in
        [(IN, 1022, 512), (OUT, 1022, 512), (IN, 1016, 64), (OUT, 1000, 64), (IN, 512, 5)]
    {
        let mut bench = Bench::plain();
        offer_pieces(&mut bench, kind, count, len);
        let (mut at, mut sector, mut tokens) = (DATA, 1, Vec::new());
        while let Some(part) = bench.next() {
            assert_eq!(part.sector, sector);
            assert!((1..=MAX_SEGMENTS as usize).contains(&part.segments.len()));
            let bytes: u64 = part.segments.iter().map(|segment| u64::from(segment.1)).sum();
            assert!(bytes > 0 && bytes.is_multiple_of(SECTOR));
            for (address, len) in part.segments {
                assert_eq!(address, at, "one behind the other, and nothing twice");
                at += u64::from(len);
            }
            sector += bytes / SECTOR;
            tokens.push(part.token);
        }
        assert_eq!(at, DATA + u64::from(count * len));
        assert!(tokens.len() > 1);
        for token in tokens {
            assert_eq!(bench.ring.used(&bench.ram), None);
            bench.complete(token, Status::Ok);
        }
        let written = if kind == IN { count * len + 1 } else { 1 };
        assert_eq!((bench.status(), bench.ring.used(&bench.ram)), (0, Some((7, written))));
        assert_eq!(bench.slot.in_flight(), 0);
    }
}

#[test]
fn a_sector_in_more_pieces_than_a_part_has_fails_the_request() {
    let mut bench = Bench::plain();
    offer_pieces(&mut bench, OUT, 512, 1);
    assert_eq!(bench.next(), None);
    assert_eq!((bench.status(), bench.ring.used(&bench.ram), bench.slot.in_flight()), (1, Some((7, 1)), 0));
    // Behind parts that can be had, it waits for them.
    let mut bench = Bench::plain();
    offer_pieces(&mut bench, OUT, 512, 1);
    let table = DATA + 0x1_0000;
    put(&bench.ram, table + 16, &descriptor((DATA, 1024), NEXT, 2));
    put(&bench.ram, table + 32, &descriptor((DATA, 1), NEXT, 3));
    bench.ring.offer(&bench.ram, 7);
    put(&bench.ram, table + 16 * 513, &descriptor((DATA, 1), NEXT, 514));
    put(&bench.ram, table + 16 * 514, &descriptor((STATUS, 1), WRITE, 0));
    bench.ring.descriptor(&bench.ram, 7, (table, 16 * 515), INDIRECT, 0);
    let first = bench.next().unwrap();
    assert_eq!(first.segments, [(DATA, 1024)]);
    assert_eq!((bench.next(), bench.ring.used(&bench.ram)), (None, None));
    bench.complete(first.token, Status::Ok);
    assert_eq!((bench.status(), bench.ring.used(&bench.ram)), (1, Some((7, 1))));
}

#[test]
fn what_is_offered_behind_a_request_that_fails_is_not_forgotten() {
    let mut bench = Bench::plain();
    offer_pieces(&mut bench, OUT, 512, 1);
    bench.ring.descriptor(&bench.ram, 8, (DATA + 0x1_0000, 16 * 514), INDIRECT, 0);
    bench.ring.offer(&bench.ram, 8);
    for head in [7, 8] {
        assert_eq!((bench.next(), bench.is_behind()), (None, true));
        assert_eq!(bench.ring.used(&bench.ram), Some((head, 1)));
    }
    assert_eq!((bench.next(), bench.is_behind()), (None, false));
}

#[test]
fn one_call_reads_a_bounded_number_of_pieces() {
    let mut bench = Bench::plain();
    // Many chains that are one long table, of a type that is answered at once.
    offer_pieces(&mut bench, 99, 600, 512);
    for head in 8..16 {
        bench.ring.descriptor(&bench.ram, head, (DATA + 0x1_0000, 16 * 602), INDIRECT, 0);
        bench.ring.offer(&bench.ram, head);
    }
    let mut answered = Vec::new();
    while answered.is_empty() || bench.is_behind() {
        assert_eq!(bench.next(), None);
        answered.push(core::iter::from_fn(|| bench.ring.used(&bench.ram)).count());
    }
    assert_eq!(answered, [2, 2, 2, 2, 1]);
    assert!(!bench.is_broken());
}
