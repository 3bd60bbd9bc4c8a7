//! Disks: the first is written, the second is read-only, what is written to the third is dropped at the end. What they hold
//! at first is told in `xtask/src/test/disks.rs`.
#![no_std]
#![no_main]

use features::disk::{DISCARD, Disk, FLUSH, Memory, READ_ONLY, WRITE_ZEROES, kind};
use guest_rt::virtio::{Piece, to_read, to_write};
use guest_rt::{check, csr_write};

features::feature!(checks);

const OK: u8 = 0;
const FAILED: u8 = 1;
const SECTOR: usize = 512;

static MEMORY: [Memory; 3] = [const { Memory::new() }; 3];

fn checks(_hart: u64, _device_tree: u64) {
    csr_write!(SIE, 0);
    // A guest's disks are in its first slots, the last disk in the first of them.
    let disks = [2, 1, 0].map(|slot| Disk::open(slot, &MEMORY[slot as usize]));
    check!("there_are_three_disks", disks.iter().all(Option::is_some));
    let [Some(mut written), Some(mut readonly), Some(mut snapshot)] = disks else { return };
    shows_itself(&written, &readonly, &snapshot);
    for (disk, number) in [&mut written, &mut readonly, &mut snapshot].into_iter().zip(1..) {
        holds_its_content(disk, number);
        tells_its_serial_number(disk);
    }
    writes(&mut written, 1);
    writes(&mut snapshot, 3);
    is_not_written(&mut readonly);
    for disk in [&mut written, &mut readonly, &mut snapshot] {
        keeps_bounds(disk);
        flushes(disk);
    }
    zeroes(&mut written);
    zeroes(&mut snapshot);
    discards(&mut written);
    does_many_at_once(&mut written);
    is_reset_while_it_works(written);
}

/// What a sector of a disk holds at first.
fn content(disk: usize, sector: usize) -> [u8; SECTOR] {
    core::array::from_fn(|at| (sector * 7 + at + 31 * disk) as u8)
}

/// The sector, by itself; all ones where it cannot be read.
fn read(disk: &mut Disk, sector: u64) -> [u8; SECTOR] {
    let mut bytes = [0xff; SECTOR];
    let status = disk.run(kind::READ, sector, &[to_write(&mut bytes)]);
    if status == OK { bytes } else { [0xff; SECTOR] }
}

fn shows_itself(written: &Disk, readonly: &Disk, snapshot: &Disk) {
    let capacities = [written, readonly, snapshot].map(Disk::capacity);
    check!("capacities_are_the_files", capacities, [8192, 4096, 4096]);
    let is_readonly = [written, readonly, snapshot].map(|disk| disk.features() & READ_ONLY != 0);
    check!("one_is_readonly", is_readonly, [false, true, false]);
    check!("all_flush", [written, readonly, snapshot].iter().all(|disk| disk.features() & FLUSH != 0));
}

fn holds_its_content(disk: &mut Disk, number: usize) {
    for sector in [0, 1, 100, 4095] {
        check!("a_sector_holds_what_the_file_does", read(disk, sector) == content(number, sector as usize));
    }
    check!("a_request_interrupts", disk.interrupted());
    // In pieces that do not end with sectors.
    let mut bytes = [0; 3 * SECTOR];
    let (first, rest) = bytes.split_at_mut(100);
    let (second, third) = rest.split_at_mut(700);
    let pieces = [to_write(first), to_write(second), to_write(third)];
    check!("a_transfer_may_be_in_pieces", disk.run(kind::READ, 7, &pieces), OK);
    let right = bytes.chunks(SECTOR).zip(7..).all(|(bytes, sector)| *bytes == content(number, sector));
    check!("pieces_are_filled_one_after_the_other", right);
}

fn tells_its_serial_number(disk: &mut Disk) {
    let mut serial = [0xff; 20];
    check!("a_disk_tells_its_serial_number", disk.run(kind::IDENTIFY, 0, &[to_write(&mut serial)]), OK);
    check!("which_is_not_empty", serial[0] != 0 && serial[0] != 0xff);
}

fn writes(disk: &mut Disk, number: usize) {
    let data: [u8; 4 * SECTOR] = core::array::from_fn(|at| (at * 13 / 5) as u8);
    let (first, second) = data.split_at(SECTOR + 40);
    check!("sectors_are_written", disk.run(kind::WRITE, 20, &[to_read(first), to_read(second)]), OK);
    for sector in 0..4 {
        let right = read(disk, 20 + sector as u64)[..] == data[sector * SECTOR..][..SECTOR];
        check!("what_was_written_is_read", right);
    }
    for sector in [19, 24] {
        check!("neighbours_stay", read(disk, sector as u64) == content(number, sector));
    }
    // Old and new in one transfer.
    let mut bytes = [0; 6 * SECTOR];
    check!("old_and_new_are_read_together", disk.run(kind::READ, 19, &[to_write(&mut bytes)]), OK);
    check!("the_new_is_right", bytes[SECTOR..5 * SECTOR] == data);
    check!("the_old_is_right", bytes[5 * SECTOR..] == content(number, 24));
}

fn is_not_written(disk: &mut Disk) {
    let data = [0xaa; SECTOR];
    check!("a_readonly_disk_fails_writes", disk.run(kind::WRITE, 5, &[to_read(&data)]), FAILED);
    check!("and_is_as_it_was", read(disk, 5) == content(2, 5));
}

fn keeps_bounds(disk: &mut Disk) {
    let capacity = disk.capacity();
    let mut bytes = [0; 2 * SECTOR];
    check!("the_last_sector_is_read", read(disk, capacity - 1) != [0xff; SECTOR]);
    for sector in [capacity - 1, capacity, u64::MAX, u64::MAX >> 9] {
        let status = disk.run(kind::READ, sector, &[to_write(&mut bytes)]);
        check!("beyond_the_end_nothing_is_read", status, FAILED);
    }
    let odd = disk.run(kind::READ, 0, &[to_write(&mut bytes[..SECTOR + 1])]);
    check!("half_a_sector_is_not_read", odd, FAILED);
    check!("an_unknown_request_is_refused", disk.run(77, 0, &[to_write(&mut bytes)]), 2);
}

fn flushes(disk: &mut Disk) {
    check!("a_flush_ends_well", disk.run(kind::FLUSH, 0, &[]), OK);
}

/// The range of a discard or of zeroes.
fn range(sector: u64, count: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sector.to_le_bytes());
    bytes[8..12].copy_from_slice(&count.to_le_bytes());
    bytes
}

fn zeroes(disk: &mut Disk) {
    if disk.features() & WRITE_ZEROES == 0 {
        return;
    }
    let before = read(disk, 1299);
    check!("zeroes_are_written", disk.run(kind::WRITE_ZEROES, 0, &[to_read(&range(1300, 200))]), OK);
    for sector in [1300, 1400, 1499] {
        check!("zeroes_are_read", read(disk, sector) == [0; SECTOR]);
    }
    check!("zeroes_begin_where_they_should", read(disk, 1299) == before);
    check!("and_end_there", read(disk, 1500) != [0; SECTOR]);
    let beyond = disk.run(kind::WRITE_ZEROES, 0, &[to_read(&range(disk.capacity() - 1, 2))]);
    check!("zeroes_stay_in_bounds", beyond, FAILED);
}

fn discards(disk: &mut Disk) {
    if disk.features() & DISCARD == 0 {
        return;
    }
    check!("sectors_are_discarded", disk.run(kind::DISCARD, 0, &[to_read(&range(2000, 64))]), OK);
    check!("a_discard_leaves_the_rest", read(disk, 1999) == content(1, 1999));
    let beyond = disk.run(kind::DISCARD, 0, &[to_read(&range(disk.capacity(), 1))]);
    check!("a_discard_stays_in_bounds", beyond, FAILED);
}

fn does_many_at_once(disk: &mut Disk) {
    const MANY: usize = 20;
    let data: [[u8; SECTOR]; MANY] = core::array::from_fn(|n| [n as u8 ^ 0x5a; SECTOR]);
    let requests = data.each_ref().map(|data| {
        let sector = 3000 + u64::from(data[0]) * 8;
        disk.submit(kind::WRITE, sector, &[to_read(data)])
    });
    disk.notify();
    check!("many_requests_end", disk.wait(MANY as u16));
    check!("many_requests_end_well", requests.iter().all(|request| disk.status(*request) == OK));
    let right = data.iter().all(|data| read(disk, 3000 + u64::from(data[0]) * 8) == *data);
    check!("each_wrote_its_own", right);
}

/// A driver may give up a device at any time: nothing is written to its memory afterwards.
fn is_reset_while_it_works(mut disk: Disk) {
    let mut bytes = [0x11; 4 * SECTOR];
    let all: Piece = to_write(&mut bytes);
    for _ in 0..10 {
        disk.submit(kind::READ, 500, &[all]);
    }
    disk.notify();
    // This resets it first.
    let again = Disk::open(2, &MEMORY[2]);
    check!("a_disk_can_be_reset_while_it_works", again.is_some());
    let Some(mut again) = again else { return };
    let now = bytes;
    check!("and_works_again", read(&mut again, 500) == content(1, 500));
    guest_rt::time::spin(guest_rt::time::FREQUENCY / 100);
    // SAFETY: our own memory; the compiler must not know what it holds.
    let later = unsafe { (&raw const bytes).read_volatile() };
    check!("nothing_comes_after_a_reset", now == later);
}
