//! Guest page tables in Sv39, built in the guest's RAM.

use isa::Exception;
use isa::paging::{self, Mode, Pte, Satp};
use memory::{GuestPhysAddr, GuestVirtAddr, PAGE_SIZE};

use super::{Guest, RAM};
use isa::csr::CsrAddr;

/// Flags of a leaf that was used: whatever it allows raises no fault for A or D.
pub const USED: u64 = Pte::V | Pte::A | Pte::D;
/// Flags of a supervisor's page with every right.
pub const RWX: u64 = USED | Pte::R | Pte::W | Pte::X;

/// The root table; the tables below it follow.
const ROOT: u64 = RAM + 0x10_0000;

/// The address space's ASID, of which all sixteen bits count.
pub const ASID: u64 = 0x8001;

/// An Sv39 address space.
pub struct Tables {
    next: u64,
}

impl Tables {
    /// An empty one.
    pub fn new() -> Self {
        Self { next: ROOT + PAGE_SIZE }
    }

    /// satp for it.
    pub fn satp() -> u64 {
        Satp { mode: Mode::Sv39, asid: ASID as u16, ppn: ROOT >> 12 }.bits()
    }

    /// Maps a page of 4 KiB.
    pub fn map(&mut self, guest: &mut Guest, address: u64, physical: u64, flags: u64) {
        let mut table = ROOT;
        for level in [2, 1] {
            let slot = table + paging::index(address, level) as u64 * 8;
            let entry = Pte(guest.machine.ram.read_word(GuestPhysAddr(slot)).expect("a table"));
            table = if entry.is_table() {
                entry.address()
            } else {
                let table = self.next;
                self.next += PAGE_SIZE;
                set_word(guest, slot, Pte::new(table, Pte::V).0);
                table
            };
        }
        set_word(guest, table + paging::index(address, 0) as u64 * 8, Pte::new(physical, flags).0);
    }

    /// Takes a page of 4 KiB away again.
    pub fn unmap(&mut self, guest: &mut Guest, address: u64) {
        self.map(guest, address, 0, 0);
    }

    /// Lets the kernel show that its fences name what it has changed, so that they mean what they say from now on.
    pub fn earn_trust(&mut self, guest: &mut Guest) {
        const SPARE: u64 = 0x1f_f000;
        for _ in 0..20 {
            self.map(guest, SPARE, RAM, RWX);
            guest.raise(Exception::LoadPageFault, SPARE);
            self.unmap(guest, SPARE);
            guest.vcpu.caches.shadow.fence(&guest.machine.ram, Some(GuestVirtAddr(SPARE)), None);
        }
    }

    /// Turns translation on.
    pub fn enable(&self, guest: &mut Guest) {
        guest.set_csr(CsrAddr::SATP, Self::satp());
    }
}

/// Writes a word of the guest's RAM.
pub fn set_word(guest: &mut Guest, address: u64, value: u64) {
    guest.machine.ram.write(GuestPhysAddr(address), &value.to_le_bytes()).expect("RAM");
}
