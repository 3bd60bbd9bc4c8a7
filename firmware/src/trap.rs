//! What becomes of a trap that reaches M-mode: few do, since all that can be is delegated.

use crate::csr::{self, interrupt, mstatus};
use crate::frame::{Fault, Frame};
use crate::{hart, sbi};

/// What mcause says of interrupts.
const INTERRUPT: u64 = 1 << 63;
const SOFTWARE: u64 = INTERRUPT | 3;
const TIMER: u64 = INTERRUPT | 7;
const ECALL_FROM_SUPERVISOR: u64 = 9;

/// Serves a trap from S-mode or U-mode.
pub extern "C" fn serve(frame: &mut Frame) {
    match csr::read!("mcause") {
        ECALL_FROM_SUPERVISOR => match sbi::serve(frame) {
            Ok(()) => frame.pc = frame.pc.wrapping_add(4),
            Err(fault) => hand_on(frame, &fault),
        },
        TIMER => {
            // It comes again for the next deadline only.
            csr::clear!("mie", interrupt::MACHINE_TIMER);
            csr::set!("mip", interrupt::SUPERVISOR_TIMER);
        }
        SOFTWARE => sbi::mailbox::serve(hart::id()),
        // Nothing else interrupts, as nothing else is enabled.
        cause if cause & INTERRUPT != 0 => {}
        // What the hart does not let us delegate.
        cause => hand_on(frame, &Fault { cause, tval: csr::read!("mtval") }),
    }
}

/// Does what the hart does when a trap is delegated. Priv. spec, "Trap Delegation" and "sstatus".
fn hand_on(frame: &mut Frame, fault: &Fault) {
    csr::write!("scause", fault.cause);
    csr::write!("stval", fault.tval);
    csr::write!("sepc", frame.pc);
    let before = frame.mstatus;
    frame.mstatus &= !(mstatus::SPP | mstatus::SPIE | mstatus::SIE | mstatus::MPP);
    if before & mstatus::MPP == mstatus::MPP_SUPERVISOR {
        frame.mstatus |= mstatus::SPP;
    }
    if before & mstatus::SIE != 0 {
        frame.mstatus |= mstatus::SPIE;
    }
    frame.mstatus |= mstatus::MPP_SUPERVISOR;
    frame.pc = csr::read!("stvec") & !3;
}

/// A trap of M-mode's own code.
pub extern "C" fn own() -> ! {
    let (cause, epc, tval) = (csr::read!("mcause"), csr::read!("mepc"), csr::read!("mtval"));
    panic!("trap {cause:#x} at {epc:#x}, mtval {tval:#x}")
}
