//! A process: its registers, its address space, and how it stands. What happens to it is up to `kernel`.

use crate::memory::space::Space;
use crate::programs::Program;
use crate::trap::TrapFrame;
use core::fmt;
use guest_rt::isa::Exception;

/// A process's number. They count up from 1 and are not used again.
pub type Pid = u32;

/// A process.
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// The program that it runs.
    pub program: &'static Program,
    /// Its registers, while it does not run.
    pub frame: TrapFrame,
    /// Its memory.
    pub space: Space,
    /// When it wants to be woken, in ticks of `time`; `None` while it is awake.
    pub asleep_until: Option<u64>,
    /// Ticks of `time` that it has run.
    pub run_time: u64,
    /// System calls that it has made.
    pub calls: u64,
}

/// A process that is no more.
#[derive(Clone, Copy)]
pub struct Ended {
    /// Its number.
    pub pid: Pid,
    /// The program that it ran.
    pub program: &'static Program,
    /// How it came to its end.
    pub how: Ending,
}

/// How a process came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It called `exit` with this status.
    Exited(u64),
    /// The user ended it.
    Killed,
    /// It did what it may not.
    Faulted {
        /// What the hart called it.
        exception: Exception,
        /// stval: for a page fault, the address.
        value: u64,
        /// Where its code was.
        pc: u64,
    },
    /// A trap with a cause that this kernel does not know.
    Unknown(u64),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(0) => f.write_str("done"),
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Killed => write!(f, "killed"),
            Self::Faulted { exception, value, pc } => {
                write!(f, "{} at pc {pc:#x}", exception_name(exception))?;
                if is_page_fault(exception) { write!(f, ", address {value:#x}") } else { Ok(()) }
            }
            Self::Unknown(cause) => write!(f, "trap with unknown cause {cause:#x}"),
        }
    }
}

/// Whether stval of this exception is the address of a page that was not mapped for the access.
pub fn is_page_fault(exception: Exception) -> bool {
    use Exception::*;
    matches!(exception, InstructionPageFault | LoadPageFault | StorePageFault)
}

/// The specification's name.
fn exception_name(exception: Exception) -> &'static str {
    match exception {
        Exception::InstructionAddressMisaligned => "misaligned jump",
        Exception::InstructionAccessFault => "instruction access fault",
        Exception::IllegalInstruction => "illegal instruction",
        Exception::Breakpoint => "breakpoint",
        Exception::LoadAddressMisaligned => "misaligned load",
        Exception::LoadAccessFault => "load access fault",
        Exception::StoreAddressMisaligned => "misaligned store",
        Exception::StoreAccessFault => "store access fault",
        Exception::EcallFromUser => "system call",
        Exception::EcallFromSupervisor => "firmware call",
        Exception::InstructionPageFault => "instruction page fault",
        Exception::LoadPageFault => "load page fault",
        Exception::StorePageFault => "store page fault",
    }
}
