//! Programs: a kernel with two address spaces that does everything that the hypervisor keeps caches for, over and over. What
//! it comes to depends on nothing that a hart leaves open: it fences what it has changed before it uses it.

use isa::csr::{CsrAddr, sstatus};
use isa::paging::{Mode, Pte, Satp};
use memory::{GuestPhysAddr, PAGE_SIZE};

use crate::support::paging::set_word;
use crate::support::random::Random;
use crate::support::{ENTRY, Guest, RAM, UART, asm};

/// Where a program ends.
pub const END: u64 = RAM + 0xb000;
const HANDLER: u64 = RAM + 0x8000;
const USER: u64 = RAM + 0x9000;
/// Constants, at which x31 points.
const POOL: u64 = RAM + 0xa000;
/// Pages of data, and addresses that the program maps to one or another of them.
const FRAMES: u64 = RAM + 0x2_0000;
const PLACES: u64 = RAM + 0x4_0000;
const COUNT: u32 = 6;
/// Both spaces have RAM here, too, by the same tables.
const UPPER: u64 = 0xffff_ffc0_0000_0000;
/// The tables: root, middle, last of one space, then of the other; then those of the UART.
const TABLES: u64 = RAM + 0x10_0000;

const KERNEL: u64 = Pte::V | Pte::R | Pte::W | Pte::X | Pte::A | Pte::D;
const TIME_EXTENSION: u64 = 0x5449_4d45;

/// A sum over all that the handler sees, and scratch registers of its own.
const SUM: u32 = 27;
const CAUSE: u32 = 28;
const SCRATCH: u32 = 29;
/// Rounds that are left; where the kernel goes on when its user has called.
const ROUNDS: u32 = 30;
const CONTINUE: u32 = 26;
const POOL_AT: u32 = 31;

const fn addi(rd: u32, rs1: u32, imm: i32) -> u32 {
    (imm as u32) << 20 | rs1 << 15 | rd << 7 | 0x13
}

const fn shift(rd: u32, rs1: u32, form: u32, by: u32) -> u32 {
    by << 20 | rs1 << 15 | form << 12 | rd << 7 | 0x13
}

const fn add(rd: u32, rs1: u32, rs2: u32) -> u32 {
    rs2 << 20 | rs1 << 15 | rd << 7 | 0x33
}

const fn xor(rd: u32, rs1: u32, rs2: u32) -> u32 {
    add(rd, rs1, rs2) | 4 << 12
}

const fn amoadd_d(rd: u32, rs1: u32, rs2: u32) -> u32 {
    rs2 << 20 | rs1 << 15 | 3 << 12 | rd << 7 | 0x2f
}

/// BEQ, BNE or BLT, by form; forward, at most 2 KiB.
const fn branch(form: u32, rs1: u32, rs2: u32, offset: u32) -> u32 {
    (offset >> 5 & 0x3f) << 25 | rs2 << 20 | rs1 << 15 | form << 12 | (offset >> 1 & 15) << 8 | 0x63
}

const fn jal(rd: u32, offset: i32) -> u32 {
    let offset = offset as u32;
    (offset >> 20 & 1) << 31
        | (offset >> 1 & 0x3ff) << 21
        | (offset >> 11 & 1) << 20
        | offset & 0xf_f000
        | rd << 7
        | 0x6f
}

const fn jalr(rd: u32, rs1: u32) -> u32 {
    rs1 << 15 | rd << 7 | 0x67
}

const FENCE_I: u32 = 0x0000_100f;

/// The code of a program as it is written, and its constants.
struct Writer {
    code: Vec<u32>,
    pool: Vec<u64>,
    /// satp of the spaces.
    spaces: [u64; 2],
}

impl Writer {
    fn emit(&mut self, bits: impl IntoIterator<Item = u32>) {
        self.code.extend(bits);
    }

    /// Loads a constant.
    fn li(&mut self, rd: u32, value: u64) {
        let place = self.pool.iter().position(|known| *known == value).unwrap_or_else(|| {
            self.pool.push(value);
            self.pool.len() - 1
        });
        assert!(place < 256, "too many constants");
        self.emit([asm::load(3, rd, POOL_AT, 8 * place as i32)]);
    }

    fn here(&self) -> u64 {
        ENTRY + 4 * self.code.len() as u64
    }
}

/// Writes a program into a guest that has not run yet.
pub fn write(guest: &mut Guest, seed: u32) {
    let mut random = Random::new();
    for _ in 0..seed {
        random.below(2);
    }
    let asids = if seed.is_multiple_of(3) { [0, 0] } else { [1, 2] };
    let kernel = if random.flag() { KERNEL | Pte::G } else { KERNEL };
    let root = |space: u64| TABLES + 3 * space * PAGE_SIZE;
    let satp = |space| Satp { mode: Mode::Sv39, asid: asids[space as usize], ppn: root(space) >> 12 }.bits();
    for space in 0..2 {
        let (middle, last, devices) =
            (root(space) + PAGE_SIZE, root(space) + 2 * PAGE_SIZE, TABLES + 6 * PAGE_SIZE);
        for (slot, entry) in [
            (root(space) + 2 * 8, Pte::new(middle, Pte::V)),
            (root(space) + 256 * 8, Pte::new(middle, Pte::V)),
            (root(space), Pte::new(devices, Pte::V)),
            (devices + 128 * 8, Pte::new(devices + PAGE_SIZE, Pte::V)),
            (devices + PAGE_SIZE, Pte::new(UART, kernel)),
            (middle, Pte::new(last, Pte::V)),
        ] {
            set_word(guest, slot, entry.0);
        }
        for page in 0..512 {
            let (address, flags) = match RAM + page * PAGE_SIZE {
                USER => (USER, KERNEL | Pte::U),
                place if (PLACES..PLACES + u64::from(COUNT) * PAGE_SIZE).contains(&place) => {
                    (FRAMES + (page + space) % u64::from(COUNT) * PAGE_SIZE, KERNEL & !Pte::X)
                }
                place => (place, kernel),
            };
            set_word(guest, last + page * 8, Pte::new(address, flags).0);
        }
    }
    let pool = vec![TIME_EXTENSION];
    let mut writer = Writer { code: Vec::new(), pool, spaces: [satp(0), satp(1)] };
    writer.emit([addi(ROUNDS, 0, 45)]);
    writer.li(5, writer.spaces[0]);
    writer.emit([asm::csrrw(0, CsrAddr::SATP.as_u16(), 5)]);
    writer.li(5, 0x222);
    writer.emit([asm::csrrw(0, CsrAddr::SIE.as_u16(), 5)]);
    let start = writer.here();
    for _ in 0..12 + random.below(28) {
        op(&mut writer, &mut random, root);
    }
    let back = start.wrapping_sub(writer.here() + 8) as i32;
    writer.emit([addi(ROUNDS, ROUNDS, -1), branch(0, ROUNDS, 0, 8), jal(0, back)]);
    writer.li(5, END);
    writer.emit([jalr(0, 5)]);
    assert!(writer.here() < HANDLER, "a program of {} instructions", writer.code.len());
    put(guest, ENTRY, &writer.code);
    put(guest, HANDLER, &handler());
    let user = [
        asm::load(3, 7, 12, 0),
        asm::store(3, 7, 13, 8),
        amoadd_d(8, 12, 13),
        asm::csrrw(0, CsrAddr::SSCRATCH.as_u16(), 7),
        asm::ECALL,
    ];
    put(guest, USER, &user);
    for (place, value) in (POOL..).step_by(8).zip(&writer.pool) {
        set_word(guest, place, *value);
    }
    guest.set_csr(CsrAddr::STVEC, HANDLER);
    guest.set_reg(POOL_AT, POOL);
}

/// Adds everything about a trap to the sum; goes on behind an exception, and switches the timer off.
fn handler() -> Vec<u32> {
    let (scause, sepc, stval) = (CsrAddr::SCAUSE.as_u16(), CsrAddr::SEPC.as_u16(), CsrAddr::STVAL.as_u16());
    vec![
        asm::csrrs(CAUSE, scause, 0),
        add(SUM, SUM, CAUSE),
        asm::csrrs(SCRATCH, stval, 0),
        xor(SUM, SUM, SCRATCH),
        shift(SCRATCH, SUM, 1, 13),
        xor(SUM, SUM, SCRATCH),
        shift(SCRATCH, SUM, 5, 7),
        xor(SUM, SUM, SCRATCH),
        branch(4, CAUSE, 0, 36),
        addi(SCRATCH, 0, 8),
        branch(0, CAUSE, SCRATCH, 48),
        addi(SCRATCH, 0, 12),
        branch(0, CAUSE, SCRATCH, 56),
        asm::csrrs(SCRATCH, sepc, 0),
        addi(SCRATCH, SCRATCH, 4),
        asm::csrrw(0, sepc, SCRATCH),
        asm::SRET,
        // An interrupt.
        addi(10, 0, -1),
        addi(16, 0, 0),
        asm::load(3, 17, POOL_AT, 0),
        asm::ECALL,
        asm::SRET,
        // The user's call.
        asm::csrrw(0, sepc, CONTINUE),
        addi(SCRATCH, 0, sstatus::SPP as i32),
        asm::csrrs(0, CsrAddr::SSTATUS.as_u16(), SCRATCH),
        asm::SRET,
        // Where a page cannot be fetched.
        asm::csrrw(0, sepc, 1),
        asm::SRET,
    ]
}

/// Something that the kernel does.
fn op(writer: &mut Writer, random: &mut Random, root: impl Fn(u64) -> u64) {
    let place = PLACES + u64::from(random.below(COUNT)) * PAGE_SIZE;
    let offset = 8 * random.below(4) as i32;
    let alias = UPPER + (place - RAM);
    let address = if random.flag() { place } else { alias };
    let space = random.below(2);
    match random.below(16) {
        0 | 1 => {
            let csrs =
                [CsrAddr::SSCRATCH, CsrAddr::SEPC, CsrAddr::SCAUSE, CsrAddr::STVAL, CsrAddr::SCOUNTEREN];
            let csr = csrs[random.below(csrs.len() as u32) as usize].as_u16();
            let form = asm::CSR_FORMS[random.below(3) as usize];
            writer.emit([asm::csr(form, 5, csr, 6), xor(SUM, SUM, 5)]);
            // The counters stay open: programs read the time.
            writer.emit([addi(5, 0, 7), asm::csrrs(0, CsrAddr::SCOUNTEREN.as_u16(), 5)]);
        }
        2 => {
            let bits = [sstatus::SUM, sstatus::SIE, sstatus::MXR][random.below(3) as usize];
            writer.li(5, bits);
            writer.emit([asm::csr(
                asm::CSR_FORMS[1 + random.below(2) as usize],
                6,
                CsrAddr::SSTATUS.as_u16(),
                5,
            )]);
        }
        3 | 4 => {
            writer.li(5, address);
            writer.emit([asm::load(3, 6, 5, offset), add(SUM, SUM, 6)]);
        }
        5 | 6 => {
            writer.li(5, address);
            writer.emit([asm::store(3, SUM, 5, offset), amoadd_d(6, 5, ROUNDS)]);
        }
        7 | 8 => remap(writer, random, root(u64::from(space)) + 2 * PAGE_SIZE, [place, alias]),
        9 => {
            writer.li(5, writer.spaces[space as usize]);
            writer.emit([asm::csrrw(0, CsrAddr::SATP.as_u16(), 5)]);
            if random.flag() {
                writer.emit([asm::sfence_vma(0, 0)]);
            }
        }
        10 => {
            // An instruction that changes itself from round to round, two at a time, for stores are of eight bytes.
            if writer.code.len().is_multiple_of(2) {
                writer.emit([addi(0, 0, 0)]);
            }
            let patched = writer.here() + 20;
            writer.li(5, patched);
            let pair = u64::from(addi(7, 7, random.below(100) as i32)) << 32 | u64::from(addi(8, 8, 3));
            writer.li(6, pair);
            writer.emit([asm::store(3, 6, 5, 0), FENCE_I, addi(0, 0, 0), addi(7, 7, 1), addi(8, 8, 1)]);
        }
        11 => {
            // Its own code, which may be a copy's.
            writer.li(5, ENTRY + 8 * u64::from(random.below(64)));
            writer.emit([asm::load(3, 6, 5, 0), xor(SUM, SUM, 6)]);
        }
        12 => {
            writer.li(5, UART);
            writer.emit([asm::load(4, 6, 5, 5), add(SUM, SUM, 6), asm::store(0, SUM, 5, 0)]);
        }
        13 => {
            writer.emit([asm::csrrs(10, 0xc01, 0), addi(10, 10, random.below(60) as i32), addi(16, 0, 0)]);
            writer.emit([asm::load(3, 17, POOL_AT, 0), asm::ECALL]);
            if random.flag() {
                writer.emit([asm::WFI]);
            }
        }
        14 => {
            // The user, which comes back by its call.
            writer.li(5, USER);
            writer.emit([asm::csrrw(0, CsrAddr::SEPC.as_u16(), 5)]);
            writer.li(12, place);
            writer.li(13, PLACES + u64::from(random.below(COUNT)) * PAGE_SIZE);
            writer.li(5, sstatus::SPP | sstatus::SIE);
            writer.emit([asm::csr(3, 0, CsrAddr::SSTATUS.as_u16(), 5)]);
            // An interrupt in between would take sepc with it.
            writer.emit([jal(CONTINUE, 4), addi(CONTINUE, CONTINUE, 8), asm::SRET]);
        }
        _ => {
            writer.li(5, address);
            writer.emit([jalr(1, 5), asm::EBREAK]);
        }
    }
}

/// Changes the entry of a place in the last table `table` of a space, and fences it.
fn remap(writer: &mut Writer, random: &mut Random, table: u64, addresses: [u64; 2]) {
    let frame = FRAMES + u64::from(random.below(COUNT)) * PAGE_SIZE;
    let flags = match random.below(6) {
        0 => 0,
        1 => Pte::V | Pte::R | Pte::A,
        2 => Pte::V | Pte::R | Pte::W,
        3 => KERNEL & !Pte::X | Pte::U,
        _ => KERNEL & !Pte::X,
    };
    // Code can be read there, too.
    let is_code = flags & Pte::W == 0 && random.flag();
    let entry = Pte::new(if is_code { ENTRY & !0xfff } else { frame }, flags);
    writer.li(5, table + (addresses[0] - RAM) / PAGE_SIZE * 8);
    writer.li(6, entry.0);
    writer.emit([asm::store(3, 6, 5, 0)]);
    if random.flag() {
        writer.emit([asm::sfence_vma(0, 0)]);
    } else {
        for address in addresses {
            writer.li(5, address);
            writer.emit([asm::sfence_vma(5, 0)]);
        }
    }
}

fn put(guest: &mut Guest, address: u64, code: &[u32]) {
    for (place, bits) in (address..).step_by(4).zip(code) {
        guest.machine.ram.write(GuestPhysAddr(place), &bits.to_le_bytes()).expect("RAM");
    }
}
