//! Accesses outside RAM that no device answers, and those that devices do not take.

use isa::Exception;
use isa::csr::{CsrAddr, sstatus};
use isa::paging::Pte;
use memory::{GuestPhysAddr, PAGE_SIZE};

use crate::support::paging::{RWX, Tables, USED};
use crate::support::{ENTRY, Guest, HOLE, RAM, RAM_END, UART, asm};

const S0: u32 = 8;

#[test]
fn a_load_or_store_where_nothing_is_takes_an_access_fault() {
    for address in [0, HOLE, UART + 8, RAM - 8, RAM_END, u64::MAX - 7] {
        let mut guest = Guest::new();
        guest.set_reg(S0, address);
        guest.touch(asm::load(0, 10, S0, 0), Exception::LoadPageFault, address).unwrap();
        guest.assert_took(Exception::LoadAccessFault, ENTRY, address);
        guest.vcpu.frame.pc = ENTRY;
        guest.touch(asm::store(3, 10, S0, 0), Exception::StorePageFault, address).unwrap();
        guest.assert_took(Exception::StoreAccessFault, ENTRY, address);
    }
}

#[test]
fn a_refused_load_leaves_its_register_and_fs_alone() {
    let mut guest = Guest::new();
    guest.set_csr(CsrAddr::SSTATUS, sstatus::FS_INITIAL);
    guest.set_reg(S0, HOLE);
    guest.set_reg(10, 7);
    guest.touch(asm::load(3, 10, S0, 0), Exception::LoadPageFault, HOLE).unwrap();
    guest.vcpu.frame.pc = ENTRY;
    guest.touch(asm::float_load(3, 10, S0, 0), Exception::LoadPageFault, HOLE).unwrap();
    assert_eq!((guest.reg(10), guest.host.float[10]), (7, 0));
    assert_eq!(guest.csr(CsrAddr::SSTATUS) & sstatus::FS, sstatus::FS_INITIAL);
}

#[test]
fn reservations_and_atomics_on_a_device_take_access_faults() {
    for (bits, raised, expected) in [
        (asm::lr_w(10, S0), Exception::LoadPageFault, Exception::LoadAccessFault),
        (asm::sc_w(10, S0, 11), Exception::StorePageFault, Exception::StoreAccessFault),
        (asm::amoadd_w(10, S0, 11), Exception::StorePageFault, Exception::StoreAccessFault),
        // Some hardware reports the load half of an atomic.
        (asm::amoadd_w(10, S0, 11), Exception::LoadPageFault, Exception::StoreAccessFault),
        (asm::cbo_zero(S0), Exception::StorePageFault, Exception::StoreAccessFault),
    ] {
        let mut guest = Guest::new();
        guest.set_reg(S0, UART);
        guest.touch(bits, raised, UART).unwrap();
        guest.assert_took(expected, ENTRY, UART);
        assert_eq!(guest.reg(10), 0);
    }
}

#[test]
fn a_misaligned_access_to_a_device_takes_an_access_fault_at_the_byte_that_failed() {
    // Firmware finishes it byte by byte, and reports the byte it stopped at.
    for (bits, raised, expected) in [
        (asm::load(2, 10, S0, 0), Exception::LoadPageFault, Exception::LoadAccessFault),
        (asm::store(2, 10, S0, 0), Exception::StorePageFault, Exception::StoreAccessFault),
    ] {
        let mut guest = Guest::new();
        guest.set_reg(S0, UART + 1);
        guest.touch(bits, raised, UART + 3).unwrap();
        guest.assert_took(expected, ENTRY, UART + 3);
        assert!(guest.host.output.is_empty());
    }
}

#[test]
fn an_access_that_straddles_the_end_of_ram_takes_an_access_fault() {
    let mut guest = Guest::new();
    guest.set_reg(S0, RAM_END - 2);
    guest.touch(asm::load(3, 10, S0, 0), Exception::LoadPageFault, RAM_END).unwrap();
    guest.assert_took(Exception::LoadAccessFault, ENTRY, RAM_END);
}

#[test]
fn the_access_goes_where_the_instruction_says_and_not_where_the_firmware_stopped() {
    let mut guest = Guest::new();
    guest.set_reg(S0, UART);
    // A byte of the aligned word that was being read.
    guest.touch(asm::load(2, 10, S0, 4), Exception::LoadPageFault, UART + 5).unwrap();
    assert_eq!(guest.pc(), ENTRY + 4);
}

#[test]
fn an_address_whose_page_the_guest_has_taken_away_is_the_guests_page_fault() {
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    tables.map(&mut guest, ENTRY, ENTRY, RWX);
    tables.map(&mut guest, 0x5000, UART & !(PAGE_SIZE - 1), USED | Pte::R);
    tables.enable(&mut guest);
    // The part that failed is mapped, but the access begins before it.
    guest.set_reg(S0, 0x4ff8);
    guest.touch(asm::load(3, 10, S0, 0), Exception::LoadPageFault, 0x5000).unwrap();
    guest.assert_took(Exception::LoadPageFault, ENTRY, 0x4ff8);
}

#[test]
fn an_instruction_that_changed_under_the_fault_is_fetched_afresh() {
    for (now_there, raised) in [
        // The guest's tables were asked for the other right.
        (asm::store(0, 10, S0, 0), Exception::LoadPageFault),
        (asm::load(0, 10, S0, 0), Exception::StorePageFault),
        // The unit is off, which comes before the address.
        (asm::float_load(2, 10, S0, 0), Exception::LoadPageFault),
        (asm::float_store(2, 10, S0, 0), Exception::StorePageFault),
    ] {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::SSTATUS, 0);
        guest.set_reg(S0, UART);
        let writes = guest.machine.ram.writes();
        guest.touch(now_there, raised, UART).unwrap();
        assert_eq!((guest.pc(), guest.csr(CsrAddr::SCAUSE)), (ENTRY, 0), "tried again");
        assert!(guest.machine.ram.writes() > writes + 1, "the hart is told to fetch again");
        assert!(guest.host.output.is_empty());
        assert_eq!(guest.csr(CsrAddr::SSTATUS) & sstatus::FS, 0);
    }
}

#[test]
fn an_instruction_that_is_not_decoded_takes_the_access_fault_and_does_not_loop() {
    let amocas_q = 0x2805_c52f;
    for (bits, raised, expected) in [
        (amocas_q, Exception::StorePageFault, Exception::StoreAccessFault),
        (0x13, Exception::LoadPageFault, Exception::LoadAccessFault),
    ] {
        let mut guest = Guest::new();
        guest.touch(bits, raised, HOLE).unwrap();
        guest.assert_took(expected, ENTRY, HOLE);
    }
}

#[test]
fn an_access_that_changed_to_one_of_ram_is_tried_again() {
    let mut guest = Guest::new();
    guest.set_reg(S0, RAM);
    guest.touch(asm::store(3, 10, S0, 0), Exception::StorePageFault, UART).unwrap();
    assert_eq!((guest.pc(), guest.csr(CsrAddr::SCAUSE)), (ENTRY, 0));
    assert_eq!(guest.machine.ram.read_word(GuestPhysAddr(RAM)), Some(0), "the hart does it, not we");
}
