//! The SBI: which extensions there are, and the way of a call to them. Their calling convention and what the base
//! extension says of them are the `rustsbi` crate's; it does not know the legacy extensions.

mod console;
mod fence;
pub mod hsm;
mod ipi;
mod legacy;
pub mod mailbox;
mod reset;
mod timer;

use crate::csr;
use crate::enter::Frame;
use crate::trap::Fault;
use core::sync::atomic::{AtomicU64, Ordering};
use firmware::harts::HartSet;
use firmware::tree::Machine;
use rustsbi::spec::{base, hsm as hsm_spec, srst};
use rustsbi::{EnvInfo, RustSBI, SbiRet};

/// What the device tree said: set once, before other harts run.
static HARTS: AtomicU64 = AtomicU64::new(0);
static RAM_START: AtomicU64 = AtomicU64::new(0);
static RAM_END: AtomicU64 = AtomicU64::new(0);

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

/// Takes note of the machine.
pub fn init(machine: &Machine) {
    HARTS.store(machine.harts.0, Ordering::Relaxed);
    RAM_START.store(crate::map::OWN.end.max(machine.ram.start), Ordering::Relaxed);
    RAM_END.store(machine.ram.end, Ordering::Relaxed);
}

/// The harts that there are.
fn harts() -> HartSet {
    HartSet(HARTS.load(Ordering::Relaxed))
}

/// Whether all of a range is RAM, and not the firmware's.
fn is_ram(start: u64, len: u64) -> bool {
    let end = start.checked_add(len);
    start >= RAM_START.load(Ordering::Relaxed)
        && end.is_some_and(|end| end <= RAM_END.load(Ordering::Relaxed))
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
