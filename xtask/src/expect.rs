//! Drives a program over its standard streams as a person would: wait for a text, type a line.
//!
//! Knows nothing of guests or QEMU. The program runs in a process group of its own, so that what it started
//! ends with it.

use crate::allowance::Allowance;
use regex::bytes::Regex;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often a program that is silent is asked whether it still runs.
const POLL: Duration = Duration::from_millis(50);
/// How long a program may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(3);
/// The size of a slow program's pipe, and what is taken out of it at a time, in bytes.
const SMALL_PIPE: usize = 4096;
const SLOW_PIECE: usize = 64;
/// How long output may still come from a program that has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a program's standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A pipe.
    Pipe,
    /// A terminal, which is nobody's controlling one and sends what is typed as it is.
    Terminal,
}

/// A running program and all that it has said so far.
pub struct Session {
    child: Child,
    stdin: Box<dyn Write>,
    pieces: Receiver<Vec<u8>>,
    /// All output, without carriage returns and what is left out.
    output: Vec<u8>,
    left_out: Option<&'static [u8]>,
    /// Where the next `expect` begins to look.
    seen: usize,
    allowance: Allowance,
}

/// Why an expected text did not come.
#[derive(Debug, PartialEq, Eq)]
pub enum Missed {
    /// The time given for this text, or for the whole session, is over.
    TimedOut,
    /// The program ended or closed its output.
    Ended,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// The program ended by itself, with this exit status (or 128 + a signal's number).
    Exited(i32),
    /// It was still running when the session's limit was over, and was ended.
    Killed,
}

impl Session {
    /// Starts a program that is killed, with all it started, when `limit` is over: see [`Allowance`].
    pub fn start(command: &mut Command, input: Input, limit: Duration) -> io::Result<Session> {
        Self::start_on_line(command, input, limit, None)
    }

    /// The same; of what the program prints, `line` bytes are taken in a second, if that is given.
    pub fn start_on_line(
        command: &mut Command,
        input: Input,
        limit: Duration,
        line: Option<u32>,
    ) -> io::Result<Session> {
        let (ours, theirs): (Box<dyn Write>, Stdio) = match input {
            Input::Pipe => {
                let (theirs, ours) = io::pipe()?;
                (Box::new(ours), theirs.into())
            }
            Input::Terminal => {
                let (ours, theirs) = terminal()?;
                (Box::new(ours), theirs.into())
            }
        };
        let mut child =
            command.stdin(theirs).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()?;
        let (sender, pieces) = channel();
        if let Some(stdout) = child.stdout.take() {
            if line.is_some() {
                // What waits in a pipe of the usual size would take as long as the whole test.
                fcntl_setpipe_size(&stdout, SMALL_PIPE)?;
            }
            forward(stdout, sender.clone(), line);
        }
        if let Some(stderr) = child.stderr.take() {
            forward(stderr, sender, None);
        }
        // Its own copy of the input would keep a pipe's other end open.
        command.stdin(Stdio::null());
        let allowance = Allowance::new(child.id(), limit);
        Ok(Session { child, stdin: ours, pieces, output: Vec::new(), left_out: None, seen: 0, allowance })
    }

    /// Leaves a text out of the output from now on, wherever it stands: one of somebody else's, who writes to the same
    /// line.
    pub fn leave_out(&mut self, text: &'static [u8]) {
        self.left_out = Some(text);
    }

    /// Waits until the output since the last match matches `pattern`; gives the text that matched.
    ///
    /// Errors: [`Missed::TimedOut`] after `within` or at the session's limit, whichever comes first;
    /// [`Missed::Ended`] when no more output can come.
    pub fn expect(&mut self, pattern: &Regex, within: Duration) -> Result<String, Missed> {
        let until = self.allowance.used() + within;
        loop {
            if let Some(found) = pattern.find(&self.output[self.seen..]) {
                let text = String::from_utf8_lossy(found.as_bytes()).into_owned();
                self.seen += found.end();
                return Ok(text);
            }
            if self.allowance.is_over() || self.allowance.used() >= until {
                return Err(Missed::TimedOut);
            }
            match self.pieces.recv_timeout(POLL) {
                Ok(piece) => self.take(&piece),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Missed::Ended),
            }
        }
    }

    /// Types text, or other bytes, as it is; a line wants its `\n`. Fails when the program no longer reads.
    pub fn send(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.stdin.write_all(text.as_ref())?;
        self.stdin.flush()
    }

    /// Waits for the program to end, kills it at the limit, and gives all its output.
    pub fn finish(mut self) -> (Ending, Vec<u8>) {
        let ending = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Ending::Exited(code(status)),
                Ok(None) if !self.allowance.is_over() => {}
                Ok(None) | Err(_) => {
                    end_group(&mut self.child);
                    break Ending::Killed;
                }
            }
            match self.pieces.recv_timeout(POLL) {
                Ok(piece) => self.take(&piece),
                Err(RecvTimeoutError::Timeout) => {}
                // The output is closed, so nothing else paces this loop.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(POLL),
            }
        };
        while let Ok(piece) = self.pieces.recv_timeout(LAST_WORDS) {
            self.take(&piece);
        }
        (ending, std::mem::take(&mut self.output))
    }

    /// Ends the session at once and gives the output so far.
    pub fn abandon(mut self) -> Vec<u8> {
        self.allowance.end();
        self.finish().1
    }

    fn take(&mut self, piece: &[u8]) {
        // Serial lines end with \r\n; without the \r, `$` in patterns means what one expects.
        let before = self.output.len();
        self.output.extend(piece.iter().filter(|&&byte| byte != b'\r'));
        let Some(text) = self.left_out.filter(|text| !text.is_empty()) else { return };
        // It may have begun in the pieces before.
        let mut from = before.saturating_sub(text.len() - 1);
        while let Some(at) = self.output[from..].windows(text.len()).position(|window| window == text) {
            let at = from + at;
            self.output.drain(at..at + text.len());
            if self.seen > at {
                self.seen = self.seen.saturating_sub(text.len()).max(at);
            }
            from = at.saturating_sub(text.len() - 1);
        }
    }
}

/// Ends a program that was started in a process group of its own, with the rest of the group: asks first,
/// since hypo, whose QEMU has yet another group, ends that one when it is asked.
pub fn end_group(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| {
        // It may have ended in this very moment, which is as good.
        group.map(|group| kill_process_group(group, signal));
    };
    signal(Signal::TERM);
    let until = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(POLL);
    }
    signal(Signal::KILL);
    let _ = child.wait();
}

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            end_group(&mut self.child);
        }
    }
}

/// A new terminal: our end and the program's.
fn terminal() -> io::Result<(File, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name, flags, Mode::empty())?;
    let mut modes = tcgetattr(&theirs)?;
    modes.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    Ok((ours.into(), theirs.into()))
}

/// Sends a stream's pieces to the session until the stream ends, `line` bytes in a second if that is given.
fn forward(mut stream: impl Read + Send + 'static, sender: Sender<Vec<u8>>, line: Option<u32>) {
    std::thread::spawn(move || {
        let mut piece = vec![0; if line.is_some() { SLOW_PIECE } else { 4096 }];
        while let Ok(len @ 1..) = stream.read(&mut piece) {
            if sender.send(piece[..len].to_vec()).is_err() {
                break;
            }
            if let Some(rate) = line {
                std::thread::sleep(Duration::from_secs(len as u64) / rate.max(1));
            }
        }
    });
}

/// An exit status as a shell shows it.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(100);

    fn shell(script: &str, limit: Duration) -> Session {
        Session::start(Command::new("sh").args(["-c", script]), Input::Pipe, limit).unwrap()
    }

    fn regex(pattern: &str) -> Regex {
        Regex::new(pattern).unwrap()
    }

    #[test]
    fn a_line_that_is_sent_is_answered() {
        let mut session = shell("echo ready; read x; echo \"got <$x>\"", LONG);
        session.expect(&regex("ready"), LONG).unwrap();
        session.send("hello\n").unwrap();
        assert_eq!(session.expect(&regex("got <.*>"), LONG).unwrap(), "got <hello>");
        assert_eq!(session.finish().0, Ending::Exited(0));
    }

    #[test]
    fn a_program_can_be_given_a_terminal() {
        let script = "test -t 0 && echo ready; head -c 1; echo seen";
        let mut session =
            Session::start(Command::new("sh").args(["-c", script]), Input::Terminal, LONG).unwrap();
        session.expect(&regex("ready"), LONG).unwrap();
        session.send("x").unwrap();
        session.expect(&regex("xseen"), LONG).expect("it is sent without a line end");
        assert_eq!(session.finish().0, Ending::Exited(0));
    }

    #[test]
    fn a_slow_line_holds_its_program_up_and_loses_nothing() {
        let start = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "head -c 9000 /dev/zero"]);
        let session = Session::start_on_line(&mut command, Input::Pipe, LONG, Some(3000)).unwrap();
        let (ending, output) = session.finish();
        assert_eq!((ending, output.len()), (Ending::Exited(0), 9000));
        assert!(start.elapsed() >= Duration::from_millis(2500), "{:?}", start.elapsed());
    }

    #[test]
    fn a_match_is_not_found_twice() {
        let mut session = shell("echo one; exec sleep 20", LONG);
        session.expect(&regex("one"), LONG).unwrap();
        assert_eq!(session.expect(&regex("one"), SHORT), Err(Missed::TimedOut));
    }

    #[test]
    fn a_text_in_two_pieces_is_found() {
        let mut session = shell("printf 'log'; sleep 0.2; printf 'in: '; exec sleep 20", LONG);
        assert_eq!(session.expect(&regex("login: "), LONG).unwrap(), "login: ");
    }

    #[test]
    fn what_is_left_out_is_not_seen_wherever_it_comes() {
        let mut session = shell(
            "read line; echo -n 'a<no'; sleep 0.2; echo -n 'ise><noise>b<'; sleep 0.2; echo 'noise>c<noi'",
            LONG,
        );
        session.leave_out(b"<noise>");
        session.send("\n").unwrap();
        assert_eq!(session.expect(&regex("a.*b"), LONG).as_deref(), Ok("ab"));
        assert_eq!(session.expect(&regex("(?m)c<noi$"), LONG).as_deref(), Ok("c<noi"));
        assert_eq!(session.finish().1, b"abc<noi\n");
    }

    #[test]
    fn a_program_that_ends_too_early_is_told_from_a_slow_one() {
        let mut session = shell("echo bye", LONG);
        assert_eq!(session.expect(&regex("prompt"), LONG), Err(Missed::Ended));
    }

    #[test]
    fn the_exit_status_and_both_streams_are_kept() {
        let (ending, output) = shell("printf 'out\\r\\n'; echo err >&2; exit 34", LONG).finish();
        assert_eq!(ending, Ending::Exited(34));
        let output = String::from_utf8(output).unwrap();
        assert!(output.contains("out\n") && output.contains("err\n"), "{output:?}");
    }

    #[test]
    fn a_session_over_its_limit_is_killed_with_its_children() {
        let start = Instant::now();
        let (ending, output) = shell("sleep 600 & echo $!; wait", SHORT).finish();
        assert_eq!(ending, Ending::Killed);
        assert!(start.elapsed() < LONG);
        let child = String::from_utf8(output).unwrap().trim().to_owned();
        // A killed orphan may stay as a zombie where nobody reaps it; it must not run.
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while runs() {
            assert!(start.elapsed() < LONG, "process {child} still runs");
            std::thread::sleep(POLL);
        }
    }

    #[test]
    fn a_dropped_session_does_not_live_on() {
        let session = shell("exec sleep 600", LONG);
        let id = session.child.id();
        drop(session);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
