//! The hart that a guest runs on: user mode under a shadow root, with no TLB, and the few instructions that programs here are
//! made of. What it cannot do it traps for.

use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use isa::Exception;
use isa::paging::{self, Mode, Pte, Satp};
use memory::{HartAuthority, HostPhysAddr, PAGE_SIZE};
use mmu::shadow::MIN_TABLES;
use mmu::{Access, AsidSpace, ShadowMmu};
use rewrite::CodePages;
use vhart::{HostTables, RootSatp, SharedTable, Window};
use vmm::vcpu::Start;
use vmm::{Host, Vcpu};

use crate::support::{ENTRY, FEATURES, Guest, RAM, RAM_END};

/// Where shadow tables and copies of code are in host memory. Guest RAM is where the guest has it.
const TABLES: u64 = 0x1_0000_0000;
const COPIES: u64 = 0x2_0000_0000;
/// Pages of code that can be copied at a time.
const COPY_PAGES: u64 = 3;
const C_EBREAK: u16 = 0x9002;
/// The number of the time CSR.
const TIME: u32 = 0xc01;

/// A trap: its cause, and stval.
pub type Trap = (u64, u64);

/// The hart.
pub struct Hardware {
    tables: &'static [SharedTable],
    copies: &'static [AtomicU64],
    ram: &'static [AtomicU64],
}

impl Hardware {
    /// Puts the guest on it, with a new vCPU at `ENTRY`.
    pub fn new(guest: &mut Guest) -> Self {
        let tables: Vec<_> = (0..2 * MIN_TABLES).map(|_| SharedTable::filled_with(0)).collect();
        let tables: &'static [_] = tables.leak();
        let copies: Vec<_> = (0..COPY_PAGES * PAGE_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
        let copies: &'static [_] = copies.leak();
        let window = Window { first_slot: 511, entries: ArrayVec::new() };
        let authority = HartAuthority::simulated();
        let host = HostTables::new(tables, HostPhysAddr(TABLES), Mode::Sv57, window, authority);
        *guest.machine.code.lock() = CodePages::new(copies, HostPhysAddr(COPIES));
        guest.vcpu = Vcpu::new(0, FEATURES, ShadowMmu::new(host, AsidSpace::new(16, 1).deal()));
        guest.vcpu.start(Start { address: ENTRY, opaque: 0 });
        Self { tables, copies, ram: guest.words() }
    }

    /// Executes the instruction at the guest's pc.
    ///
    /// # Errors
    /// What it traps for, with the pc at it.
    pub fn step(&self, guest: &mut Guest, root: RootSatp) -> Result<(), Trap> {
        let pc = guest.pc();
        let word = self.word(root, pc & !7, Access::Fetch)?.load(Ordering::Relaxed);
        let bits = (word >> (8 * (pc & 4))) as u32;
        // The only short instruction is C.EBREAK, in copies.
        if bits as u16 == C_EBREAK {
            return Err((Exception::Breakpoint.code(), pc));
        }
        let (rd, rs1, rs2) = (bits >> 7 & 31, bits >> 15 & 31, bits >> 20 & 31);
        let (one, two) = (guest.reg(rs1), guest.reg(rs2));
        let imm = i64::from(bits as i32 >> 20) as u64;
        let store_imm = i64::from((bits as i32 >> 25 << 5) | rd as i32) as u64;
        let mut next = pc.wrapping_add(4);
        match (bits & 0x7f, bits >> 12 & 7) {
            (0x13, 0) => guest.set_reg(rd, one.wrapping_add(imm)),
            (0x13, 1) => guest.set_reg(rd, one << (imm & 63)),
            (0x13, 5) => guest.set_reg(rd, one >> (imm & 63)),
            (0x33, 0) => guest.set_reg(rd, one.wrapping_add(two)),
            (0x33, 4) => guest.set_reg(rd, one ^ two),
            (0x03, 3) => {
                let value = self.word(root, one.wrapping_add(imm), Access::Load)?.load(Ordering::Relaxed);
                guest.set_reg(rd, value);
            }
            (0x23, 3) => {
                self.word(root, one.wrapping_add(store_imm), Access::Store)?.store(two, Ordering::Relaxed)
            }
            // Bytes are a device's.
            (0x03, 4) => return Err((Exception::LoadPageFault.code(), one.wrapping_add(imm))),
            (0x23, 0) => return Err((Exception::StorePageFault.code(), one.wrapping_add(store_imm))),
            // The only atomic is AMOADD.D.
            (0x2f, 3) => {
                let old = self.word(root, one, Access::Store)?.fetch_add(two, Ordering::Relaxed);
                guest.set_reg(rd, old);
            }
            (0x63, form @ (0 | 1 | 4)) => {
                let offset = (bits as i32 >> 31 << 12) as u32
                    | bits << 4 & 0x800
                    | bits >> 20 & 0x7e0
                    | bits >> 7 & 0x1e;
                let is_taken = match form {
                    0 => one == two,
                    1 => one != two,
                    _ => (one as i64) < two as i64,
                };
                if is_taken {
                    next = pc.wrapping_add_signed(i64::from(offset as i32));
                }
            }
            (0x6f, _) => {
                let offset = (bits as i32 >> 31 << 20) as u32
                    | bits & 0xf_f000
                    | bits >> 9 & 0x800
                    | bits >> 20 & 0x7fe;
                guest.set_reg(rd, next);
                next = pc.wrapping_add_signed(i64::from(offset as i32));
            }
            (0x67, 0) => {
                guest.set_reg(rd, next);
                next = one.wrapping_add(imm) & !1;
            }
            // FENCE.I: there is no instruction cache.
            (0x0f, _) => {}
            (0x73, 0) if bits == crate::support::asm::ECALL => return Err((8, 0)),
            (0x73, 0) if bits == crate::support::asm::EBREAK => return Err((3, pc)),
            (0x73, 2) if bits >> 20 == TIME && rs1 == 0 => guest.set_reg(rd, guest.host.now()),
            _ => return Err((Exception::IllegalInstruction.code(), u64::from(bits))),
        }
        guest.vcpu.frame.pc = next;
        Ok(())
    }

    /// The word of memory that an access to `address`, which is a multiple of 8, reaches.
    fn word(&self, root: RootSatp, address: u64, access: Access) -> Result<&AtomicU64, Trap> {
        let fault = (access.page_fault().code(), address);
        let satp = Satp::from_bits(root.bits()).expect("a root");
        assert_eq!((satp.mode, address % 8), (Mode::Sv57, 0));
        if !satp.mode.is_canonical(address) {
            return Err(fault);
        }
        let mut table = satp.ppn * PAGE_SIZE;
        for level in (0..satp.mode.levels()).rev() {
            let number = (table - TABLES) / PAGE_SIZE;
            let entry = Pte(self.tables[number as usize].entries()[paging::index(address, level)].get());
            if !entry.is_leaf() {
                if !entry.is_table() {
                    return Err(fault);
                }
                table = entry.address();
                continue;
            }
            let wanted = match access {
                Access::Fetch => Pte::X,
                Access::Load => Pte::R,
                Access::Store => Pte::W,
            };
            if !entry.has(Pte::U | Pte::A | Pte::D | wanted) {
                return Err(fault);
            }
            return Ok(self.memory(entry.address() | address & (paging::leaf_size(level) - 1)));
        }
        Err(fault)
    }

    /// A word of host memory.
    fn memory(&self, address: u64) -> &AtomicU64 {
        let (words, base) =
            if (RAM..RAM_END).contains(&address) { (self.ram, RAM) } else { (self.copies, COPIES) };
        &words[((address - base) / 8) as usize]
    }
}
