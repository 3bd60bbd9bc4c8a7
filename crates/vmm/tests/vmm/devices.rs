//! Loads and stores of every form that reach a device.

use devices::Board;
use devices::virtio::Slot;
use devices::virtio::block::{Block, Disk, Status, Token};
use devices::{SlotId, SlotSet};
use isa::csr::{CsrAddr, sstatus};
use isa::paging::Pte;
use isa::{Exception, Interrupt, Privilege};
use memory::GuestPhysAddr;
use trace::ExitKind;
use vmm::StopReason;

use crate::support::paging::{Tables, USED};
use crate::support::{ENTRY, Guest, RAM, UART, asm};

/// An empty virtio transport: "virt", version 2, device 0, "QEMU"; it answers every width.
const VIRTIO: u64 = 0x1000_1000;
const MAGIC: u64 = 0x7472_6976;
const VENDOR: u64 = 0x554d_4551;
/// The clock: words only.
const RTC: u64 = 0x0010_1000;
/// The test finisher: half-words and words only.
const FINISHER: u64 = 0x0010_0000;

/// Base registers: s0 and sp.
const S0: u32 = 8;
const SP: u32 = 2;
const A0: u32 = 10;

/// The load `bits` at `address`, to which its offset is added from s0 or sp.
fn load(guest: &mut Guest, bits: u32, offset: u64, address: u64) {
    let base = address.wrapping_sub(offset);
    guest.set_reg(S0, base);
    guest.set_reg(SP, base);
    guest.vcpu.frame.pc = ENTRY;
    guest.touch(bits, Exception::LoadPageFault, address).unwrap();
    let length = if bits & 3 == 3 { 4 } else { 2 };
    assert_eq!(guest.pc(), ENTRY + length, "{bits:#x}");
}

/// The store `bits` of x10 or f10 at `address`.
fn store(guest: &mut Guest, bits: u32, offset: u64, address: u64) -> Result<(), StopReason> {
    let base = address.wrapping_sub(offset);
    guest.set_reg(S0, base);
    guest.set_reg(SP, base);
    guest.vcpu.frame.pc = ENTRY;
    guest.touch(bits, Exception::StorePageFault, address)
}

#[test]
fn every_integer_load_extends_its_value_as_its_form_says() {
    // Bit 31 of the clock is set, and bit 7 of the scratch register.
    const NOW: u64 = 0x8000_0000;
    let signed = |value: i64| value as u64;
    let cases = [
        ("lb", asm::load(0, A0, S0, -1), u64::MAX, UART + 7, signed(-128)),
        ("lbu", asm::load(4, A0, S0, 2047), 2047, UART + 7, 0x80),
        ("lh", asm::load(1, A0, S0, 0), 0, VIRTIO, MAGIC & 0xffff),
        ("lhu", asm::load(5, A0, S0, 0), 0, VIRTIO + 12, VENDOR & 0xffff),
        ("lw", asm::load(2, A0, S0, -2048), signed(-2048), RTC, signed(NOW as i32 as i64)),
        ("lwu", asm::load(6, A0, S0, 4), 4, RTC, NOW),
        ("ld", asm::load(3, A0, S0, 8), 8, VIRTIO + 8, VENDOR << 32),
        ("c.lw", 0x4048, 4, RTC, signed(NOW as i32 as i64)),
        ("c.ld", 0x6408, 8, VIRTIO + 8, VENDOR << 32),
        ("c.lwsp", 0x4512, 4, RTC, signed(NOW as i32 as i64)),
        ("c.ldsp", 0x6522, 8, VIRTIO + 8, VENDOR << 32),
        ("c.lbu", 0x8008, 0, UART + 7, 0x80),
        ("c.lhu", 0x8408, 0, VIRTIO, MAGIC & 0xffff),
        ("c.lh", 0x8448, 0, VIRTIO, MAGIC & 0xffff),
    ];
    for (name, bits, offset, address, expected) in cases {
        let mut guest = Guest::new();
        guest.set_reg(A0, 0x80);
        store(&mut guest, asm::store(0, A0, S0, 0), 0, UART + 7).unwrap();
        // A tick is 100 ns.
        guest.host.now = NOW.div_ceil(100);
        let expected = if address == RTC { expected + (guest.host.now * 100 - NOW) } else { expected };
        guest.set_reg(A0, 0x1234_5678_9abc_def0);
        load(&mut guest, bits, offset, address);
        assert_eq!(guest.reg(A0), expected, "{name}");
        assert_eq!(guest.vcpu.exits.get(ExitKind::Mmio), 2, "{name}");
    }
}

/// *one-x0*
#[test]
fn a_load_into_x0_has_its_effect_on_the_device_and_none_on_the_hart() {
    let mut guest = Guest::new();
    guest.host.input.extend(b"ab");
    guest.machine.feed_console(&mut guest.host);
    load(&mut guest, asm::load(4, 0, S0, 0), 0, UART);
    assert_eq!(guest.reg(0), 0);
    guest.machine.feed_console(&mut guest.host);
    load(&mut guest, asm::load(4, A0, S0, 0), 0, UART);
    assert_eq!(guest.reg(A0), u64::from(b'b'), "the first byte was taken");
}

#[test]
fn a_guest_that_polls_gets_all_that_was_typed_at_once() {
    let mut guest = Guest::new();
    guest.host.input.extend(b"longer than the UART's FIFO");
    guest.machine.feed_console(&mut guest.host);
    for byte in b"longer than the UART's FIFO" {
        load(&mut guest, asm::load(4, A0, S0, 0), 0, UART);
        assert_eq!(guest.reg(A0), u64::from(*byte));
    }
}

#[test]
fn floating_point_loads_box_narrow_values_and_make_fs_dirty() {
    for (name, bits, offset, expected) in [
        ("flh", asm::float_load(1, A0, S0, 4), 4, MAGIC & 0xffff | !0xffff),
        ("flw", asm::float_load(2, A0, S0, -4), 4_u64.wrapping_neg(), MAGIC | 0xffff_ffff << 32),
        ("fld", asm::float_load(3, A0, S0, 0), 0, MAGIC | 2 << 32),
        ("c.fld", 0x2408, 8, MAGIC | 2 << 32),
        ("c.fldsp", 0x2522, 8, MAGIC | 2 << 32),
    ] {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::SSTATUS, sstatus::FS_INITIAL);
        load(&mut guest, bits, offset, VIRTIO);
        assert_eq!(guest.host.float[A0 as usize], expected, "{name}");
        assert_eq!(guest.csr(CsrAddr::SSTATUS) & sstatus::FS, sstatus::FS_DIRTY, "{name}");
        assert_eq!(guest.reg(A0), 0, "{name} leaves the integer register alone");
    }
}

#[test]
fn every_store_form_brings_its_value_to_the_device() {
    // 0x5555 written to the finisher powers off; a word has room for a code.
    let off = Err(StopReason::PowerOff);
    let failed = Err(StopReason::Failed(0x12));
    const FAIL_12: u64 = 0xffff_ffff_0012_3333;
    for (name, bits, offset, value, expected) in [
        ("sh", asm::store(1, A0, S0, -2), u64::MAX - 1, 0xffff_5555, off),
        ("sw", asm::store(2, A0, S0, 4), 4, FAIL_12, failed),
        ("c.sw", 0xc048, 4, FAIL_12, failed),
        ("c.swsp", 0xc22a, 4, FAIL_12, failed),
        ("c.sh", 0x8c08, 0, 0xffff_5555, off),
        ("fsh", asm::float_store(1, A0, S0, 0), 0, 0xffff_5555, off),
        ("fsw", asm::float_store(2, A0, S0, 0), 0, FAIL_12, failed),
    ] {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::SSTATUS, sstatus::FS_INITIAL);
        guest.set_reg(A0, value);
        guest.host.float[A0 as usize] = value;
        assert_eq!(store(&mut guest, bits, offset, FINISHER), expected, "{name}");
    }
    for (name, bits) in [("sb", asm::store(0, A0, S0, 0)), ("c.sb", 0x8808)] {
        let mut guest = Guest::new();
        guest.set_reg(A0, 0x1234_5600 | u64::from(b'x'));
        assert_eq!(store(&mut guest, bits, 0, UART), Ok(()), "{name}");
        assert_eq!(guest.host.output, b"x", "{name}");
    }
}

#[test]
fn a_store_of_a_double_word_reaches_only_a_device_that_takes_one() {
    for (name, bits, offset) in [
        ("sd", asm::store(3, A0, S0, 0), 0),
        ("c.sd", 0xe408, 8),
        ("c.sdsp", 0xe42a, 8),
        ("fsd", asm::float_store(3, A0, S0, 0), 0),
        ("c.fsd", 0xa408, 8),
        ("c.fsdsp", 0xa42a, 8),
    ] {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::SSTATUS, sstatus::FS_INITIAL);
        guest.set_reg(A0, 0x5555);
        guest.host.float[A0 as usize] = 0x5555;
        store(&mut guest, bits, offset, VIRTIO).unwrap();
        let length = if bits & 3 == 3 { 4 } else { 2 };
        assert_eq!(guest.pc(), ENTRY + length, "{name}");
        store(&mut guest, bits, offset, FINISHER).unwrap();
        guest.assert_took(Exception::StoreAccessFault, ENTRY, FINISHER);
    }
}

#[test]
fn a_store_of_x0_writes_zero() {
    let mut guest = Guest::new();
    store(&mut guest, asm::store(0, 0, S0, 0), 0, UART).unwrap();
    assert_eq!(guest.host.output, b"\0");
}

#[test]
fn a_store_that_the_full_console_cannot_take_is_tried_again_and_loses_nothing() {
    let mut guest = Guest::new();
    guest.host.room = 3;
    let mut sent = Vec::new();
    for byte in (0..=u8::MAX).cycle() {
        guest.set_reg(A0, u64::from(byte));
        store(&mut guest, asm::store(0, A0, S0, 0), 0, UART).unwrap();
        if guest.pc() == ENTRY {
            guest.host.room = usize::MAX;
            store(&mut guest, asm::store(0, A0, S0, 0), 0, UART).unwrap();
            sent.push(byte);
            break;
        }
        sent.push(byte);
    }
    assert_eq!(guest.pc(), ENTRY + 4);
    assert_eq!(guest.host.output, sent);
}

#[test]
fn a_device_is_reached_through_the_guests_tables_with_the_guests_rights() {
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    tables.map(&mut guest, 0x5000, UART, USED | Pte::R | Pte::W | Pte::U);
    tables.map(&mut guest, ENTRY, ENTRY, USED | Pte::X | Pte::U);
    tables.enable(&mut guest);
    guest.vcpu.frame.privilege = Privilege::User;
    guest.set_reg(A0, u64::from(b'u'));
    store(&mut guest, asm::store(0, A0, S0, 0), 0, 0x5000).unwrap();
    assert_eq!(guest.host.output, b"u");
    guest.vcpu.frame.privilege = Privilege::Supervisor;
    store(&mut guest, asm::store(0, A0, S0, 0), 0, 0x5000).unwrap();
    assert_eq!(guest.csr(CsrAddr::SCAUSE), Exception::StorePageFault.code(), "SUM is clear");
    assert_eq!(guest.host.output, b"u");
}

#[test]
fn an_access_that_comes_again_goes_by_the_instruction_and_the_rights_that_there_are_now() {
    let mut guest = Guest::new();
    let (word, byte) = (asm::load(2, A0, S0, 0), asm::load(4, A0, S0, 0));
    for _ in 0..3 {
        for (bits, address, expected) in
            [(word, VIRTIO, MAGIC), (word, VIRTIO + 12, VENDOR), (byte, VIRTIO, MAGIC & 0xff)]
        {
            load(&mut guest, bits, 0, address);
            assert_eq!(guest.reg(A0), expected);
        }
        // The same instruction reaches RAM, where nothing faults, or nothing at all.
        load(&mut guest, word, 0, VIRTIO);
        guest.vcpu.frame.pc = ENTRY;
        guest.set_reg(S0, 0x4000_0000);
        guest.touch(word, Exception::LoadPageFault, 0x4000_0000).unwrap();
        assert_eq!(guest.csr(CsrAddr::SCAUSE), Exception::LoadAccessFault.code());
    }
    assert_eq!(guest.vcpu.exits.get(ExitKind::Mmio), 15);
}

#[test]
fn an_access_that_comes_again_goes_by_the_guests_tables_from_its_fence_on() {
    const FENCE: u32 = 0x1200_0073;
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    let word = asm::load(2, A0, S0, 0);
    tables.map(&mut guest, ENTRY, ENTRY, USED | Pte::R | Pte::W | Pte::X);
    tables.map(&mut guest, 0x5000, VIRTIO, USED | Pte::R);
    tables.enable(&mut guest);
    for _ in 0..2 {
        load(&mut guest, word, 0, 0x5000);
        assert_eq!(guest.reg(A0), MAGIC);
    }
    tables.map(&mut guest, 0x5000, RTC, USED | Pte::R);
    guest.host.now = 1;
    guest.execute(FENCE);
    load(&mut guest, word, 0, 0x5000);
    assert_eq!(guest.reg(A0), 100);
    tables.unmap(&mut guest, 0x5000);
    guest.execute(FENCE);
    guest.vcpu.frame.pc = ENTRY;
    guest.touch(word, Exception::LoadPageFault, 0x5000).unwrap();
    assert_eq!(guest.csr(CsrAddr::SCAUSE), Exception::LoadPageFault.code());
    // Another address space, another page at the same address; and user mode may not what the kernel may.
    tables.map(&mut guest, 0x5000, VIRTIO, USED | Pte::R);
    guest.vcpu.frame.privilege = Privilege::Supervisor;
    guest.execute(FENCE);
    load(&mut guest, word, 0, 0x5000);
    assert_eq!(guest.reg(A0), MAGIC);
    guest.vcpu.frame.privilege = Privilege::User;
    guest.vcpu.frame.pc = ENTRY;
    guest.touch(word, Exception::LoadPageFault, 0x5000).unwrap();
    assert_eq!(guest.csr(CsrAddr::SCAUSE), Exception::LoadPageFault.code());
}

/// The address of the second virtio transport, in which the guest has a disk with a driver that runs.
const DISK: u64 = 0x1000_2000;

fn guest_with_disk() -> Guest {
    let mut guest = Guest::new();
    let disk = Slot::Block(Block::new(Disk { sectors: 1, ..Disk::default() }));
    guest.machine.with_board(|board| **board = Board::new(1, 0, vec![Slot::default(), disk]));
    // Reset, driver, version 1, features, a queue of 8 descriptors behind RAM's beginning, and go.
    for (register, value) in [
        (0x70, 3),
        (0x24, 1),
        (0x20, 1),
        (0x70, 11),
        (0x38, 8),
        (0x80, RAM + 0x10_0000),
        (0x90, RAM + 0x10_1000),
        (0xa0, RAM + 0x10_2000),
        (0x44, 1),
        (0x70, 15),
    ] {
        store_word(&mut guest, DISK + register, value);
    }
    assert_eq!(guest.machine.take_notified(), SlotSet::NONE, "its start is no kick");
    guest
}

fn store_word(guest: &mut Guest, address: u64, value: u64) {
    guest.set_reg(A0, value);
    store(guest, asm::store(2, A0, S0, 0), 0, address).unwrap();
}

/// Offers a read of the first sector, and takes the request as the caller that has the disk does.
fn read_request(guest: &mut Guest) -> Option<Token> {
    let put = |at: u64, bytes: &[u8]| guest.machine.ram.write(GuestPhysAddr(RAM + at), bytes).unwrap();
    for (n, (address, len, flags)) in [(0x11_0000, 16u32, 1u16), (0x12_0000, 513, 2)].into_iter().enumerate()
    {
        let at = 0x10_0000 + 16 * n as u64;
        put(at, &(RAM + address).to_le_bytes());
        put(at + 8, &len.to_le_bytes());
        put(at + 12, &flags.to_le_bytes());
        put(at + 14, &1u16.to_le_bytes());
    }
    put(0x10_1002, &1u16.to_le_bytes());
    take_request(guest)
}

/// Where the disk is.
fn slot() -> SlotId {
    SlotId::new(1).unwrap()
}

fn take_request(guest: &mut Guest) -> Option<Token> {
    let taken = guest.machine.serve(slot(), |slot, ram| {
        let Slot::Block(block) = slot else { panic!("a disk") };
        block.next_request(ram).map(|request| request.token)
    });
    taken.unwrap()
}

fn complete(guest: &mut Guest, token: Token) {
    guest.machine.serve(slot(), |slot, ram| {
        let Slot::Block(block) = slot else { panic!("a disk") };
        block.complete(ram, token, Status::Ok);
    });
}

#[test]
fn a_kick_is_kept_until_the_slot_is_served_and_may_be_put_back() {
    let mut guest = guest_with_disk();
    store_word(&mut guest, DISK + 0x50, 0);
    assert!(guest.machine.take_notified().into_iter().eq([slot()]));
    assert_eq!(guest.machine.take_notified(), SlotSet::NONE);
    guest.machine.notify(slot());
    assert!(guest.machine.take_notified().into_iter().eq([slot()]));
}

#[test]
fn a_completed_request_of_a_disk_interrupts_the_guest() {
    let mut guest = guest_with_disk();
    store_word(&mut guest, 0x0c00_0000 + 4 * 2, 1);
    store_word(&mut guest, 0x0c00_2080, 1 << 2);
    let token = read_request(&mut guest).unwrap();
    guest.prepare();
    assert!(!guest.vcpu.frame.csr.is_pending(Interrupt::External));
    complete(&mut guest, token);
    guest.prepare();
    assert!(guest.vcpu.frame.csr.is_pending(Interrupt::External));
}

#[test]
fn a_store_that_resets_a_disk_at_work_is_tried_until_it_is_done() {
    let mut guest = guest_with_disk();
    let token = read_request(&mut guest).unwrap();
    for _ in 0..3 {
        store_word(&mut guest, DISK + 0x70, 0);
        assert_eq!(guest.pc(), ENTRY, "the guest is at the same store");
    }
    assert_eq!(take_request(&mut guest), None);
    complete(&mut guest, token);
    store_word(&mut guest, DISK + 0x70, 0);
    assert_eq!(guest.pc(), ENTRY + 4);
    load(&mut guest, asm::load(2, A0, S0, 0), 0, DISK + 0x70);
    assert_eq!(guest.reg(A0), 0);
}
