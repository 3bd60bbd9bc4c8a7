//! The debug console.

use isa::csr::{CsrAddr, sstatus};
use isa::{Exception, Interrupt};
use memory::GuestPhysAddr;

use super::{DBCN, INVALID_PARAM, call, ecall, guest};
use crate::support::{ENTRY, Guest, HANDLER, HOLE, RAM, RAM_END, UART, asm};

const WRITE: u64 = 0;
const READ: u64 = 1;
const WRITE_BYTE: u64 = 2;

const TEXT: u64 = RAM + 0x3001;

fn guest_with_text(text: &[u8]) -> Guest {
    let guest = guest();
    guest.machine.ram.write(GuestPhysAddr(TEXT), text).unwrap();
    guest
}

#[test]
fn a_write_sends_the_bytes_and_says_how_many() {
    let text: Vec<u8> = (0..=255).collect();
    let mut guest = guest_with_text(&text);
    assert_eq!(call(&mut guest, DBCN, WRITE, &[256, TEXT, 0]), (0, 256));
    assert_eq!(guest.host.output, text);
    assert_eq!(call(&mut guest, DBCN, WRITE, &[0, TEXT, 0]), (0, 0));
}

/// Makes the write of `len` bytes at `TEXT` again, each time with room for some more, until it returns; how often.
fn write_in_pieces(guest: &mut Guest, len: u64, room: usize) -> usize {
    let began = guest.host.output.len();
    let calls = (1..).find(|_| {
        guest.host.room = guest.host.room.saturating_add(room);
        ecall(guest, DBCN, WRITE, &[len, TEXT, 0]).unwrap();
        guest.pc() != ENTRY
    });
    assert_eq!((guest.reg(10), guest.reg(11)), (0, len));
    assert_eq!(guest.host.output.len() - began, len as usize);
    calls.unwrap()
}

#[test]
fn a_write_to_a_console_that_is_nearly_full_waits_for_room() {
    let text: Vec<u8> = (0..=255).collect();
    for room in [1, 63, 64, 65, 200] {
        let mut guest = guest_with_text(&text);
        guest.host.room = 0;
        assert_eq!(write_in_pieces(&mut guest, 256, room), 256_usize.div_ceil(room));
        assert_eq!(guest.host.output, text);
    }
}

#[test]
fn a_large_write_is_made_in_pieces_and_whole() {
    let text: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
    let mut guest = guest_with_text(&text);
    assert_eq!(write_in_pieces(&mut guest, 5000, 0), 5);
    assert_eq!(guest.host.output, text);
    // The next one begins anew.
    guest.vcpu.frame.pc = ENTRY;
    assert_eq!(write_in_pieces(&mut guest, 2000, 0), 2);
    assert_eq!(guest.host.output[5000..], text[..2000]);
}

#[test]
fn no_interrupt_comes_between_the_pieces_of_a_write() {
    let mut guest = guest_with_text(&[b'x'; 256]);
    guest.set_csr(CsrAddr::SIE, Interrupt::Software.mask());
    guest.set_csr(CsrAddr::SSTATUS, sstatus::SIE);
    guest.host.room = 1;
    ecall(&mut guest, DBCN, WRITE, &[256, TEXT, 0]).unwrap();
    guest.machine.links[0].send_software_interrupt();
    guest.prepare();
    assert_eq!(guest.pc(), ENTRY);
    guest.host.room = 1000;
    ecall(&mut guest, DBCN, WRITE, &[256, TEXT, 0]).unwrap();
    guest.prepare();
    assert_eq!((guest.pc(), guest.csr(CsrAddr::SEPC)), (HANDLER, ENTRY + 4));
    // A vCPU that starts anew has nothing under way.
    guest.vcpu.frame.pc = ENTRY;
    guest.host.room = 1;
    ecall(&mut guest, DBCN, WRITE, &[256, TEXT, 0]).unwrap();
    guest.vcpu.reset();
    guest.vcpu.frame.pc = ENTRY;
    guest.host.room = 1000;
    let began = guest.host.output.len();
    ecall(&mut guest, DBCN, WRITE, &[3, TEXT, 0]).unwrap();
    assert_eq!(guest.host.output.len() - began, 3);
}

#[test]
fn a_range_that_is_not_wholly_ram_is_an_invalid_parameter() {
    for (len, low, high) in [
        (1, HOLE, 0),
        (1, UART, 0),
        (1, RAM - 1, 0),
        (1, RAM_END, 0),
        (2, RAM_END - 1, 0),
        (u64::MAX, RAM, 0),
        (u64::MAX, 1, 0),
        (16, u64::MAX - 3, 0),
        (RAM_END - RAM + 1, RAM, 0),
        (1, TEXT, 1),
        (1, TEXT, u64::MAX),
        (0, TEXT, 1),
    ] {
        let mut guest = guest();
        guest.host.input.push_back(b'x');
        for fid in [WRITE, READ] {
            let result = call(&mut guest, DBCN, fid, &[len, low, high]);
            assert_eq!(result, (INVALID_PARAM, 0), "{fid} {len:#x} {low:#x} {high:#x}");
        }
        assert!(guest.host.output.is_empty() && guest.host.input.len() == 1);
    }
}

#[test]
fn the_last_bytes_of_ram_can_be_written_out() {
    let mut guest = guest();
    guest.machine.ram.write(GuestPhysAddr(RAM_END - 2), b"ok").unwrap();
    assert_eq!(call(&mut guest, DBCN, WRITE, &[2, RAM_END - 2, 0]), (0, 2));
    assert_eq!(guest.host.output, b"ok");
}

#[test]
fn a_read_takes_what_was_typed_and_never_waits() {
    let mut guest = guest();
    assert_eq!(call(&mut guest, DBCN, READ, &[16, TEXT, 0]), (0, 0));
    guest.host.input.extend(b"hello");
    assert_eq!(call(&mut guest, DBCN, READ, &[3, TEXT, 0]), (0, 3));
    assert_eq!(call(&mut guest, DBCN, READ, &[16, TEXT + 3, 0]), (0, 2));
    let mut bytes = [0; 6];
    guest.machine.ram.read(GuestPhysAddr(TEXT), &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello\0");
}

#[test]
fn a_read_of_more_than_the_serial_port_holds_gets_it_all() {
    let mut guest = guest();
    let typed: Vec<u8> = (0..200).collect();
    guest.host.input.extend(&typed);
    assert_eq!(call(&mut guest, DBCN, READ, &[200, TEXT, 0]), (0, 200));
    let mut bytes = [0; 200];
    guest.machine.ram.read(GuestPhysAddr(TEXT), &mut bytes).unwrap();
    assert_eq!(bytes[..], typed[..]);
}

#[test]
fn write_byte_sends_the_low_byte() {
    let mut guest = guest();
    assert_eq!(call(&mut guest, DBCN, WRITE_BYTE, &[0xffff_ff00 | u64::from(b'z')]), (0, 0));
    assert_eq!(guest.host.output, b"z");
}

#[test]
fn write_byte_on_a_full_console_is_made_again() {
    let mut guest = guest();
    guest.host.room = 0;
    ecall(&mut guest, DBCN, WRITE_BYTE, &[u64::from(b'z')]).unwrap();
    assert_eq!((guest.pc(), guest.reg(10)), (ENTRY, u64::from(b'z')), "as if it had not been made");
    guest.host.room = 1;
    assert_eq!(call(&mut guest, DBCN, WRITE_BYTE, &[u64::from(b'z')]), (0, 0));
    assert_eq!(guest.host.output, b"z");
}

#[test]
fn what_the_serial_port_has_sent_comes_first() {
    let mut guest = guest_with_text(b"second");
    guest.host.room = 0;
    guest.set_reg(8, UART);
    guest.set_reg(9, u64::from(b'1'));
    guest.touch(asm::store(0, 9, 8, 0), Exception::StorePageFault, UART).unwrap();
    guest.vcpu.frame.pc = ENTRY;
    for (room, output) in [(0, &b""[..]), (3, b"1se"), (4, b"1second")] {
        guest.host.room = room;
        ecall(&mut guest, DBCN, WRITE, &[6, TEXT, 0]).unwrap();
        assert_eq!(guest.host.output, output);
    }
    assert_eq!((guest.pc(), guest.reg(11)), (ENTRY + 4, 6));
}
