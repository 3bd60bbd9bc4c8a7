//! The hart state management extension: harts start, stop and suspend. SBI spec, "Hart State Management".

use super::machine::{harts, is_ram};
use super::mailbox;
use crate::csr::{self, interrupt};
use crate::{enter, hart};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use firmware::harts::MAX_HARTS;
use rustsbi::SbiRet;
use rustsbi::spec::hsm::{hart_state, suspend_type};

/// What a hart is about, and where it is to start.
struct State {
    /// One of `hart_state`.
    state: AtomicUsize,
    /// Whether `entry` and `opaque` are there to be started with.
    go: AtomicBool,
    entry: AtomicU64,
    opaque: AtomicU64,
}

impl State {
    const fn new() -> Self {
        Self {
            state: AtomicUsize::new(hart_state::STOPPED),
            go: AtomicBool::new(false),
            entry: AtomicU64::new(0),
            opaque: AtomicU64::new(0),
        }
    }
}

static STATES: [State; MAX_HARTS] = [const { State::new() }; MAX_HARTS];

/// The hart that boots has started.
pub fn boot() {
    set(hart_state::STARTED);
}

/// Whether S-mode has left something on a hart that fences are about.
pub fn runs(hart: usize) -> bool {
    STATES[hart].state.load(Ordering::SeqCst) != hart_state::STOPPED
}

/// Waits until somebody starts this hart. What it is asked in the meantime is answered, for a call may have seen it
/// running.
pub fn wait_for_start() -> ! {
    let own = hart::id();
    csr::write!("mie", interrupt::MACHINE_SOFTWARE);
    loop {
        mailbox::serve(own);
        let state = &STATES[own];
        if state.go.swap(false, Ordering::SeqCst) {
            set(hart_state::STARTED);
            csr::clear!("mip", interrupt::SUPERVISOR);
            enter::supervisor(state.entry.load(Ordering::SeqCst), state.opaque.load(Ordering::SeqCst));
        }
        hart::wait();
    }
}

fn set(state: usize) {
    STATES[hart::id()].state.store(state, Ordering::SeqCst);
}

/// The extension.
pub struct Hsm;

impl rustsbi::Hsm for Hsm {
    fn hart_start(&self, hart: usize, entry: usize, opaque: usize) -> SbiRet {
        if !harts().contains(hart) {
            return SbiRet::invalid_param();
        }
        if !is_ram(entry as u64, 2) || !entry.is_multiple_of(2) {
            return SbiRet::invalid_address();
        }
        let target = &STATES[hart];
        let (from, to) = (hart_state::STOPPED, hart_state::START_PENDING);
        if target.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return SbiRet::already_available();
        }
        target.entry.store(entry as u64, Ordering::SeqCst);
        target.opaque.store(opaque as u64, Ordering::SeqCst);
        target.go.store(true, Ordering::SeqCst);
        mailbox::ring(hart);
        SbiRet::success(0)
    }

    fn hart_stop(&self) -> SbiRet {
        set(hart_state::STOPPED);
        wait_for_start()
    }

    fn hart_get_status(&self, hart: usize) -> SbiRet {
        if harts().contains(hart) {
            SbiRet::success(STATES[hart].state.load(Ordering::SeqCst))
        } else {
            SbiRet::invalid_param()
        }
    }

    fn hart_suspend(&self, kind: u32, resume: usize, opaque: usize) -> SbiRet {
        match kind {
            suspend_type::RETENTIVE => {
                suspend();
                SbiRet::success(0)
            }
            suspend_type::NON_RETENTIVE if is_ram(resume as u64, 2) && resume.is_multiple_of(2) => {
                suspend();
                enter::supervisor(resume as u64, opaque as u64)
            }
            suspend_type::NON_RETENTIVE => SbiRet::invalid_address(),
            // Suspend types of a platform: this one has none.
            0x1000_0000..=0x7fff_ffff | 0x9000_0000..=0xffff_ffff => SbiRet::not_supported(),
            _ => SbiRet::invalid_param(),
        }
    }
}

/// Waits for an interrupt that S-mode has enabled.
fn suspend() {
    set(hart_state::SUSPENDED);
    loop {
        mailbox::serve(hart::id());
        let pending = csr::read!("mip");
        if pending & interrupt::MACHINE_TIMER & csr::read!("mie") != 0 {
            csr::clear!("mie", interrupt::MACHINE_TIMER);
            csr::set!("mip", interrupt::SUPERVISOR_TIMER);
        }
        if csr::read!("mip") & csr::read!("mie") & interrupt::SUPERVISOR != 0 {
            break;
        }
        hart::wait();
    }
    set(hart_state::STARTED);
}
