//! What QEMU reports over its control socket: that the machine runs, and why it shut down. QEMU's exit status
//! alone tells neither. QEMU's documentation, "QEMU Machine Protocol Specification".

use crate::error::{Error, Result};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often the socket is looked for while QEMU starts.
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
struct Message {
    #[serde(rename = "return")]
    answer: Option<serde_json::Value>,
    event: Option<String>,
    #[serde(default)]
    data: EventData,
}

#[derive(Default, Deserialize)]
struct EventData {
    reason: Option<String>,
}

/// A listener on the socket.
pub struct Control {
    listener: Option<JoinHandle<Report>>,
}

impl Control {
    /// Connects to the QEMU that `child` is. A QEMU that ends before it listens gives an empty report.
    ///
    /// # Errors
    /// QEMU's state cannot be found out.
    pub fn connect(socket: &Path, child: &mut Child) -> Result<Self> {
        loop {
            if let Ok(stream) = UnixStream::connect(socket) {
                return Ok(Self { listener: Some(thread::spawn(move || listen(stream))) });
            }
            let ended =
                child.try_wait().map_err(|error| Error::new(format_args!("cannot watch QEMU: {error}")))?;
            if ended.is_some() {
                return Ok(Self { listener: None });
            }
            thread::sleep(POLL);
        }
    }

    /// The report, once QEMU has ended.
    pub fn report(self) -> Report {
        self.listener.and_then(|listener| listener.join().ok()).unwrap_or_default()
    }
}

fn listen(mut stream: UnixStream) -> Report {
    let mut report = Report::default();
    // QEMU sends events only after this, and answers it only when the machine is set up.
    if stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").is_ok() {
        BufReader::new(stream).lines().map_while(std::result::Result::ok).for_each(|line| report.take(&line));
    }
    report
}

impl Report {
    fn take(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<Message>(line) else { return };
        self.started |= message.answer.is_some();
        if message.event.as_deref() == Some("SHUTDOWN") {
            self.reason = message.data.reason;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        lines.iter().for_each(|line| report.take(line));
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

    #[test]
    fn the_reason_of_a_shutdown_is_kept() {
        assert_eq!(report(&[SHUTDOWN]).reason.as_deref(), Some("guest-shutdown"));
        assert_eq!(report(&[&SHUTDOWN.replace("SHUTDOWN", "STOP")]).reason, None);
        assert!(!report(&["not json", "{}"]).started);
    }
}
