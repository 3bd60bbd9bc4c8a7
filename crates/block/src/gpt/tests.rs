use super::*;
use alloc::vec;
use proptest::prelude::*;

const CAPACITY: u64 = 2048;

/// A disk's table: the header and the entries.
fn table(partitions: &[(&str, u64, u64)]) -> (Vec<u8>, Vec<u8>) {
    let mut entries = vec![0; 128 * ENTRY];
    for (index, (name, first, last)) in partitions.iter().enumerate() {
        let entry = &mut entries[index * ENTRY..][..ENTRY];
        if name.is_empty() {
            continue;
        }
        entry[..16].fill(0xaf);
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
        for (to, unit) in entry[56..].chunks_exact_mut(2).zip(name.encode_utf16()) {
            to.copy_from_slice(&unit.to_le_bytes());
        }
    }
    let mut header = vec![0; 512];
    header[..8].copy_from_slice(SIGNATURE);
    header[8..12].copy_from_slice(&0x0001_0000u32.to_le_bytes());
    header[12..16].copy_from_slice(&92u32.to_le_bytes());
    header[24..32].copy_from_slice(&1u64.to_le_bytes());
    header[32..40].copy_from_slice(&(CAPACITY - 1).to_le_bytes());
    header[40..48].copy_from_slice(&34u64.to_le_bytes());
    header[48..56].copy_from_slice(&(CAPACITY - 34).to_le_bytes());
    header[72..80].copy_from_slice(&2u64.to_le_bytes());
    header[80..84].copy_from_slice(&128u32.to_le_bytes());
    header[84..88].copy_from_slice(&(ENTRY as u32).to_le_bytes());
    header[88..92].copy_from_slice(&CHECKSUM.checksum(&entries).to_le_bytes());
    sign(&mut header);
    (header, entries)
}

fn sign(header: &mut [u8]) {
    header[16..20].fill(0);
    let checksum = CHECKSUM.checksum(&header[..92]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
}

fn find(header: &[u8], entries: &[u8], which: Which) -> Result<Range, GptError> {
    Header::read(header, FIRST_HEADER, CAPACITY)?.partition(entries, which)
}

#[test]
fn a_partition_is_found_by_its_number_and_its_name() {
    let (header, entries) = table(&[("boot", 64, 127), ("", 0, 0), ("größe", 128, 1000)]);
    let parsed = Header::read(&header, FIRST_HEADER, CAPACITY).unwrap();
    assert_eq!(parsed.entries(), Range { first: 2, count: 32 });
    assert_eq!(find(&header, &entries, Which::Number(1)), Ok(Range { first: 64, count: 64 }));
    assert_eq!(find(&header, &entries, Which::Number(3)), Ok(Range { first: 128, count: 873 }));
    assert_eq!(find(&header, &entries, Which::Name("größe")), Ok(Range { first: 128, count: 873 }));
    for number in [0, 2, 4, 128, 129, u32::MAX] {
        assert_eq!(find(&header, &entries, Which::Number(number)), Err(GptError::NoSuchNumber));
    }
    assert_eq!(find(&header, &entries, Which::Name("bo")), Err(GptError::NoSuchName));
    assert_eq!(find(&header, &entries, Which::Name("")), Err(GptError::NoSuchName));
}

#[test]
fn a_name_that_several_have_is_refused() {
    let (header, entries) = table(&[("data", 64, 127), ("data", 128, 255)]);
    assert_eq!(find(&header, &entries, Which::Name("data")), Err(GptError::SeveralSuchNames));
}

#[test]
fn a_partition_outside_the_usable_range_is_refused() {
    for (first, last) in [(33, 100), (64, CAPACITY - 33), (64, u64::MAX), (100, 99), (0, 0)] {
        let (header, entries) = table(&[("x", first, last)]);
        assert_eq!(find(&header, &entries, Which::Number(1)), Err(GptError::OutOfBounds), "{first}..={last}");
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    let (header, entries) = table(&[("x", 64, 127)]);
    for at in 0..92 {
        let mut changed = header.clone();
        changed[at] ^= 1;
        let expected = if at < 8 { GptError::NoTable } else { GptError::BadHeader };
        assert_eq!(find(&changed, &entries, Which::Number(1)), Err(expected), "byte {at}");
    }
    let mut changed = entries.clone();
    changed[5000] ^= 1;
    assert_eq!(find(&header, &changed, Which::Number(1)), Err(GptError::BadEntries));
    assert_eq!(find(&header, &entries[..1000], Which::Number(1)), Err(GptError::BadEntries));
    assert_eq!(Header::read(&header, CAPACITY - 1, CAPACITY), Err(GptError::BadHeader));
    assert_eq!(Header::read(&header, FIRST_HEADER, CAPACITY - 40), Err(GptError::BadHeader));
    assert_eq!(Header::read(&[], FIRST_HEADER, CAPACITY), Err(GptError::NoTable));
}

#[test]
fn a_table_that_is_too_long_is_refused() {
    let (mut header, _) = table(&[]);
    header[80..84].copy_from_slice(&513u32.to_le_bytes());
    sign(&mut header);
    assert_eq!(Header::read(&header, FIRST_HEADER, CAPACITY), Err(GptError::TooLong));
    header[80..84].copy_from_slice(&u32::MAX.to_le_bytes());
    header[84..88].copy_from_slice(&(1u32 << 31).to_le_bytes());
    sign(&mut header);
    assert_eq!(Header::read(&header, FIRST_HEADER, CAPACITY), Err(GptError::TooLong));
}

#[test]
fn a_real_table_is_read() {
    // The start of 8 MiB on which `sfdisk` has made two partitions.
    let disk = include_bytes!("fixtures/sfdisk.bin");
    let capacity = (8 << 20) / SECTOR;
    let header = Header::read(&disk[512..1024], FIRST_HEADER, capacity).unwrap();
    let Range { first, count } = header.entries();
    let entries = &disk[(first * SECTOR) as usize..((first + count) * SECTOR) as usize];
    let second = Ok(Range { first: 4096, count: 2048 });
    assert_eq!(header.partition(entries, Which::Number(2)), second);
    assert_eq!(header.partition(entries, Which::Name("second")), second);
    assert_eq!(header.partition(entries, Which::Name("first")), Ok(Range { first: 2048, count: 2048 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// A header that says anything, with a right checksum.
    #[test]
    fn whatever_a_table_says_a_partition_is_inside_the_disk(
        changes in prop::collection::vec((0usize..92, any::<u8>()), 0..8),
        in_entry in prop::collection::vec((0usize..ENTRY, any::<u8>()), 0..8),
        capacity in 0u64..4096,
        number in 0u32..4,
    ) {
        let (mut header, mut entries) = table(&[("x", 64, 127)]);
        in_entry.iter().for_each(|(at, value)| entries[*at] = *value);
        header[88..92].copy_from_slice(&CHECKSUM.checksum(&entries).to_le_bytes());
        changes.iter().for_each(|(at, value)| header[*at] = *value);
        sign(&mut header);
        if let Ok(header) = Header::read(&header, FIRST_HEADER, capacity) {
            let table = header.entries();
            prop_assert!(table.count * SECTOR <= MAX_ENTRIES && table.first + table.count <= capacity);
            if let Ok(range) = header.partition(&entries, Which::Number(number)) {
                prop_assert!(range.count > 0 && range.first + range.count <= capacity);
            }
        }
    }
}
