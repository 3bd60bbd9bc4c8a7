//! One run of QEMU: console in both directions, what the watch sees, the time limit, and the exit status that
//! comes of it all. Knows neither guests nor bundles: it gets a command line.
//!
//! Each stream has a thread (`streams`), and so have signals and QEMU's reports; the main thread only waits for what
//! they hear.

use crate::console::{Escape, help};
use crate::control::{Report, Socket};
use crate::events::Reporter;
use crate::signals;
use crate::streams::{self, Event};
use crate::terminal::Terminal;
use crate::watch::{Seen, Watch};
use hypo_common::again;
use hypo_common::bound;
use hypo_common::error::{Error, Result};
use hypo_common::say::Notices;
use hypo_common::status::Status;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCONT, SIGTSTP};
use std::ffi::OsString;
use std::io::{self, IsTerminal, stdin};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long QEMU may take to exit after it has closed its output.
const GRACE: Duration = Duration::from_secs(10);

/// What to run and when to end.
pub struct Session<'a> {
    /// QEMU's command line, the program first.
    pub command: &'a [OsString],
    /// The socket that the command line names for QEMU's reports.
    pub control: &'a Path,
    /// What the console is watched for.
    pub watch: Watch,
    /// How long the run may take.
    pub timeout: Option<Duration>,
    /// Whether a guest runs without the hypervisor, so that QEMU's exit status is the guest's own.
    pub native: bool,
    /// Whether a debugger lets the machine run.
    pub debugger: bool,
    /// The files of QEMU's drives, by number.
    pub drives: &'a [PathBuf],
}

/// Why a run was ended from outside, or that it was not.
enum Ending {
    Itself,
    Forced(Status),
}

impl Session<'_> {
    /// Runs to the end. The terminal is as it was when this returns.
    ///
    /// # Errors
    /// QEMU does not start, fails before the guest runs, or a signal ends the run.
    pub fn run(self) -> Result<Status> {
        let expecting = self.watch.expect.is_some();
        let socket = Socket::bind(self.control)?;
        let (program, arguments) =
            self.command.split_first().ok_or_else(|| Error::new("no command to run"))?;
        let mut command = bound::command(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // By the main thread, which lives until the end: QEMU is bound to the thread that starts it.
        let mut child = again::spawn(&mut command)?;
        let outcome = self.drive(&mut child, &socket);
        if outcome.is_err() {
            // QEMU does not outlive the run. It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
        let status = match outcome? {
            (Ending::Forced(status), ..) => return Ok(status),
            (Ending::Itself, exit, report) => status_of(exit, &report, self.native)?,
        };
        Ok(if expecting { status.without_expected() } else { status })
    }

    fn drive(&self, child: &mut Child, socket: &Socket) -> Result<(Ending, ExitStatus, Report)> {
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let notices = Notices::new();
        let mut reporter = Reporter::new(self.drives.to_vec(), self.debugger);
        let control = socket.accept(child, self.debugger, move |event| {
            if let Some(line) = reporter.line(event, Instant::now()) {
                notices.tell(line)
            }
        })?;
        let (events, inbox) = mpsc::channel();
        let sender = events.clone();
        signals::catch(move |number| sender.send(Event::Signal(number)).is_ok())
            .map_err(|error| Error::new(format_args!("cannot catch signals: {error}")))?;
        let terminal = stdin().is_terminal().then(|| Arc::new(Terminal::new(help(self.native), notices)));
        let closing = terminal.clone().map(Closing);
        let output = child.stdout.take().map(|from| {
            let (watch, events) = (self.watch.restarted(), events.clone());
            thread::spawn(move || streams::show(from, watch, &events))
        });
        let messages = child.stderr.take().map(|from| thread::spawn(move || streams::pass_on(from, notices)));
        let native = self.native;
        match (child.stdin.take(), terminal.clone()) {
            (Some(to), Some(terminal)) => {
                terminal.take()?;
                streams::send_typing(to, terminal, Escape::new(native), events);
            }
            (Some(to), None) => streams::send_pipe(to, native),
            (None, _) => {}
        }
        let ending = self.wait(&inbox, deadline, child, terminal.as_deref());
        let exit = reap(child)?;
        // It has closed its streams; what it has printed is shown to the last byte.
        let line_open = output.is_some_and(|thread| thread.join().unwrap_or(false));
        if line_open {
            // So that what this program says next has a line of its own.
            notices.pass_on("\n");
        }
        if let Some(messages) = messages {
            let _ = messages.join();
        }
        drop(closing);
        Ok((ending?, exit, control.report()))
    }

    fn wait(
        &self,
        inbox: &Receiver<Event>,
        deadline: Option<Instant>,
        child: &mut Child,
        terminal: Option<&Terminal>,
    ) -> Result<Ending> {
        let missed =
            |status: Status| if self.watch.expect.is_some() { status.without_expected() } else { status };
        let ending = loop {
            let next = match deadline {
                Some(deadline) => inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            break match next {
                Ok(Event::OutputEnded) | Err(RecvTimeoutError::Disconnected) => return Ok(Ending::Itself),
                Ok(Event::Seen(Seen::Expected)) => Ok(Ending::Forced(Status::PoweredOff)),
                Ok(Event::Seen(Seen::Failure)) => Ok(Ending::Forced(Status::GuestFailed)),
                Ok(Event::Seen(Seen::Halted(code))) => Ok(Ending::Forced(missed(Status::from_code(code)))),
                Ok(Event::Quit) => Ok(Ending::Forced(missed(Status::PoweredOff))),
                Ok(Event::OutputRefused(error)) => Err(output_refused(&error)),
                Ok(Event::Signal(SIGTSTP)) => {
                    stand_still(child, terminal);
                    continue;
                }
                Ok(Event::Signal(SIGCONT)) => {
                    // Stopped by a signal that cannot be caught, it has left the terminal as it was then.
                    terminal.inspect(|terminal| terminal.while_given_back(|| ()));
                    continue;
                }
                Ok(Event::Signal(number)) => {
                    Err(Error::new(format_args!("{}: the guest was ended", signals::name(number))))
                }
                Err(RecvTimeoutError::Timeout) => Ok(Ending::Forced(missed(Status::TimedOut))),
            };
        };
        // It may have ended by itself in the meantime.
        let _ = child.kill();
        ending
    }
}

/// Restores the terminal for good when it is dropped.
struct Closing(Arc<Terminal>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Stops the machine and this process until somebody lets this process go on.
fn stand_still(child: &Child, terminal: Option<&Terminal>) {
    let signal = |signal| {
        // One that has ended stands still.
        let _ = kill_process(Pid::from_child(child), signal);
    };
    let stop = || {
        signal(Signal::STOP);
        signals::stop();
        signal(Signal::CONT);
    };
    match terminal {
        Some(terminal) => terminal.while_given_back(stop),
        None => stop(),
    }
}

fn output_refused(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Error::new("standard output was closed, so the guest was ended");
    }
    Error::new(format_args!("cannot write to standard output: {error}; the guest was ended"))
        .remedy("make room where the output goes, or send it somewhere else")
}

/// Waits for a QEMU that is ending. It closes its output a little before it exits.
fn reap(child: &mut Child) -> Result<ExitStatus> {
    let fail = |error| Error::new(format_args!("cannot wait for QEMU: {error}"));
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if let Some(exit) = child.try_wait().map_err(fail)? {
            return Ok(exit);
        }
        thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    child.wait().map_err(fail)
}

/// What QEMU's exit status says.
fn status_of(exit: ExitStatus, report: &Report, native: bool) -> Result<Status> {
    if !report.started {
        return Err(Error::new("QEMU ended before the machine ran; its message is above")
            .remedy(
                "check the options for the host: --machine, --cpu, --harts, --host-memory, --firmware; a disk that is \
                 written must be in no other run",
            ));
    }
    match report.reason.as_deref() {
        Some("host-signal") => return Err(Error::new("a signal ended QEMU")),
        Some("host-error") => return Err(Error::new("an error on this machine ended QEMU")),
        _ => {}
    }
    let Some(code) = exit.code() else {
        let signal = exit.signal().unwrap_or(0);
        return Err(Error::new(format_args!("QEMU was ended by signal {signal}")));
    };
    Ok(match (native, code) {
        (true, 0) if report.reason.as_deref() == Some("guest-panic") => Status::GuestFailed,
        (false, code) => Status::from_code(code),
        (true, 0) if report.reason.as_deref() == Some("guest-reset") => Status::Reset,
        (true, 0) => Status::PoweredOff,
        (true, _) => Status::GuestFailed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: i32, reason: Option<&str>, native: bool) -> Option<Status> {
        let report = Report { started: true, reason: reason.map(str::to_owned) };
        status_of(ExitStatus::from_raw(code << 8), &report, native).ok()
    }

    #[test]
    fn under_the_hypervisor_qemus_status_is_the_status() {
        for (code, expected) in [
            (0, Status::PoweredOff),
            (1, Status::Failed),
            (32, Status::Reset),
            (33, Status::Stopped),
            (34, Status::GuestFailed),
            (5, Status::Failed),
        ] {
            assert_eq!(status(code, None, false), Some(expected));
        }
    }

    #[test]
    fn natively_any_failure_code_is_the_guests() {
        assert_eq!(status(0, None, true), Some(Status::PoweredOff));
        assert_eq!(status(1, None, true), Some(Status::GuestFailed));
        assert_eq!(status(77, None, true), Some(Status::GuestFailed));
        assert_eq!(status(0, Some("guest-shutdown"), true), Some(Status::PoweredOff));
        assert_eq!(status(0, Some("guest-reset"), true), Some(Status::Reset));
    }

    #[test]
    fn a_qemu_that_a_signal_ended_is_no_power_off() {
        assert_eq!(status(0, Some("host-signal"), true), None);
        assert_eq!(status(0, Some("host-signal"), false), None);
    }

    #[test]
    fn a_qemu_that_never_ran_is_an_error_with_status_1() {
        let error = status_of(ExitStatus::from_raw(1 << 8), &Report::default(), true).unwrap_err();
        assert_eq!(error.status(), Status::Failed);
    }
}
