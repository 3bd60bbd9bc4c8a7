//! The SBI that guests see: version 2.0, one file an extension. SBI spec, "Binary Encoding".
//!
//! A call finds its extension in one table. All registers but a0 and a1 are preserved.

mod base;
mod dbcn;
mod hsm;
mod ipi;
mod legacy;
mod pmu;
mod rfence;
mod srst;
pub mod sta;
mod time;

use isa::Reg;

use crate::host::Host;
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::vcpu::Vcpu;

/// Bytes of an ECALL.
const ECALL: u64 = 4;

/// Why a call failed. SBI spec, "Standard SBI Errors".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i64)]
pub enum SbiError {
    /// There is no such extension or function.
    NotSupported = -2,
    /// A parameter is wrong.
    InvalidParam = -3,
    /// An address is wrong.
    InvalidAddress = -5,
    /// What was asked for is so already.
    AlreadyAvailable = -6,
    /// It runs already.
    AlreadyStarted = -7,
    /// It does not run.
    AlreadyStopped = -8,
    /// No shared memory was named.
    NoSharedMemory = -9,
}

/// What a call gives: the value for a1, or an error.
type SbiResult = Result<u64, SbiError>;

/// A call's arguments.
#[derive(Clone, Copy, Debug)]
struct SbiCall {
    function: u64,
    args: [u64; 6],
}

/// What a handler of calls decides.
enum Reply {
    /// The call returns this.
    Return(SbiResult),
    /// A legacy call returns this in a0 alone.
    Legacy(i64),
    /// The call does not return by itself.
    Outcome(Outcome),
}

impl From<SbiResult> for Reply {
    fn from(result: SbiResult) -> Self {
        Self::Return(result)
    }
}

macro_rules! extensions {
    (often { $($often:literal => $serves:path),* $(,)? } seldom { $($eid:literal => $handler:path),* $(,)? }) => {
        /// Whether guests have the extension.
        fn is_present(eid: u64) -> bool {
            matches!(eid, $($often)|* | $($eid)|*)
        }

        fn dispatch(eid: u64, call: SbiCall, machine: &mut Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> Reply {
            match eid {
                $($often => $serves(call, machine, vcpu, host).into(),)*
                _ => dispatch_seldom(eid, call, machine, vcpu, host),
            }
        }

        /// Apart, so that the others are found soon.
        #[inline(never)]
        fn dispatch_seldom(
            eid: u64,
            call: SbiCall,
            machine: &mut Machine,
            vcpu: &mut Vcpu,
            host: &mut impl Host,
        ) -> Reply {
            match eid {
                $($eid => $handler(call, machine, vcpu, host).into(),)*
                _ => Reply::Return(Err(SbiError::NotSupported)),
            }
        }
    };
}

extensions! {
    often {
        0x00 => legacy::set_timer,
        0x10 => base::call,
        0x54494d45 => time::call,
        0x735049 => ipi::call,
        0x52464e43 => rfence::call,
    }
    seldom {
        0x01 => legacy::console_putchar,
        0x02 => legacy::console_getchar,
        0x03 => legacy::clear_ipi,
        0x04 => legacy::send_ipi,
        0x05 => legacy::remote_fence_i,
        0x06 => legacy::remote_sfence_vma,
        0x07 => legacy::remote_sfence_vma_asid,
        0x08 => legacy::shutdown,
        0x48534d => hsm::call,
        0x53525354 => srst::call,
        0x4442434e => dbcn::call,
        0x535441 => sta::call,
        0x504d55 => pmu::call,
    }
}

/// Serves the SBI call that the vCPU's registers make.
pub(crate) fn call(machine: &mut Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> Outcome {
    let argument = |n: u32| vcpu.frame.get(Reg::new(10 + n));
    let args = [argument(0), argument(1), argument(2), argument(3), argument(4), argument(5)];
    // The numbers have 32 bits, sign-extended, and firmware compares the whole register.
    let (function, eid) = (argument(6), argument(7));
    match dispatch(eid, SbiCall { function, args }, machine, vcpu, host) {
        Reply::Return(result) => {
            let (error, value) = match result {
                Ok(value) => (0, value),
                Err(error) => (error as i64, 0),
            };
            vcpu.frame.set(Reg::A0, error as u64);
            vcpu.frame.set(Reg::A1, value);
            Outcome::Advance(ECALL)
        }
        Reply::Legacy(value) => {
            vcpu.frame.set(Reg::A0, value as u64);
            Outcome::Advance(ECALL)
        }
        Reply::Outcome(outcome) => outcome,
    }
}

/// The harts that a mask and its base select. SBI spec, "Hart list parameter".
///
/// # Errors
/// `InvalidParam` where a selected hart does not exist. An empty mask selects none, whatever its base.
fn select_harts(machine: &Machine, mask: u64, base: u64) -> Result<u64, SbiError> {
    let all = u64::MAX.checked_shr(64_u32.saturating_sub(machine.links.len() as u32)).unwrap_or(0);
    if base == u64::MAX {
        return Ok(all);
    }
    if mask == 0 {
        return Ok(0);
    }
    let shift = u32::try_from(base).ok().filter(|base| *base < 64).ok_or(SbiError::InvalidParam)?;
    let selected = mask << shift;
    if selected >> shift != mask || selected & !all != 0 {
        return Err(SbiError::InvalidParam);
    }
    Ok(selected)
}

/// The numbers of the bits that are set.
fn bits(mask: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |n| mask >> n & 1 != 0)
}
