//! Comparison with the executable form of the official specification, translated from Sail (`softcore-rv64`).
//!
//! The model is given the virtual hart's state, both do the same thing, and all that a guest can see is compared.

mod csr;
mod traps;

use isa::csr::{CsrAddr, sstatus};
use isa::paging::Mode;
use isa::{Interrupt, Privilege};
use softcore_rv64::prelude::bv;
use softcore_rv64::raw::{self, regidx};
use softcore_rv64::{Core, config, new_core};
use vmm::CsrFeatures;

use crate::support::random::Random;
use crate::support::{FEATURES, Guest};

/// The harts that are compared: with everything, and with nothing that can be left out.
pub const HARTS: [CsrFeatures; 2] = [
    FEATURES,
    CsrFeatures {
        widest_mode: Mode::Sv39,
        float: true,
        vector: false,
        cache_blocks: false,
        cache_zero: false,
        svinval: false,
    },
];

/// What a guest can see of its hart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    pub registers: [u64; 32],
    pub pc: u64,
    pub privilege: Privilege,
    pub sstatus: u64,
    pub sie: u64,
    pub sip: u64,
    pub stvec: u64,
    pub scounteren: u64,
    pub senvcfg: u64,
    pub sscratch: u64,
    pub sepc: u64,
    pub scause: u64,
    pub stval: u64,
    pub satp: u64,
}

impl State {
    /// The virtual hart's.
    pub fn of(guest: &Guest) -> Self {
        Self {
            registers: core::array::from_fn(|number| guest.reg(number as u32)),
            pc: guest.pc(),
            privilege: guest.vcpu.frame.privilege,
            sstatus: guest.csr(CsrAddr::SSTATUS),
            sie: guest.csr(CsrAddr::SIE),
            sip: guest.csr(CsrAddr::SIP),
            stvec: guest.csr(CsrAddr::STVEC),
            scounteren: guest.csr(CsrAddr::SCOUNTEREN),
            senvcfg: guest.csr(CsrAddr::SENVCFG),
            sscratch: guest.csr(CsrAddr::SSCRATCH),
            sepc: guest.csr(CsrAddr::SEPC),
            scause: guest.csr(CsrAddr::SCAUSE),
            stval: guest.csr(CsrAddr::STVAL),
            satp: guest.csr(CsrAddr::SATP),
        }
    }

    /// A CSR's field here, for those that are plain storage or WARL.
    pub fn csr_mut(&mut self, csr: CsrAddr) -> Option<&mut u64> {
        Some(match csr {
            CsrAddr::SSTATUS => &mut self.sstatus,
            CsrAddr::SIE => &mut self.sie,
            CsrAddr::SIP => &mut self.sip,
            CsrAddr::STVEC => &mut self.stvec,
            CsrAddr::SCOUNTEREN => &mut self.scounteren,
            CsrAddr::SENVCFG => &mut self.senvcfg,
            CsrAddr::SSCRATCH => &mut self.sscratch,
            CsrAddr::SEPC => &mut self.sepc,
            CsrAddr::SCAUSE => &mut self.scause,
            CsrAddr::STVAL => &mut self.stval,
            CsrAddr::SATP => &mut self.satp,
            _ => return None,
        })
    }
}

/// A hart as the specification has it, whose machine mode delegates everything that it can.
pub struct Model {
    core: Core,
    vector: bool,
}

impl Model {
    /// A hart with these features. What is hidden from guests it does not have either: Sstc, Zihpm, Sscofpmf, Zkr,
    /// H, Svpbmt, Sv57. It has no V, so that V's CSRs, which real hardware serves, are out of the comparison.
    pub fn new(features: CsrFeatures) -> Self {
        let mut config = config::U74;
        config.base.writable_hpm_counters = bv(0xffff_ffff);
        let extensions = &mut config.extensions;
        extensions.Sv48.supported = features.widest_mode >= Mode::Sv48;
        extensions.Zicbom.supported = features.cache_blocks;
        extensions.Zicboz.supported = features.cache_zero;
        extensions.Svinval.supported = features.svinval;
        let mut core = new_core(config);
        core.reset();
        core.medeleg = raw::Medeleg { bits: bv(u64::MAX) };
        core.mideleg = raw::Minterrupts { bits: bv(0x222) };
        core.mcounteren = raw::Counteren { bits: bv(0xffff_ffff) };
        Self { core, vector: features.vector }
    }

    /// Takes over the virtual hart's state.
    pub fn mirror(&mut self, guest: &Guest) {
        const SXL_64: u64 = 2 << 34;
        let state = State::of(guest);
        let core = &mut self.core;
        for number in 1..32 {
            core.set(regidx::new(number), state.registers[usize::from(number)]);
        }
        core.PC = bv(state.pc);
        core.nextPC = bv(state.pc);
        core.set_mode(match state.privilege {
            Privilege::User => raw::Privilege::User,
            Privilege::Supervisor => raw::Privilege::Supervisor,
        });
        core.mstatus.bits = bv(state.sstatus | SXL_64);
        core.mie.bits = bv(state.sie);
        core.mip.bits = bv(state.sip);
        core.stvec.bits = bv(state.stvec);
        core.scounteren.bits = bv(state.scounteren);
        core.senvcfg.bits = bv(state.senvcfg);
        core.sscratch = bv(state.sscratch);
        core.sepc = bv(state.sepc);
        core.scause.bits = bv(state.scause);
        core.stval = bv(state.stval);
        core.satp = bv(state.satp);
        core.mcycle = bv(guest.host.cycle);
        core.mtime = bv(guest.host.now);
        core.minstret = bv(guest.host.instret);
    }

    /// Executes an instruction.
    pub fn execute(&mut self, bits: u32) {
        self.core.nextPC = bv(self.core.PC.bits().wrapping_add(4));
        let instruction = self.core.decode_instr(bits);
        self.core.execute(instruction);
        self.core.PC = self.core.nextPC;
    }

    /// Takes the exception with this code.
    pub fn raise(&mut self, code: u64, value: u64) {
        let (supervisor, pc) = (raw::Privilege::Supervisor, self.core.PC);
        self.core.PC =
            raw::trap_handler(&mut self.core, supervisor, false, bv(code), pc, Some(bv(value)), None);
    }

    /// Takes an interrupt, if it would.
    pub fn take_interrupt(&mut self) {
        self.core.nextPC = self.core.PC;
        self.core.dispatch_interrupt();
        self.core.PC = self.core.nextPC;
    }

    /// What a guest can see of it.
    pub fn state(&mut self) -> State {
        let core = &mut self.core;
        let registers = core::array::from_fn(|number| core.get(regidx::new(number as u8)));
        let privilege = match core.mode() {
            raw::Privilege::User => Privilege::User,
            raw::Privilege::Supervisor => Privilege::Supervisor,
            raw::Privilege::Machine => panic!("the model left supervisor mode"),
        };
        core.set_mode(raw::Privilege::Supervisor);
        let mut csr = |address: CsrAddr| core.get_csr(u64::from(address.as_u16())).expect("a supervisor CSR");
        let mut state = State {
            registers,
            pc: 0,
            privilege,
            sstatus: csr(CsrAddr::SSTATUS),
            sie: csr(CsrAddr::SIE),
            sip: csr(CsrAddr::SIP),
            stvec: csr(CsrAddr::STVEC),
            scounteren: csr(CsrAddr::SCOUNTEREN),
            senvcfg: csr(CsrAddr::SENVCFG),
            sscratch: csr(CsrAddr::SSCRATCH),
            sepc: csr(CsrAddr::SEPC),
            scause: csr(CsrAddr::SCAUSE),
            stval: csr(CsrAddr::STVAL),
            satp: csr(CsrAddr::SATP),
        };
        state.pc = core.PC.bits();
        if !self.vector {
            // The model keeps VS where there is no V, as if a unit could come later.
            state.sstatus &= !(sstatus::VS | sstatus::SD);
            if state.sstatus & sstatus::FS == sstatus::FS_DIRTY {
                state.sstatus |= sstatus::SD;
            }
        }
        state
    }
}

/// Gives the virtual hart a random legal state.
pub fn scramble(guest: &mut Guest, random: &mut Random) {
    for number in 1..32 {
        guest.set_reg(number, random.word());
    }
    guest.vcpu.frame.pc = random.word() & !1;
    guest.vcpu.frame.privilege = if random.flag() { Privilege::Supervisor } else { Privilege::User };
    for interrupt in Interrupt::BY_PRIORITY {
        guest.vcpu.set_line(interrupt, random.flag());
    }
    for csr in [
        CsrAddr::SSTATUS,
        CsrAddr::SIE,
        CsrAddr::STVEC,
        CsrAddr::SCOUNTEREN,
        CsrAddr::SENVCFG,
        CsrAddr::SSCRATCH,
        CsrAddr::SEPC,
        CsrAddr::SCAUSE,
        CsrAddr::STVAL,
        CsrAddr::SATP,
    ] {
        guest.set_csr(csr, random.word());
    }
    guest.host.now = random.word();
    guest.host.cycle = random.word();
    guest.host.instret = random.word();
}
