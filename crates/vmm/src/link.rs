//! What reaches a virtual hart from outside: other harts' interrupts and fences, and its power state. Its own vCPU
//! takes it over before it runs on.

use sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

/// SBI spec, "Hart State Management", hart states.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the specification's.
pub enum HartState {
    Started = 0,
    Stopped = 1,
    Suspended = 4,
}

/// A hart's letter box.
#[derive(Debug)]
pub struct Link {
    /// There is something for the hart: looked at at each exit.
    mail: AtomicBool,
    software_interrupt: AtomicBool,
    fence: AtomicBool,
    state: AtomicU8,
}

impl Link {
    /// A stopped hart's.
    pub fn new() -> Self {
        Self {
            mail: AtomicBool::new(false),
            software_interrupt: AtomicBool::new(false),
            fence: AtomicBool::new(false),
            state: AtomicU8::new(HartState::Stopped as u8),
        }
    }

    /// Takes out all that was sent, and stops the hart: power-on state. Its vCPU must not run.
    pub fn reset(&self) {
        self.software_interrupt.store(false, Ordering::Relaxed);
        self.fence.store(false, Ordering::Relaxed);
        self.set_state(HartState::Stopped);
        self.mail.store(false, Ordering::Relaxed);
    }

    /// Has the hart look at what has changed outside its letter box.
    pub(crate) fn post(&self) {
        // A swap: its place among the vCPU's swaps is certain, and it will say whether a kick is due.
        self.mail.swap(true, Ordering::AcqRel);
    }

    /// Sends a supervisor software interrupt.
    pub fn send_software_interrupt(&self) {
        self.software_interrupt.store(true, Ordering::Release);
        self.post();
    }

    /// Asks for a fence of everything before the hart runs on.
    pub fn request_fence(&self) {
        self.fence.store(true, Ordering::Release);
        self.post();
    }

    /// Whether something was sent since this was asked last.
    #[inline]
    pub fn take_mail(&self) -> bool {
        take(&self.mail)
    }

    /// Takes a software interrupt out.
    pub fn take_software_interrupt(&self) -> bool {
        take(&self.software_interrupt)
    }

    /// Whether there is a software interrupt, which stays.
    pub fn has_software_interrupt(&self) -> bool {
        self.software_interrupt.load(Ordering::Acquire)
    }

    /// Takes the request for a fence out.
    pub fn take_fence(&self) -> bool {
        take(&self.fence)
    }

    /// The power state.
    pub fn state(&self) -> HartState {
        match self.state.load(Ordering::Acquire) {
            0 => HartState::Started,
            4 => HartState::Suspended,
            _ => HartState::Stopped,
        }
    }

    /// Sets the power state.
    pub fn set_state(&self, state: HartState) {
        self.state.store(state as u8, Ordering::Release);
    }
}

/// Takes a request out. Looks first: a swap at every exit is dear.
#[inline]
fn take(request: &AtomicBool) -> bool {
    request.load(Ordering::Relaxed) && request.swap(false, Ordering::AcqRel)
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}
