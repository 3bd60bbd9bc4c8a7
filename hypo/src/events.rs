//! What QEMU reports while a machine runs, as lines for the user. Pure: reports in, lines out.

use serde::Deserialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The reason that a full disk gives: C's text for ENOSPC.
const NO_SPACE: &str = "No space left on device";

/// How long the same line is not told again.
const QUIET: Duration = Duration::from_secs(10);

/// A report of QEMU's, as far as it matters. QEMU's documentation, "QEMU QMP Reference Manual".
#[derive(Debug, Deserialize)]
pub struct Event {
    /// What happened.
    #[serde(rename = "event")]
    pub name: String,
    #[serde(default)]
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
struct Data {
    reason: Option<String>,
    device: Option<String>,
    operation: Option<String>,
    action: Option<String>,
}

impl Event {
    /// Why the machine shut down, in QEMU's words, if it did.
    pub fn shutdown_reason(&self) -> Option<&str> {
        if self.name == "SHUTDOWN" { self.data.reason.as_deref() } else { None }
    }
}

/// Makes lines of reports, and tells the same one not too often.
#[derive(Debug)]
pub struct Reporter {
    drives: Vec<PathBuf>,
    /// A debugger stops the machine and lets it run on.
    debugger: bool,
    /// The machine was stopped, and the user was told.
    stopped: bool,
    /// When a line was told, and how often it was not since.
    told: HashMap<String, (Instant, u64)>,
}

impl Reporter {
    /// For a machine with these files as its drives.
    pub fn new(drives: Vec<PathBuf>, debugger: bool) -> Self {
        Self { drives, debugger, stopped: false, told: HashMap::new() }
    }

    /// The line for a report that comes at `now`, if it is to be told.
    pub fn line(&mut self, event: &Event, now: Instant) -> Option<String> {
        let line = self.text(event)?;
        match self.told.get_mut(&line) {
            Some((last, more)) if now.saturating_duration_since(*last) < QUIET => {
                *more += 1;
                None
            }
            Some((last, more)) => {
                *last = now;
                let more = std::mem::take(more);
                Some(if more == 0 { line } else { format!("{line} ({more} more times since this was told)") })
            }
            None => {
                self.told.insert(line.clone(), (now, 0));
                Some(line)
            }
        }
    }

    fn text(&mut self, event: &Event) -> Option<String> {
        let data = &event.data;
        Some(match event.name.as_str() {
            "BLOCK_IO_ERROR" => self.disk_error(data),
            "BLOCK_IMAGE_CORRUPTED" => format!("QEMU has found {} damaged", self.file(data)),
            "STOP" if !self.debugger => {
                self.stopped = true;
                "QEMU has stopped the machine, and the guest stands still".to_owned()
            }
            "RESUME" if std::mem::take(&mut self.stopped) => "the machine runs on".to_owned(),
            "GUEST_PANICKED" => "the guest has reported a panic to QEMU".to_owned(),
            "MEMORY_FAILURE" => "this machine's memory has failed under the guest's".to_owned(),
            "WATCHDOG" => {
                let action = data.action.as_deref().unwrap_or("none");
                format!("the guest's watchdog has expired; QEMU's action: {action}")
            }
            _ => return None,
        })
    }

    fn disk_error(&self, data: &Data) -> String {
        let doing = if data.operation.as_deref() == Some("write") { "write to" } else { "read" };
        let reason = data.reason.as_deref().unwrap_or("input/output error");
        let after = match data.action.as_deref() {
            Some("stop") => "the guest stands still",
            Some("ignore") => "the guest is not told",
            _ => "the guest is told of an I/O error",
        };
        // QEMU has a field for that as well, but leaves it out unless it stops the machine.
        let remedy = if reason == NO_SPACE { "; make room on the disk that holds this file" } else { "" };
        format!("QEMU cannot {doing} {}: {reason}; {after}{remedy}", self.file(data))
    }

    /// What the user calls a drive.
    fn file(&self, data: &Data) -> String {
        let device = data.device.as_deref().unwrap_or_default();
        let number =
            device.strip_prefix(crate::hardware::DRIVE).and_then(|number| number.parse::<usize>().ok());
        match number.and_then(|number| self.drives.get(number)) {
            Some(file) => format!("`{}`", file.display()),
            None => format!("drive `{device}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        serde_json::from_str(&format!(r#"{{"timestamp": {{}}, "event": "{name}", "data": {data}}}"#)).unwrap()
    }

    fn reporter() -> Reporter {
        Reporter::new(vec!["/d/a.img".into(), "/d/b.img".into()], false)
    }

    fn line(event: &Event) -> Option<String> {
        reporter().line(event, Instant::now())
    }

    const FULL: &str = r#"{"device": "disk1", "node-name": "block1", "operation": "write",
        "action": "report", "reason": "No space left on device"}"#;

    #[test]
    fn a_full_disk_is_told_with_the_file_and_what_to_do() {
        let expected = "QEMU cannot write to `/d/b.img`: No space left on device; the guest is told of an I/O \
                        error; make room on the disk that holds this file";
        assert_eq!(line(&event("BLOCK_IO_ERROR", FULL)).unwrap(), expected);
        let read = r#"{"device": "x", "operation": "read", "action": "stop"}"#;
        let expected = "QEMU cannot read drive `x`: input/output error; the guest stands still";
        assert_eq!(line(&event("BLOCK_IO_ERROR", read)).unwrap(), expected);
    }

    #[test]
    fn the_same_line_is_told_once_in_a_while_and_counted() {
        let (mut reporter, start) = (reporter(), Instant::now());
        let full = event("BLOCK_IO_ERROR", FULL);
        let lines: Vec<String> =
            (0..=25).filter_map(|second| reporter.line(&full, start + Duration::from_secs(second))).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].ends_with("(9 more times since this was told)"), "{}", lines[1]);
        let other = event("BLOCK_IO_ERROR", &FULL.replace("disk1", "disk0"));
        assert!(reporter.line(&other, start).is_some(), "another disk is another line");
    }

    #[test]
    fn a_stop_that_no_debugger_made_is_told() {
        let mut reporter = reporter();
        let now = Instant::now();
        assert_eq!(reporter.line(&event("RESUME", "{}"), now), None, "the start is no news");
        assert!(reporter.line(&event("STOP", "{}"), now).unwrap().contains("stands still"));
        assert!(reporter.line(&event("RESUME", "{}"), now).unwrap().contains("runs on"));
        assert_eq!(Reporter::new(Vec::new(), true).line(&event("STOP", "{}"), now), None);
    }

    #[test]
    fn what_guests_do_anyway_is_no_news() {
        for name in ["RESET", "SHUTDOWN", "NIC_RX_FILTER_CHANGED", "RTC_CHANGE", "VSERPORT_CHANGE"] {
            assert_eq!(line(&event(name, "{}")), None, "{name}");
        }
        for name in ["GUEST_PANICKED", "WATCHDOG", "MEMORY_FAILURE", "BLOCK_IMAGE_CORRUPTED"] {
            assert!(line(&event(name, "{}")).is_some(), "{name}");
        }
        assert_eq!(event("SHUTDOWN", r#"{"reason": "guest-reset"}"#).shutdown_reason(), Some("guest-reset"));
        assert_eq!(event("STOP", r#"{"reason": "x"}"#).shutdown_reason(), None);
    }
}
