//! What a handler decides; `vcpu` carries it out.

use core::fmt;

use isa::Exception;

/// What becomes of a vCPU after an exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The instruction at pc is done; it was this many bytes long.
    Advance(u64),
    /// Go on at pc, which the handler may have set through `Vcpu::return_from_trap`, or try the instruction again.
    Resume,
    /// The guest gets this exception, with this stval.
    Inject(Exception, u64),
    /// WFI: the instruction is done, and nothing more happens until an interrupt is pending.
    Wait,
    /// The virtual machine ends.
    Stop(StopReason),
}

/// Why a virtual machine ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// The guest powered itself off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest reported failure to the test finisher, with this code.
    Failed(u16),
    /// The guest cannot go on, for a reason of ours.
    Fatal(Fatal),
}

/// Why we stopped a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fatal {
    /// It faults at its own trap vector, over and over.
    TrapVectorUnreachable {
        /// The fault's cause.
        cause: u64,
        /// The address that cannot be fetched.
        address: u64,
    },
    /// It mapped an address that the hypervisor occupies on this host.
    WindowCollision {
        /// The address.
        address: u64,
    },
    /// The real hart reported something that no guest can cause.
    UnexpectedTrap {
        /// scause.
        cause: u64,
        /// stval.
        value: u64,
    },
    /// The last running hart stopped itself.
    NoHartLeft,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("powered off"),
            Self::Reset => f.write_str("asked for a reset"),
            Self::Failed(code) => write!(f, "reported failure {code}"),
            Self::Fatal(fatal) => fatal.fmt(f),
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrapVectorUnreachable { cause, address } => {
                write!(
                    f,
                    "its trap vector at {address:#x} cannot be fetched (cause {cause}), so it would trap forever"
                )
            }
            Self::WindowCollision { address } => write!(
                f,
                "it uses {address:#x}, where the hypervisor lives on this Sv39-only host; \
                 set `window` under [host] in the manifest to a range that the guest leaves free"
            ),
            Self::UnexpectedTrap { cause, value } => {
                write!(f, "the hart reported an unexpected trap, scause {cause:#x}, stval {value:#x}")
            }
            Self::NoHartLeft => f.write_str("its last running hart stopped itself"),
        }
    }
}
