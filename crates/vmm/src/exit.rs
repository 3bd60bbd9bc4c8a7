//! Names an exit from its cause and the virtual privilege, and hands it to the room that serves it. No exception that code in
//! user mode can raise stops a virtual machine: *guests-exception*.

use isa::instr::decode;
use isa::{Exception, Instr, Privilege, TrapInfo};
use memory::GuestVirtAddr;
use mmu::{Access, Verdict};
use trace::ExitKind;

use crate::code::{self, Replaced};
use crate::emulate;
use crate::fetch;
use crate::host::Host;
use crate::machine::Machine;
use crate::mmio;
use crate::outcome::{Fatal, Outcome, StopReason};
use crate::protected;
use crate::sbi;
use crate::vcpu::Vcpu;

/// Why the guest stopped running, as far as the cause alone tells.
enum Exit {
    /// A supervisor's ecall: a call of the SBI.
    Sbi,
    /// An instruction that the hardware refuses in user mode.
    Illegal,
    /// The shadow does not have the page, or the guest does not.
    PageFault(Access),
    /// The hardware refused an access, wherever the shadow leads.
    AccessFault(Access),
    /// An exception that is the guest's own business.
    Guest(Exception),
    /// Nothing that a guest in user mode can raise.
    Unexpected,
}

impl Exit {
    fn name(cause: u64, privilege: Privilege) -> Self {
        match Exception::from_code(cause) {
            Some(Exception::EcallFromUser) if privilege == Privilege::Supervisor => Self::Sbi,
            Some(Exception::IllegalInstruction) => Self::Illegal,
            Some(Exception::InstructionPageFault) => Self::PageFault(Access::Fetch),
            Some(Exception::LoadPageFault) => Self::PageFault(Access::Load),
            Some(Exception::StorePageFault) => Self::PageFault(Access::Store),
            Some(Exception::InstructionAccessFault) => Self::AccessFault(Access::Fetch),
            Some(Exception::LoadAccessFault) => Self::AccessFault(Access::Load),
            Some(Exception::StoreAccessFault) => Self::AccessFault(Access::Store),
            Some(Exception::EcallFromSupervisor) | None => Self::Unexpected,
            Some(exception) => Self::Guest(exception),
        }
    }
}

/// Serves a synchronous exception of the vCPU.
pub fn handle(machine: &Machine, vcpu: &mut Vcpu, trap: TrapInfo, host: &mut impl Host) -> Outcome {
    const LOAD: u64 = Exception::LoadPageFault.code();
    const STORE: u64 = Exception::StorePageFault.code();
    // The devices first: there are many of these, and they are found quickly.
    if let LOAD | STORE = trap.cause
        && let access = if trap.cause == STORE { Access::Store } else { Access::Load }
        && let Some(outcome) = mmio::again(machine, vcpu, access, host)
    {
        vcpu.exits.count(ExitKind::Mmio);
        return outcome;
    }
    match Exit::name(trap.cause, vcpu.frame.privilege) {
        Exit::Sbi => {
            vcpu.exits.count(ExitKind::Sbi);
            sbi::call(machine, vcpu, host)
        }
        Exit::Illegal => emulate::illegal_instruction(machine, vcpu, trap, host),
        Exit::Guest(Exception::Breakpoint) => match code::replaced(machine, vcpu) {
            Some(Replaced::Whole(bits)) => {
                vcpu.exits.count(ExitKind::Rewritten);
                emulate::instruction(vcpu, &machine.ram, bits, host)
            }
            Some(Replaced::Torn) => torn(machine, vcpu, host),
            None => guest_exception(vcpu, Exception::Breakpoint, trap),
        },
        Exit::PageFault(access) => page_fault(machine, vcpu, trap, access, host),
        Exit::AccessFault(access) => access_fault(machine, vcpu, trap, access, host),
        Exit::Guest(exception) => guest_exception(vcpu, exception, trap),
        Exit::Unexpected => unexpected(trap),
    }
}

/// The instruction that the page's end tears, for whose first half a breakpoint stands. It is fetched as the hart would: its
/// second half may not be there, or make it an instruction that the hart executes itself.
#[cold]
#[inline(never)]
fn torn(machine: &Machine, vcpu: &mut Vcpu, host: &impl Host) -> Outcome {
    let bits = match fetch::instruction(vcpu, &machine.ram) {
        Ok(bits) => bits,
        Err((exception, value)) => return Outcome::Inject(exception, value),
    };
    if let Instr::Ecall | Instr::Ebreak = decode(bits) {
        code::restore(machine, vcpu);
        return Outcome::Resume;
    }
    vcpu.exits.count(ExitKind::Rewritten);
    emulate::instruction(vcpu, &machine.ram, bits, host)
}

fn guest_exception(vcpu: &mut Vcpu, exception: Exception, trap: TrapInfo) -> Outcome {
    let kind = match exception {
        Exception::EcallFromUser => ExitKind::UserEcall,
        _ => ExitKind::GuestException,
    };
    vcpu.exits.count(kind);
    Outcome::Inject(exception, trap.value)
}

fn page_fault(
    machine: &Machine,
    vcpu: &mut Vcpu,
    trap: TrapInfo,
    access: Access,
    host: &mut impl Host,
) -> Outcome {
    if access == Access::Load
        && let Some(outcome) = mmio::load_again(machine, vcpu, host)
    {
        vcpu.exits.count(ExitKind::Overlay);
        return outcome;
    }
    let verdict = resolve(machine, vcpu, trap, access);
    serve_fault(machine, vcpu, trap, access, verdict, host)
}

fn resolve(machine: &Machine, vcpu: &mut Vcpu, trap: TrapInfo, access: Access) -> Verdict {
    vcpu.caches.shadow.resolve(&machine.ram, vcpu.context(), GuestVirtAddr(trap.value), access)
}

fn serve_fault(
    machine: &Machine,
    vcpu: &mut Vcpu,
    trap: TrapInfo,
    access: Access,
    verdict: Verdict,
    host: &mut impl Host,
) -> Outcome {
    match verdict {
        Verdict::Filled => {
            vcpu.exits.count(ExitKind::Fill);
            Outcome::Resume
        }
        Verdict::Fault(exception) => {
            vcpu.exits.count(ExitKind::GuestPageFault);
            Outcome::Inject(exception, trap.value)
        }
        Verdict::Overlaid(page) => {
            vcpu.exits.count(ExitKind::Overlay);
            protected::access(machine, vcpu, GuestVirtAddr(trap.value), page, access, host)
        }
        Verdict::Unscanned => {
            let context = vcpu.context();
            code::scan(machine, vcpu, context, trap.value);
            Outcome::Resume
        }
        Verdict::NotRam(_) if access == Access::Fetch => {
            vcpu.exits.count(ExitKind::GuestException);
            Outcome::Inject(access.access_fault(), trap.value)
        }
        Verdict::NotRam(_) => {
            vcpu.exits.count(ExitKind::Mmio);
            mmio::access(machine, vcpu, GuestVirtAddr(trap.value), access, host)
        }
        Verdict::Collision => {
            Outcome::Stop(StopReason::Fatal(Fatal::WindowCollision { address: trap.value }))
        }
    }
}

/// The shadow maps nothing but RAM, so what the hardware refuses there is not the place but the access: a misaligned one, as a
/// rule of an atomic. Priv. spec, "Memory-Ordering PMAs" and "Misaligned Atomicity Granule PMA": a hart may raise an access
/// fault for it. It would do so natively, and the guest's kernel knows what to do. Firmware that finishes a misaligned access
/// itself may also report a device's address, or one that the guest does not map, this way.
fn access_fault(
    machine: &Machine,
    vcpu: &mut Vcpu,
    trap: TrapInfo,
    access: Access,
    host: &mut impl Host,
) -> Outcome {
    match resolve(machine, vcpu, trap, access) {
        Verdict::Filled => guest_exception(vcpu, access.access_fault(), trap),
        verdict => serve_fault(machine, vcpu, trap, access, verdict, host),
    }
}

fn unexpected(trap: TrapInfo) -> Outcome {
    Outcome::Stop(StopReason::Fatal(Fatal::UnexpectedTrap { cause: trap.cause, value: trap.value }))
}
