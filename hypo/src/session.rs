//! One run of QEMU: console in both directions, what the watch sees, the time limit, and the exit status that
//! comes of it all. Knows neither guests nor bundles: it gets a command line.
//!
//! Each stream has a thread; the main thread only waits for what ends the run.

use crate::console::{Escape, RawTerminal, help};
use crate::control::{Report, Socket};
use crate::error::{Error, Result};
use crate::qemu::not_started;
use crate::status::Status;
use crate::watch::{Seen, Watch};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::io::{Read, Write, stderr, stdin, stdout};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces of input that wait for a guest that does not read. A terminal's further typing is dropped, a pipe
/// waits.
const INPUT_BACKLOG: usize = 256;

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
}

/// What can end a run.
enum Event {
    Seen(Seen),
    /// QEMU has closed its output: it is ending.
    OutputEnded,
    /// Nobody reads what the guest prints.
    OutputRefused,
    Quit,
    Signal(i32),
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
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| not_started(Path::new(program), &error))?;
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
        let control = socket.accept(child, self.debugger)?;
        let (events, inbox) = mpsc::channel();
        // Before the terminal is raw, so that no signal can leave it so.
        catch_signals(&events)?;
        let terminal = RawTerminal::enter()?;
        if terminal.is_some() {
            eprint!("hypo: {}\r\n", help(self.native));
        }
        let output = child.stdout.take().map(|from| {
            let (watch, events) = (self.watch.restarted(), events.clone());
            thread::spawn(move || forward_output(from, watch, &events))
        });
        let messages = child.stderr.take().map(|from| {
            let raw = terminal.is_some();
            thread::spawn(move || forward_messages(from, raw))
        });
        if let Some(to) = child.stdin.take() {
            let escape = terminal.is_some().then(|| Escape::new(self.native));
            forward_input(to, escape, events);
        }
        let ending = self.wait(&inbox, deadline, child);
        let exit = reap(child)?;
        // It has closed its streams; what it has printed is shown to the last byte.
        let line_open = output.is_some_and(|thread| thread.join().unwrap_or(false));
        if line_open {
            // So that what this program says next has a line of its own.
            eprint!("{}", if terminal.is_some() { "\r\n" } else { "\n" });
        }
        if let Some(messages) = messages {
            let _ = messages.join();
        }
        Ok((ending?, exit, control.report()))
    }

    fn wait(&self, inbox: &Receiver<Event>, deadline: Option<Instant>, child: &mut Child) -> Result<Ending> {
        let next = match deadline {
            Some(deadline) => inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let missed =
            |status: Status| if self.watch.expect.is_some() { status.without_expected() } else { status };
        let ending = match next {
            Ok(Event::OutputEnded) | Err(RecvTimeoutError::Disconnected) => return Ok(Ending::Itself),
            Ok(Event::Seen(Seen::Expected)) => Ok(Ending::Forced(Status::PoweredOff)),
            Ok(Event::Seen(Seen::Failure)) => Ok(Ending::Forced(Status::GuestFailed)),
            Ok(Event::Seen(Seen::Halted(code))) => Ok(Ending::Forced(missed(Status::from_code(code)))),
            Ok(Event::Quit) => Ok(Ending::Forced(missed(Status::PoweredOff))),
            Ok(Event::OutputRefused) => Err(Error::new("standard output was closed, so the guest was ended")),
            Ok(Event::Signal(number)) => {
                Err(Error::new(format_args!("signal {number}: the guest was ended")))
            }
            Err(RecvTimeoutError::Timeout) => Ok(Ending::Forced(missed(Status::TimedOut))),
        };
        // It may have ended by itself in the meantime.
        let _ = child.kill();
        ending
    }
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
    if report.reason.as_deref() == Some("host-signal") {
        return Err(Error::new("a signal ended QEMU"));
    }
    let Some(code) = exit.code() else {
        let signal = exit.signal().unwrap_or(0);
        return Err(Error::new(format_args!("QEMU was ended by signal {signal}")));
    };
    Ok(match (native, code) {
        (false, code) => Status::from_code(code),
        (true, 0) if report.reason.as_deref() == Some("guest-reset") => Status::Reset,
        (true, 0) => Status::PoweredOff,
        (true, _) => Status::GuestFailed,
    })
}

fn catch_signals(events: &Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| Error::new(format_args!("cannot catch signals: {error}")))?;
    let events = events.clone();
    thread::spawn(move || signals.forever().try_for_each(|number| events.send(Event::Signal(number))));
    Ok(())
}

/// Shows what the guest prints. Returns whether the last line has not ended.
fn forward_output(mut from: impl Read, mut watch: Watch, events: &Sender<Event>) -> bool {
    let mut buffer = [0; 4096];
    let mut to = stdout().lock();
    let (mut done, mut line_open) = (false, false);
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let piece = buffer.get(..len).unwrap_or_default();
        if to.write_all(piece).and_then(|()| to.flush()).is_err() {
            let _ = events.send(Event::OutputRefused);
            return false;
        }
        line_open = piece.last() != Some(&b'\n');
        // What comes after is still shown.
        if !done && let Some(seen) = watch.feed(piece) {
            done = true;
            let _ = events.send(Event::Seen(seen));
        }
    }
    let _ = events.send(Event::OutputEnded);
    line_open
}

/// Passes on what QEMU itself says. A raw terminal wants a carriage return at each line's end.
fn forward_messages(mut from: impl Read, raw: bool) {
    let mut buffer = [0; 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let text = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()).into_owned();
        let text = if raw { text.replace('\n', "\r\n") } else { text };
        let _ = stderr().write_all(text.as_bytes());
    }
}

/// Sends standard input to the guest, in two threads: one that waits for the operator, so that the escape key
/// always works, and one that waits for the guest. Only a terminal has the key.
fn forward_input(mut to: ChildStdin, mut escape: Option<Escape>, events: Sender<Event>) {
    let terminal = escape.is_some();
    let (sender, receiver) = mpsc::sync_channel::<Vec<u8>>(INPUT_BACKLOG);
    thread::spawn(move || {
        receiver.iter().try_for_each(|bytes| to.write_all(&bytes).and_then(|()| to.flush()))
    });
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(len @ 1..) = stdin().read(&mut buffer) {
            let bytes = buffer.get(..len).unwrap_or_default();
            let typed = escape.as_mut().map(|escape| escape.feed(bytes));
            let quit = typed.as_ref().is_some_and(|typed| typed.quit);
            let bytes = typed.map_or_else(|| bytes.to_vec(), |typed| typed.bytes);
            if !hand_on(&sender, bytes, terminal) {
                return;
            }
            if quit {
                let _ = events.send(Event::Quit);
                return;
            }
        }
    });
}

/// Whether the other end is still there.
fn hand_on(sender: &SyncSender<Vec<u8>>, bytes: Vec<u8>, may_drop: bool) -> bool {
    if may_drop {
        !matches!(sender.try_send(bytes), Err(TrySendError::Disconnected(_)))
    } else {
        sender.send(bytes).is_ok()
    }
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
