//! The streams between QEMU and this program's own: the console in both directions, and what QEMU itself says. Each
//! function that sends something on goes on until the stream ends; who calls gives it a thread.

use crate::console::{Escape, piped};
use crate::terminal::Terminal;
use crate::watch::{Seen, Watch};
use hypo_common::say::Notices;
use std::io::{self, Read, Write, stdin, stdout};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender, SyncSender, TrySendError};
use std::thread;

/// Pieces of input that wait for a guest that does not read. A terminal's further typing is dropped, a pipe waits.
const INPUT_BACKLOG: usize = 256;

/// What a run hears from its threads. All but signals to stop and to go on end it.
pub enum Event {
    /// The watch has seen something.
    Seen(Seen),
    /// QEMU has closed its output: it is ending.
    OutputEnded,
    /// What the guest prints cannot be written.
    OutputRefused(io::Error),
    /// The operator has quit.
    Quit,
    /// A signal has come.
    Signal(i32),
}

/// Shows what the guest prints. Returns whether the last line has not ended.
pub fn show(mut from: impl Read, mut watch: Watch, events: &Sender<Event>) -> bool {
    let mut buffer = [0; 4096];
    let mut to = stdout().lock();
    let (mut done, mut line_open) = (false, false);
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let piece = buffer.get(..len).unwrap_or_default();
        if let Err(error) = to.write_all(piece).and_then(|()| to.flush()) {
            let _ = events.send(Event::OutputRefused(error));
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

/// Passes on what QEMU itself says.
pub fn pass_on(mut from: impl Read, notices: Notices) {
    let mut buffer = [0; 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        notices.pass_on(&String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()));
    }
}

/// Starts to send what is typed. The operator is waited for in another thread than the guest, so that the escape key
/// always works.
pub fn send_typing(to: ChildStdin, terminal: Arc<Terminal>, mut escape: Escape, events: Sender<Event>) {
    let sender = backlog(to);
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(len @ 1..) = terminal.read(&mut buffer) {
            let typed = escape.feed(buffer.get(..len).unwrap_or_default());
            if matches!(sender.try_send(typed.bytes), Err(TrySendError::Disconnected(_))) {
                return;
            }
            if typed.quit {
                let _ = events.send(Event::Quit);
                return;
            }
        }
    });
}

/// Starts to send standard input, which nobody types, as it is.
pub fn send_pipe(to: ChildStdin, native: bool) {
    let sender = backlog(to);
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(len @ 1..) = stdin().read(&mut buffer) {
            if sender.send(piped(buffer.get(..len).unwrap_or_default(), native)).is_err() {
                return;
            }
        }
    });
}

/// What waits for the guest to read it.
fn backlog(mut to: ChildStdin) -> SyncSender<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel::<Vec<u8>>(INPUT_BACKLOG);
    thread::spawn(move || {
        receiver.iter().try_for_each(|bytes| to.write_all(&bytes).and_then(|()| to.flush()))
    });
    sender
}
