//! A hart in supervisor mode that executes the assembly, as the specification says: see `specification`. Memory is `memory`'s.
//!
//! It ends where the guest begins to run, where the world switch returns, and where a trap of the hypervisor's own is reported.

use isa::Exception;
use isa::csr::{CsrAddr, sstatus};

use crate::coverage::Counts;
use crate::decode::{Instruction, Op};
use crate::image::Image;
use crate::memory::{Memory, Wild};

/// CSRs that the assembly uses.
const SSTATUS: u16 = CsrAddr::SSTATUS.as_u16();
const STVEC: u16 = CsrAddr::STVEC.as_u16();
const SENVCFG: u16 = CsrAddr::SENVCFG.as_u16();
const SSCRATCH: u16 = CsrAddr::SSCRATCH.as_u16();
const SEPC: u16 = CsrAddr::SEPC.as_u16();
const SCAUSE: u16 = CsrAddr::SCAUSE.as_u16();
const STVAL: u16 = CsrAddr::STVAL.as_u16();
const SATP: u16 = CsrAddr::SATP.as_u16();

/// Where the world switch returns to: nothing is there.
pub const RETURN: u64 = 0x7fff_0000;

/// More instructions than any way through the assembly has.
const LIMIT: u32 = 2000;

/// Bits of sstatus that exist here.
const STATUS: u64 =
    sstatus::SIE | sstatus::SPIE | sstatus::SPP | sstatus::SUM | sstatus::MXR | sstatus::FS | sstatus::VS;

/// Why it has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The guest runs, from this pc on.
    Guest(u64),
    /// The world switch has returned.
    Returned,
    /// A trap of the hypervisor's own is about to be reported.
    OwnFault,
    /// An access where there is nothing for the assembly.
    Wild(Wild, u64),
    /// An instruction that is not known, or none.
    Unknown(u64),
    /// SRET to supervisor mode.
    SretToSupervisor(u64),
    /// It does not end.
    Endless,
}

/// The supervisor's CSRs.
#[derive(Clone, Copy, Default, Debug)]
pub struct Csrs {
    pub sstatus: u64,
    pub stvec: u64,
    pub senvcfg: u64,
    pub sscratch: u64,
    pub sepc: u64,
    pub scause: u64,
    pub stval: u64,
    pub satp: u64,
}

impl Csrs {
    fn place(&mut self, csr: u16) -> Option<(&mut u64, u64)> {
        Some(match csr {
            SSTATUS => (&mut self.sstatus, STATUS),
            STVEC => (&mut self.stvec, !0),
            SENVCFG => (&mut self.senvcfg, !0),
            SSCRATCH => (&mut self.sscratch, !0),
            SEPC => (&mut self.sepc, !1),
            SCAUSE => (&mut self.scause, !0),
            STVAL => (&mut self.stval, !0),
            SATP => (&mut self.satp, !0),
            _ => return None,
        })
    }

    /// A CSR as it reads.
    fn read(&mut self, csr: u16) -> Option<u64> {
        let value = *self.place(csr)?.0;
        if csr != SSTATUS {
            return Some(value);
        }
        let is_dirty = value & sstatus::FS == sstatus::FS_DIRTY || value & sstatus::VS == sstatus::VS_DIRTY;
        Some(value | sstatus::UXL_64 | if is_dirty { sstatus::SD } else { 0 })
    }

    fn write(&mut self, csr: u16, value: u64) -> Option<()> {
        let (place, mask) = self.place(csr)?;
        // A reserved MODE of stvec leaves that field as it was.
        let kept = if csr == STVEC && value & 2 != 0 { 3 } else { 0 };
        *place = value & mask & !kept | *place & kept;
        Some(())
    }
}

/// The hart.
#[derive(Clone, Debug)]
pub struct Cpu {
    pub x: [u64; 32],
    pub pc: u64,
    pub csrs: Csrs,
    /// Whether all translations were forgotten since satp was written.
    pub has_fenced: bool,
    /// A trap of its own that comes in between: after so many instructions, with this cause.
    pub own_fault: Option<(u32, u64)>,
    /// Whether it has come.
    has_faulted: bool,
}

impl Cpu {
    /// A hart after reset.
    pub fn new() -> Self {
        Self {
            x: [0; 32],
            pc: 0,
            csrs: Csrs::default(),
            has_fenced: true,
            own_fault: None,
            has_faulted: false,
        }
    }

    /// Takes a trap, from user mode or the hart's own mode, as hardware does. Priv. spec, "Supervisor Status Register".
    pub fn trap(&mut self, cause: u64, value: u64, from_supervisor: bool) {
        let status = self.csrs.sstatus;
        let spie = if status & sstatus::SIE != 0 { sstatus::SPIE } else { 0 };
        let spp = if from_supervisor { sstatus::SPP } else { 0 };
        self.csrs.sstatus = status & !(sstatus::SIE | sstatus::SPIE | sstatus::SPP) | spie | spp;
        self.csrs.sepc = self.pc;
        self.csrs.scause = cause;
        self.csrs.stval = value;
        self.pc = self.csrs.stvec & !3;
    }

    /// Executes until it stops.
    pub fn run(&mut self, image: &Image, memory: &mut Memory, counts: &mut Counts) -> Stop {
        for _ in 0..LIMIT {
            if self.pc == RETURN {
                return Stop::Returned;
            }
            if self.pc == image.host_trap {
                return Stop::OwnFault;
            }
            if let Some((left, cause)) = self.own_fault {
                self.own_fault = left.checked_sub(1).map(|left| (left, cause));
                if left == 0 {
                    self.has_faulted = true;
                    self.trap(cause, 0x1234, true);
                }
            }
            let Some((index, instruction)) = image.instruction(self.pc) else {
                return Stop::Unknown(self.pc);
            };
            counts.executed(index);
            let (here, next) = (self.pc, self.pc.wrapping_add(u64::from(instruction.length)));
            self.pc = next;
            match self.execute(instruction, here, memory) {
                Ok(Did::Nothing) => {}
                Ok(Did::Branch(is_taken)) => counts.branched(index, is_taken),
                Ok(Did::Sret) if self.csrs.sstatus & sstatus::SPP == 0 => {
                    self.return_to_user();
                    return Stop::Guest(self.pc);
                }
                Ok(Did::Sret) => return Stop::SretToSupervisor(here),
                // In the handling of a trap of our own all may be out of place: the hardware says so.
                Err(Wrong::Wild(wild)) if self.has_faulted => {
                    self.pc = here;
                    let cause = if wild.is_store { STORE_PAGE_FAULT } else { LOAD_PAGE_FAULT };
                    self.trap(cause, wild.address, true);
                }
                Err(Wrong::Wild(wild)) => return Stop::Wild(wild, here),
                Err(Wrong::Unknown) => return Stop::Unknown(here),
            }
        }
        Stop::Endless
    }

    /// SRET: SIE <- SPIE, SPIE <- 1.
    pub fn return_to_user(&mut self) {
        let status = self.csrs.sstatus;
        let sie = if status & sstatus::SPIE != 0 { sstatus::SIE } else { 0 };
        self.csrs.sstatus = status & !sstatus::SIE | sie | sstatus::SPIE;
        self.pc = self.csrs.sepc;
    }

    /// Executes an instruction at `here`; the pc is already behind it.
    pub fn execute(
        &mut self,
        instruction: &Instruction,
        here: u64,
        memory: &mut Memory,
    ) -> Result<Did, Wrong> {
        let &Instruction { op, rd, rs1, rs2, has_imm, imm, csr, .. } = instruction;
        let a = self.x[usize::from(rs1)];
        let b = if has_imm { imm as u64 } else { self.x[usize::from(rs2)] };
        let value = match op {
            Op::Lui => b,
            Op::Auipc => here.wrapping_add(b),
            Op::Jal => core::mem::replace(&mut self.pc, here.wrapping_add(b)),
            Op::Jalr => core::mem::replace(&mut self.pc, a.wrapping_add(b) & !1),
            Op::Beq => return Ok(self.branch(a == b, here, imm)),
            Op::Bne => return Ok(self.branch(a != b, here, imm)),
            Op::Blt => return Ok(self.branch((a as i64) < b as i64, here, imm)),
            Op::Bge => return Ok(self.branch(a as i64 >= b as i64, here, imm)),
            Op::Bltu => return Ok(self.branch(a < b, here, imm)),
            Op::Bgeu => return Ok(self.branch(a >= b, here, imm)),
            Op::Load(bytes, is_signed) => {
                let value = memory.load(a.wrapping_add(b), bytes).map_err(Wrong::Wild)?;
                let shift = 64 - 8 * u32::from(bytes);
                if is_signed { ((value << shift) as i64 >> shift) as u64 } else { value }
            }
            Op::Store(bytes) => {
                let value = self.x[usize::from(rs2)];
                memory.store(a.wrapping_add(b), bytes, value).map_err(Wrong::Wild)?;
                return Ok(Did::Nothing);
            }
            Op::Add => a.wrapping_add(b),
            Op::Sub => a.wrapping_sub(b),
            Op::Sll => a << (b & 63),
            Op::Srl => a >> (b & 63),
            Op::Sra => (a as i64 >> (b & 63)) as u64,
            Op::Slt => u64::from((a as i64) < b as i64),
            Op::Sltu => u64::from(a < b),
            Op::Xor => a ^ b,
            Op::Or => a | b,
            Op::And => a & b,
            Op::AddW => a.wrapping_add(b) as i32 as u64,
            Op::SubW => a.wrapping_sub(b) as i32 as u64,
            Op::Swap | Op::Set | Op::Clear => {
                let operand = if has_imm { b } else { a };
                let old = self.csrs.read(csr).ok_or(Wrong::Unknown)?;
                let new = match op {
                    Op::Swap => operand,
                    Op::Set => old | operand,
                    _ => old & !operand,
                };
                // Zicsr: a zero source field of the others does not write.
                if op == Op::Swap || rs1 != 0 {
                    self.csrs.write(csr, new).ok_or(Wrong::Unknown)?;
                    self.has_fenced &= csr != SATP;
                }
                old
            }
            Op::SfenceVma => {
                self.has_fenced |= rs1 == 0 && rs2 == 0;
                return Ok(Did::Nothing);
            }
            Op::Fence => return Ok(Did::Nothing),
            Op::Sret => return Ok(Did::Sret),
            Op::Unknown => return Err(Wrong::Unknown),
        };
        if rd != 0 {
            self.x[usize::from(rd)] = value;
        }
        Ok(Did::Nothing)
    }

    fn branch(&mut self, is_taken: bool, here: u64, offset: i64) -> Did {
        if is_taken {
            self.pc = here.wrapping_add_signed(offset);
        }
        Did::Branch(is_taken)
    }
}

const LOAD_PAGE_FAULT: u64 = Exception::LoadPageFault.code();
const STORE_PAGE_FAULT: u64 = Exception::StorePageFault.code();

/// What an instruction has done that its user has to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    Nothing,
    /// Decided whether to go another way.
    Branch(bool),
    /// Nothing yet: returns from the trap.
    Sret,
}

/// Why an instruction could not be executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    Wild(Wild),
    Unknown,
}
