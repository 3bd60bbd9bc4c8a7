//! The SBI: which extensions there are, and the way of a call to them. Their calling convention and what the base
//! extension says of them are the `rustsbi` crate's; it does not know the legacy extensions.

mod console;
mod fence;
pub mod hsm;
mod ipi;
mod legacy;
mod machine;
pub mod mailbox;
mod reset;
mod timer;

use crate::csr;
use crate::frame::{Fault, Frame};
pub use machine::init;
use rustsbi::spec::{base, hsm as hsm_spec, srst};
use rustsbi::{EnvInfo, RustSBI, SbiRet};

/// All extensions.
#[derive(RustSBI)]
struct Sbi {
    console: console::Console,
    fence: fence::Fence,
    hsm: hsm::Hsm,
    info: Identity,
    ipi: ipi::Ipi,
    reset: reset::Reset,
    timer: timer::Timer,
}

const SBI: Sbi = Sbi {
    console: console::Console,
    fence: fence::Fence,
    hsm: hsm::Hsm,
    info: Identity,
    ipi: ipi::Ipi,
    reset: reset::Reset,
    timer: timer::Timer,
};

/// The processor, as the base extension names it.
struct Identity;

impl EnvInfo for Identity {
    fn mvendorid(&self) -> usize {
        csr::read!("mvendorid") as usize
    }
    fn marchid(&self) -> usize {
        csr::read!("marchid") as usize
    }
    fn mimpid(&self) -> usize {
        csr::read!("mimpid") as usize
    }
}

/// Serves the call in `frame`. An error is an exception for the caller.
pub fn serve(frame: &mut Frame) -> Result<(), Fault> {
    let extension = frame.x[17] as usize;
    let function = frame.x[16] as usize;
    let mut parameters = [10, 11, 12, 13, 14, 15].map(|register| frame.x[register] as usize);
    if legacy::IDS.contains(&extension) {
        // No error code beside the value: a1 stays. SBI spec, "Legacy Extensions".
        frame.x[10] = legacy::serve(extension, parameters)? as u64;
        return Ok(());
    }
    // Parameters of 32 bits. The crate refuses what has something in the upper half; by the calling convention that
    // is the sign, and should be ignored.
    match (extension, function) {
        (hsm_spec::EID_HSM, hsm_spec::HART_SUSPEND) => parameters[0] &= 0xffff_ffff,
        (srst::EID_SRST, srst::SYSTEM_RESET) => {
            parameters[0] &= 0xffff_ffff;
            parameters[1] &= 0xffff_ffff;
        }
        _ => {}
    }
    let answer = match (extension, function, parameters[0]) {
        (base::EID_BASE, base::PROBE_EXTENSION, probed) if legacy::IDS.contains(&probed) => {
            SbiRet::success(1)
        }
        _ => SBI.handle_ecall(extension, function, parameters),
    };
    frame.x[10] = answer.error as u64;
    frame.x[11] = answer.value as u64;
    Ok(())
}
