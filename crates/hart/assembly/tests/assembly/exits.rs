//! Random exits: the state that a guest has brought itself into, and what it traps by.

use isa::csr::{CsrAddr, sstatus};
use isa::{Exception, Interrupt, Privilege, Reg};

use crate::guest::{Guest, SPACES};
use crate::random::Random;

/// A trap as the hardware reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trap {
    pub cause: u64,
    pub value: u64,
    /// Whether Rust is asked what it means; others end the machine, or are the run loop's.
    pub is_served: bool,
    /// The instruction for which a breakpoint stands, if it is a site's.
    pub site: Option<u32>,
}

impl Trap {
    /// Whether a page fault is reported.
    pub const fn is_page_fault(&self) -> bool {
        const FIRST: u64 = Exception::InstructionPageFault.code();
        const LAST: u64 = Exception::StorePageFault.code();
        FIRST <= self.cause && self.cause <= LAST
    }

    /// Whether the instruction is a fence of all addresses.
    pub fn is_fence(&self) -> bool {
        self.site.is_some_and(|bits| bits & 0xfe0f_ffff == SFENCE_VMA)
    }
}

/// What is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Site,
    Ecall,
    PageFault,
    Other,
}

impl Exit {
    /// Any, those more often that have more ways.
    pub const fn random(random: &mut Random) -> Self {
        match random.below(100) {
            0..56 => Self::Site,
            56..66 => Self::Ecall,
            66..95 => Self::PageFault,
            _ => Self::Other,
        }
    }
}

/// CSRs that are written from outside, for nothing follows from it.
const PLAIN: [CsrAddr; 7] = [
    CsrAddr::STVEC,
    CsrAddr::SEPC,
    CsrAddr::SCAUSE,
    CsrAddr::STVAL,
    CsrAddr::SSCRATCH,
    CsrAddr::SIE,
    CsrAddr::SENVCFG,
];

/// SFENCE.VMA x0, x0.
const SFENCE_VMA: u32 = 0x1200_0073;

/// Brings the guest into a state from which it is to leave by such an exit.
pub fn vary(guest: &mut Guest, exit: Exit, random: &mut Random) {
    vary_tables(guest, random);
    if random.chance(4) {
        guest.write(CsrAddr::SATP, guest.satp(random.below(SPACES)));
    }
    if random.below(200) == 0 {
        guest.write(CsrAddr::SATP, 0);
    }
    if random.chance(25) {
        let mut status = random.any() & !sstatus::MXR;
        // Either is seldom on.
        for bit in [sstatus::SUM, sstatus::SIE] {
            if random.chance(50) {
                status &= !bit;
            }
        }
        status |= if random.chance(2) { sstatus::MXR } else { 0 };
        guest.write(CsrAddr::SSTATUS, status);
    }
    for _ in 0..2 {
        let csr = random.pick(&PLAIN);
        let value = random.word();
        guest.vcpu.frame.csr.write(csr, value, Privilege::Supervisor).expect("a CSR of the hart");
    }
    if random.chance(20) {
        let interrupt = random.pick(&[Interrupt::Software, Interrupt::Timer]);
        let is_pending = random.chance(40);
        guest.vcpu.set_line(interrupt, is_pending);
    }
    if random.chance(5) {
        guest.set_units(random);
    }
    let in_user_mode = match exit {
        Exit::Site => random.chance(2),
        Exit::Ecall => random.chance(90),
        Exit::PageFault | Exit::Other => random.chance(50),
    };
    let frame = &mut guest.vcpu.frame;
    frame.privilege = if in_user_mode { Privilege::User } else { Privilege::Supervisor };
    frame.pc = random.word() & !1;
    for number in 1..32 {
        let value = register(guest, random);
        guest.vcpu.frame.set(Reg::new(number), value);
    }
}

fn vary_tables(guest: &mut Guest, random: &mut Random) {
    if random.below(1000) < if guest.kind.quiet { 1 } else { 60 } {
        let address = Guest::address(random);
        let space = random.below(SPACES);
        guest.set_page(space, address, random);
        if random.chance(70) {
            guest.fence(address);
        }
    }
    if random.chance(1) {
        let is_guarded = random.chance(40);
        guest.guard(is_guarded);
    }
    if random.below(1000) == 0 {
        guest.vcpu.caches.shadow.clear();
    }
}

/// What a register holds: what instructions make something of.
fn register(guest: &Guest, random: &mut Random) -> u64 {
    match random.below(20) {
        0..8 => random.word(),
        8..12 => sstatus::SIE,
        12..14 => 0,
        14..17 => guest.satp(random.below(SPACES)),
        17 => sstatus::SUM,
        18 => {
            random.any()
                & (sstatus::SIE | sstatus::SPIE | sstatus::SPP | sstatus::SUM | sstatus::FS | sstatus::VS)
        }
        _ => Guest::address(random),
    }
}

/// Lets the guest, which is ready to run, trap.
pub fn trap(guest: &mut Guest, exit: Exit, random: &mut Random) -> Trap {
    let plain = |cause: Exception, value| Trap { cause: cause.code(), value, is_served: true, site: None };
    match exit {
        Exit::Site => {
            let bits = instruction(random);
            set_operand(guest, bits, random);
            put_site(guest, bits, random);
            let frame = &guest.vcpu.frame;
            // Another one may be found before it.
            let site = frame.fast.sites.find(frame.pc, frame.fast.roots.tag);
            Trap { site, ..plain(Exception::Breakpoint, frame.pc) }
        }
        Exit::Ecall => plain(Exception::EcallFromUser, 0),
        Exit::PageFault => {
            let address = if random.chance(97) { Guest::address(random) } else { random.word() };
            let cause = random.pick(&[
                Exception::InstructionPageFault,
                Exception::LoadPageFault,
                Exception::StorePageFault,
            ]);
            plain(cause, address)
        }
        Exit::Other => {
            const INTERRUPT: u64 = Interrupt::CAUSE_BIT;
            let cause = random.pick(&[
                0,
                1,
                2,
                4,
                5,
                6,
                7,
                9,
                10,
                11,
                16,
                18,
                19,
                24,
                63,
                INTERRUPT | 1,
                INTERRUPT | 5,
                INTERRUPT | 9,
                INTERRUPT | 13,
            ]);
            // Of an illegal instruction the hardware need not tell the bits.
            let value = if cause == Exception::IllegalInstruction.code() { 0 } else { random.word() };
            Trap { cause, value, is_served: cause < 9, site: None }
        }
    }
}

/// A kernel writes satp for an address space that it has, or for none: what is mapped globally must be in all of them. Priv. spec,
/// "Addressing and Memory Protection": else either mapping may be used.
fn set_operand(guest: &mut Guest, bits: u32, random: &mut Random) {
    const MODE: u64 = 0xf << 60;
    let source = bits >> 15 & 31;
    if bits >> 20 != u32::from(CsrAddr::SATP.as_u16()) || source == 0 {
        return;
    }
    let value = match random.below(10) {
        0..7 => guest.satp(random.below(SPACES)),
        7 => random.word() & !MODE,
        8 => guest.satp(random.below(SPACES)) | 9 << 60,
        _ => 0,
    };
    guest.vcpu.frame.set(Reg::new(source), value);
}

/// Notes at the guest's pc, as `vmm` would, what a breakpoint stands for, or at the same address of another space.
fn put_site(guest: &mut Guest, bits: u32, random: &mut Random) {
    let fast = &mut guest.vcpu.frame.fast;
    let (pc, page) = (guest.vcpu.frame.pc, random.below(2000));
    let own = fast.roots.tag;
    // What has the same first place drives it to its second.
    if random.chance(30) {
        let other = pc.wrapping_add(vhart::site::SITES as u64 * 2 * (1 + random.below(4)));
        fast.sites.insert(other, 0, instruction(random), page);
    }
    let tag = match random.below(10) {
        0..5 => 0,
        5..9 => own,
        _ => own ^ 1 << 50,
    };
    fast.sites.insert(pc, tag, bits, page);
}

/// A privileged instruction, those more often of which the assembly knows much.
fn instruction(random: &mut Random) -> u32 {
    const SRET: u32 = 0x1020_0073;
    const WFI: u32 = 0x1050_0073;
    const SET: u32 = 2;
    const CLEAR_BY_IMMEDIATE: u32 = 7;
    let register = random.below(32) as u32;
    match random.below(100) {
        0..9 => SRET,
        9..17 => SFENCE_VMA | if random.chance(50) { 0 } else { register << 20 },
        17..19 => random.pick(&[WFI, SFENCE_VMA | register << 15]),
        19..39 => csr(SET, 0, CsrAddr::SSTATUS, register),
        39..48 => csr(CLEAR_BY_IMMEDIATE, register, CsrAddr::SSTATUS, sstatus::SIE as u32),
        48..54 => csr(1, 0, CsrAddr::SATP, register),
        _ => any_csr(random),
    }
}

const fn csr(form: u32, rd: u32, csr: CsrAddr, source: u32) -> u32 {
    (csr.as_u16() as u32) << 20 | source << 15 | form << 12 | rd << 7 | 0x73
}

fn any_csr(random: &mut Random) -> u32 {
    let number = match random.below(20) {
        0..9 => CsrAddr::SSTATUS,
        9 if random.chance(50) => return csr(2, random.below(32) as u32, CsrAddr::SATP, 0),
        9 => CsrAddr::SATP,
        10..12 => CsrAddr::STVEC,
        12..15 => CsrAddr::SSCRATCH,
        15..18 => random.pick(&[CsrAddr::SEPC, CsrAddr::SCAUSE, CsrAddr::STVAL]),
        18 => random.pick(&[CsrAddr::SIE, CsrAddr::SIP, CsrAddr::SCOUNTEREN, CsrAddr::SENVCFG]),
        _ => random.pick(&[CsrAddr::TIME, CsrAddr::CYCLE, CsrAddr::INSTRET, CsrAddr::new(0x5c0)]),
    };
    // Bits of satp are not set one by one: see `set_operand`.
    let form = if number == CsrAddr::SATP { 1 } else { random.pick(&[1, 2, 3, 5, 6, 7]) };
    let rd = if random.chance(40) { 0 } else { random.below(32) as u32 };
    let source = if form > 4 && random.chance(50) { sstatus::SIE as u32 } else { random.below(32) as u32 };
    csr(form, rd, number, source)
}
