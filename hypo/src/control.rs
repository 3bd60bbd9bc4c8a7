//! What QEMU reports over its control socket: that the machine runs, and why it shut down. QEMU's exit status
//! alone tells neither. The machine stands still until this listens, so that not even the shortest run goes
//! unnoticed. QEMU's documentation, "QEMU Machine Protocol Specification".

use crate::events::Event;
use hypo_common::error::{Error, Result};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a starting QEMU is looked for.
const POLL: Duration = Duration::from_millis(5);

/// What was reported by the time QEMU had ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// QEMU answered, so it had accepted its command line and set up the machine.
    pub started: bool,
    /// Why the machine shut down, in QEMU's words (`ShutdownCause`); `None` where it just exited.
    pub reason: Option<String>,
}

/// A line from QEMU, as far as it matters.
#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Answer {
        #[serde(rename = "return")]
        _value: serde_json::Value,
    },
    Event(Event),
}

/// The socket, before QEMU is started: QEMU connects to it as the first thing it does.
pub struct Socket(UnixListener);

impl Socket {
    /// Makes the socket at `path`.
    ///
    /// # Errors
    /// The path is taken, or too long for a socket's.
    pub fn bind(path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        listener.map(Self).map_err(|error| {
            Error::file("make the socket", path, &error).remedy("set TMPDIR to a folder with a short path")
        })
    }

    /// Waits for the QEMU that `child` is, and lets its machine run, unless a debugger is to do that. One that ends
    /// before it connects gives an empty report. `heard` gets each event.
    ///
    /// # Errors
    /// QEMU's state cannot be found out.
    pub fn accept(
        &self,
        child: &mut Child,
        debugger: bool,
        heard: impl FnMut(&Event) + Send + 'static,
    ) -> Result<Control> {
        let fail = |error| Error::new(format_args!("cannot watch QEMU: {error}"));
        loop {
            // First, so that a connection made just before the end is not missed.
            let ended = child.try_wait().map_err(fail)?.is_some();
            if let Ok((stream, _)) = self.0.accept() {
                stream.set_nonblocking(false).map_err(fail)?;
                return Ok(Control {
                    listener: Some(thread::spawn(move || listen(stream, debugger, heard))),
                });
            }
            if ended {
                return Ok(Control { listener: None });
            }
            thread::sleep(POLL);
        }
    }
}

/// A connection to a running QEMU.
pub struct Control {
    listener: Option<JoinHandle<Report>>,
}

impl Control {
    /// The report, once QEMU has ended.
    pub fn report(self) -> Report {
        self.listener.and_then(|listener| listener.join().ok()).unwrap_or_default()
    }
}

fn listen(mut stream: UnixStream, debugger: bool, mut heard: impl FnMut(&Event)) -> Report {
    let mut report = Report::default();
    // QEMU sends events only after the first command, and answers it only when the machine is set up.
    let commands = ["{\"execute\":\"qmp_capabilities\"}\n", "{\"execute\":\"cont\"}\n"];
    let commands = &commands[..if debugger { 1 } else { 2 }];
    if stream.write_all(commands.concat().as_bytes()).is_ok() {
        let lines = BufReader::new(stream).lines().map_while(std::result::Result::ok);
        lines.for_each(|line| report.take(&line, &mut heard));
    }
    report
}

impl Report {
    fn take(&mut self, line: &str, heard: &mut impl FnMut(&Event)) {
        match serde_json::from_str::<Message>(line) {
            Ok(Message::Answer { .. }) => self.started = true,
            Ok(Message::Event(event)) => {
                if let Some(reason) = event.shutdown_reason() {
                    self.reason = Some(reason.to_owned());
                }
                heard(&event);
            }
            // Its greeting, and what later versions may say.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        lines.iter().for_each(|line| report.take(line, &mut |_| ()));
        report
    }

    const GREETING: &str =
        r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}"#;
    const SHUTDOWN: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#;

    #[test]
    fn a_greeting_alone_is_no_start() {
        assert_eq!(report(&[GREETING]), Report::default());
        assert_eq!(report(&[GREETING, r#"{"return": {}}"#]), Report { started: true, reason: None });
    }

    /// What is sent to QEMU, which ends without an answer.
    fn sent(debugger: bool) -> String {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        listen(ours, debugger, |_| ());
        std::io::read_to_string(&mut theirs).unwrap()
    }

    #[test]
    fn the_machine_runs_from_when_somebody_listens_or_when_the_debugger_says() {
        assert!(sent(false).ends_with("{\"execute\":\"cont\"}\n"));
        assert!(!sent(true).contains("cont"));
    }

    #[test]
    fn the_reason_of_a_shutdown_is_kept() {
        assert_eq!(report(&[SHUTDOWN]).reason.as_deref(), Some("guest-shutdown"));
        assert_eq!(report(&[&SHUTDOWN.replace("SHUTDOWN", "STOP")]).reason, None);
        assert!(!report(&["not json", "{}"]).started);
    }
}
