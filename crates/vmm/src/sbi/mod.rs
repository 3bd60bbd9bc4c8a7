//! The SBI that guests see: version 2.0, one file an extension. SBI spec, "Binary Encoding".
//!
//! A call finds its extension in one table. All registers but a0 and a1 are preserved.

mod base;
mod call;
mod dbcn;
mod hsm;
mod ipi;
mod legacy;
mod masks;
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
pub use call::SbiError;
use call::{ECALL, Reply, SbiCall, SbiResult};

macro_rules! extensions {
    (often { $($often:literal => $serves:path),* $(,)? } seldom { $($eid:literal => $handler:path),* $(,)? }) => {
        /// Whether guests have the extension.
        fn is_present(eid: u64) -> bool {
            matches!(eid, $($often)|* | $($eid)|*)
        }

        fn dispatch(eid: u64, call: SbiCall, machine: &Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> Reply {
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
            machine: &Machine,
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
        0x10 => base_call,
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

/// The base extension's calls, which may ask for what is in the table.
fn base_call<H>(call: SbiCall, _: &Machine, _: &mut Vcpu, _: &mut H) -> SbiResult {
    base::call(call, is_present)
}

/// Serves the SBI call that the vCPU's registers make.
pub(crate) fn call(machine: &Machine, vcpu: &mut Vcpu, host: &mut impl Host) -> Outcome {
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
