//! The operator's terminal, which a run shares with the shell that started it: raw while the run is in the foreground,
//! as it was before while the run is in the background or stopped, and at the end. Knows no keys; `console` does.

use crate::keeper::Keeper;
use crate::signals::in_any_case;
use hypo_common::error::Result;
use hypo_common::say::Notices;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use std::io::stdin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often a run looks whether it is in the foreground.
const LOOK: Duration = Duration::from_millis(200);
const LOOK_SPEC: Timespec = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };

/// The terminal that is standard input.
#[derive(Debug)]
pub struct Terminal {
    state: Mutex<State>,
    notices: Notices,
}

#[derive(Debug)]
struct State {
    /// Whoever keeps it raw, while it is.
    keeper: Option<Keeper>,
    /// What the operator is told when it is taken for the first time.
    help: Option<&'static str>,
    closed: bool,
}

impl Terminal {
    /// Not taken yet. `help` is what the operator is told once it is.
    pub fn new(help: &'static str, notices: Notices) -> Self {
        Self { state: Mutex::new(State { keeper: None, help: Some(help), closed: false }), notices }
    }

    /// Makes it raw if the run is in the foreground, and says whether it is.
    ///
    /// # Errors
    /// It cannot be made raw.
    pub fn take(&self) -> Result<bool> {
        let mut state = self.state();
        if state.closed || !in_foreground() {
            state.keeper = None;
            return Ok(false);
        }
        if state.keeper.is_none() {
            state.keeper = Some(Keeper::start()?);
            if let Some(help) = state.help.take() {
                self.notices.tell(help);
            }
        }
        Ok(true)
    }

    /// Waits until something is typed in the foreground, and reads it. 0 bytes are the end.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub fn read(&self, buffer: &mut [u8]) -> std::result::Result<usize, Errno> {
        loop {
            // A terminal that could not be taken now may be later.
            if !self.take().unwrap_or(false) {
                thread::sleep(LOOK);
                continue;
            }
            let input = stdin();
            if poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&LOOK_SPEC)) == Ok(0) {
                continue;
            }
            match in_any_case(|| rustix::io::read(&input, &mut *buffer)) {
                // It went to the background in this moment; or the terminal is gone, and SIGHUP is on its way.
                Err(Errno::IO | Errno::INTR | Errno::AGAIN) => thread::sleep(LOOK),
                read => return read,
            }
        }
    }

    /// Restores it, then does something while nobody takes it.
    pub fn while_given_back(&self, act: impl FnOnce()) {
        let mut state = self.state();
        state.keeper = None;
        act();
    }

    /// Restores it for good.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.keeper = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the terminal is this run's to use. One that controls no session has neither foreground nor background.
fn in_foreground() -> bool {
    match tcgetpgrp(stdin()) {
        Ok(group) => group == getpgrp(),
        Err(error) => error == Errno::NOTTY,
    }
}
