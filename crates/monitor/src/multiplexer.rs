//! Who has the terminal. Each guest has a console with a scroll-back; one of them is shown, or all by lines, or the
//! monitor. Ctrl-] and a key change that (`typing`).
//!
//! What a shown guest writes goes to the screen, unchanged where it is alone, and waits for it; what the others write is
//! kept, and never waits. Beside that the screen gets *staged* bytes: the monitor's, and what is replayed of a console on
//! coming back to it. A guest's own bytes come behind them. Before anything else is staged, the terminal is put in order
//! behind a guest that was alone on it (`attend`).

mod typing;

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use crate::command::Command;
use crate::control::State;
use crate::editor::Editor;
use crate::harmless::{Harmless, is_beginning};
use crate::lines::Lines;
use crate::scrollback::Scrollback;
use crate::terminal::{Modes, Terminal};
use crate::text::grouped;

/// Bytes of its output that a console remembers.
pub const SCROLLBACK: usize = 64 << 10;
/// Lines of it that are shown again at least on coming back.
const SCREENFUL: usize = 24;
/// How far the beginning of a line is looked for where earlier bytes are lost.
const REACH: u64 = 512;
/// Bytes typed ahead for a guest.
const INPUT: usize = 1 << 10;
/// Bytes of a lone guest's that may wait to be looked at, a power of two: what that takes is little beside the guest's own
/// time.
const UNATTENDED: u64 = 8 << 10;
/// The longest beginning of a sequence that is passed on at the end of a replay.
const BEGINNING: u64 = 32;
/// Ends colours that the guest has left on, and its line.
const ASIDE: &str = "\x1b[0m\n";

/// What the operator sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// One guest's console.
    Guest,
    /// All guests' output, in lines with the guest's name in front.
    All,
    /// The monitor's prompt.
    Monitor,
}

/// What shows bytes to the operator.
pub trait Screen {
    /// Takes a byte, if there is room for it.
    fn put(&mut self, byte: u8) -> bool;
}

#[derive(Debug)]
struct Console {
    scrollback: Scrollback,
    /// Up to where the operator has seen it.
    seen: u64,
    input: VecDeque<u8>,
    state: State,
    /// What it had set of the terminal when it was left.
    modes: Modes,
}

#[derive(Debug)]
struct Replay {
    next: u64,
    /// What comes before has been seen, or is lost.
    unseen: u64,
    /// How much is lost, until the operator is told.
    lost: u64,
    harmless: Harmless,
    /// Where what is not complete yet begins.
    begun: u64,
}

/// The guests' consoles and the monitor's prompt, of which one is shown.
#[derive(Debug)]
pub struct Multiplexer {
    names: Vec<String>,
    consoles: Vec<Console>,
    view: View,
    /// What was shown before the monitor.
    view_before: View,
    /// The guest that gets the typing, or did before the monitor.
    shown: usize,
    lines: Lines,
    terminal: Terminal,
    /// Up to where the terminal's state is known of what a lone guest has sent it.
    attended: u64,
    editor: Editor,
    /// What a `y` would carry out.
    asked: Option<Command>,
    /// Whether Ctrl-] was typed, and its key is to come.
    escaped: bool,
    staged: VecDeque<u8>,
    replay: Option<Replay>,
}

impl Multiplexer {
    /// Consoles for guests of these names, none of which runs yet. The first is shown, or gets the typing where all are.
    pub fn new(names: Vec<String>, view: View) -> Self {
        let consoles = names.iter().map(|_| Console {
            scrollback: Scrollback::new(SCROLLBACK),
            seen: 0,
            input: VecDeque::with_capacity(INPUT),
            state: State::Stopped,
            modes: Modes::default(),
        });
        Self {
            consoles: consoles.collect(),
            view,
            view_before: View::Guest,
            shown: 0,
            lines: Lines::new(names.len()),
            names,
            terminal: Terminal::default(),
            attended: 0,
            editor: Editor::default(),
            asked: None,
            escaped: false,
            staged: VecDeque::new(),
            replay: None,
        }
    }

    /// The guest that gets the typing, or did before the monitor was opened.
    pub fn shown(&self) -> usize {
        self.shown
    }

    /// What the operator sees.
    pub fn view(&self) -> View {
        self.view
    }

    /// Notes what a guest is doing: one that does not run takes no typing, so it must not hold any up. Where the one that is
    /// shown has ended, the next one that has not is shown.
    pub fn set_state(&mut self, guest: usize, state: State) {
        let Some(console) = self.consoles.get_mut(guest) else { return };
        console.state = state;
        if state.is_alive() {
            return;
        }
        console.input.clear();
        if self.view == View::All {
            self.lines.finish(guest, &self.names, &mut self.staged);
        }
        if guest != self.shown {
            return;
        }
        // Typing goes to one that reads it.
        let Some(alive) = self.next_alive() else { return self.give_back() };
        match self.view {
            View::Guest => self.show(alive),
            View::All => {
                self.lines.leave(&mut self.staged);
                self.shown = alive;
            }
            // What the monitor was left for is what it leads back to.
            View::Monitor => {}
        }
    }

    /// The first guest after the one that is shown that has not ended.
    fn next_alive(&self) -> Option<usize> {
        let count = self.consoles.len();
        let mut others = (self.shown + 1..count).chain(0..self.shown);
        others.find(|guest| self.consoles.get(*guest).is_some_and(|it| it.state.is_alive()))
    }

    /// Takes what a guest writes and says how many bytes; the rest must be offered again once the screen has room. So of what the
    /// shown guest writes *nothing-lost*; all is taken of one that is not shown: *hidden-never-waits*.
    pub fn written(&mut self, guest: usize, bytes: &[u8], screen: &mut impl Screen) -> usize {
        if self.view != View::Guest || guest != self.shown || self.is_behind() {
            return self.written_among_others(guest, bytes, screen);
        }
        let taken = bytes.iter().take_while(|byte| screen.put(**byte)).count();
        self.record(guest, bytes.get(..taken).unwrap_or(bytes), true);
        taken
    }

    // Out of the way of the one guest that has the screen to itself, whose characters are many.
    #[inline(never)]
    fn written_among_others(&mut self, guest: usize, bytes: &[u8], screen: &mut impl Screen) -> usize {
        let is_shown = match self.view {
            View::Guest => guest == self.shown,
            View::All => true,
            View::Monitor => false,
        };
        if !is_shown {
            self.record(guest, bytes, false);
            return bytes.len();
        }
        if self.is_behind() {
            self.pump(screen);
            if self.is_behind() {
                return 0;
            }
        }
        let taken = match self.view {
            View::All => bytes.iter().take_while(|byte| self.put_line(guest, **byte, screen)).count(),
            _ => bytes.iter().take_while(|byte| screen.put(**byte)).count(),
        };
        self.record(guest, bytes.get(..taken).unwrap_or(bytes), true);
        taken
    }

    /// Keeps bytes of a guest's that are not shown to the operator now.
    pub fn keep(&mut self, guest: usize, bytes: &[u8]) {
        self.record(guest, bytes, false);
    }

    fn record(&mut self, guest: usize, bytes: &[u8], is_seen: bool) {
        let Some(console) = self.consoles.get_mut(guest) else { return };
        let before = console.scrollback.end();
        bytes.iter().for_each(|byte| console.scrollback.push(*byte));
        if !is_seen || console.seen != before {
            return;
        }
        console.seen = console.scrollback.end();
        // At each multiple of it: cheap, for this is done for each character.
        if before ^ console.seen >= UNATTENDED {
            self.attend();
        }
    }

    /// Follows what a lone guest has done to the terminal, up to now. Not at each of its bytes: it is only of interest
    /// before somebody else writes.
    fn attend(&mut self) {
        let Some(Console { scrollback, .. }) = self.consoles.get(self.shown) else { return };
        if self.view == View::Guest {
            if self.attended < scrollback.start() {
                self.terminal.lose_track();
            }
            let pieces = scrollback.since(self.attended);
            pieces.into_iter().flatten().for_each(|byte| self.terminal.feed(*byte));
        }
        self.attended = scrollback.end();
    }

    /// Puts the terminal in order, so that what is staged next can be read: *terminal-in-order*.
    fn take_the_word(&mut self) {
        self.attend();
        let order = self.terminal.show_text();
        self.stage(&order);
    }

    /// Puts the terminal in order for who has it after the hypervisor. What firmware or the hypervisor still says then
    /// begins a line of its own, for programs look for it there.
    pub fn give_back(&mut self) {
        if self.hand_over() {
            self.stage("\n");
        }
    }

    /// Puts the terminal in order for somebody else; says whether it was not.
    fn hand_over(&mut self) -> bool {
        self.attend();
        let (order, modes) = self.terminal.leave();
        self.stage(&order);
        if self.view == View::Guest
            && let Some(console) = self.consoles.get_mut(self.shown)
        {
            console.modes = modes;
        }
        !order.is_empty()
    }

    /// Takes a byte where all guests are shown, unless what it completes would have to wait.
    fn put_line(&mut self, guest: usize, byte: u8, screen: &mut impl Screen) -> bool {
        let is_free = self.pump_staged(screen);
        if is_free {
            self.lines.feed(guest, guest == self.shown, &self.names, byte, &mut self.staged);
        }
        self.pump_staged(screen);
        is_free
    }

    /// A line of the hypervisor's own, with its line break: in place of the monitor's prompt, which comes again below
    /// it, or right where a lone guest is writing. Pumping brings it to the screen.
    pub fn say(&mut self, text: &str) {
        if self.view != View::Monitor {
            self.take_the_word();
            self.lines.leave(&mut self.staged);
            return self.stage(text);
        }
        let mut staged = String::new();
        Editor::erase(&mut staged);
        staged.push_str(text);
        self.editor.draw(&mut staged);
        self.stage(&staged);
    }

    /// Brings to the screen what waits for it, as far as it has room.
    pub fn pump(&mut self, screen: &mut impl Screen) {
        while self.pump_staged(screen) {
            let Some(replay) = &mut self.replay else { return };
            let lost = mem::take(&mut replay.lost);
            if lost > 0 {
                self.stage(&format!("[{} bytes lost]\n", grouped(lost)));
                continue;
            }
            let byte = self.consoles.get(self.shown).and_then(|console| console.scrollback.get(replay.next));
            let before = self.staged.len();
            if let Some(byte) = byte {
                replay.next += 1;
                if replay.harmless.feed(byte, &mut self.staged) {
                    replay.begun = replay.next;
                }
            } else {
                let begun = replay.begun;
                self.replay = None;
                self.stage_beginning(begun);
            }
            self.staged.iter().skip(before).for_each(|byte| self.terminal.feed(*byte));
        }
    }

    /// What a replay has left incomplete: the guest goes on from there.
    fn stage_beginning(&mut self, begun: u64) {
        let Some(Console { scrollback, .. }) = self.consoles.get(self.shown) else { return };
        if scrollback.end() - begun <= BEGINNING {
            let bytes = scrollback.since(begun).concat();
            if is_beginning(&bytes) {
                self.staged.extend(bytes);
            }
        }
    }

    /// Brings to the screen what is staged, but not what is still to be replayed; says whether all of it went.
    pub fn pump_staged(&mut self, screen: &mut impl Screen) -> bool {
        while let Some(byte) = self.staged.front() {
            if !screen.put(*byte) {
                return false;
            }
            self.staged.pop_front();
        }
        true
    }

    /// How many bytes are staged.
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Whether something waits for the screen.
    pub fn is_behind(&self) -> bool {
        !self.staged.is_empty() || self.replay.is_some()
    }

    /// Shows a guest's console, also if it is shown already.
    fn show(&mut self, guest: usize) {
        let Some(name) = self.names.get(guest) else {
            let count = self.names.len();
            let are = if count == 1 { "is 1 guest" } else { &format!("are {count} guests") };
            return self.remark(&format!("[there {are}]\n"));
        };
        let state = self.consoles.get(guest).map_or("", |console| match console.state {
            State::Running => "",
            other => other.name(),
        });
        let comma = if state.is_empty() { "" } else { ", " };
        let title = format!("[{name}, guest {} of {}{comma}{state}]\n", guest + 1, self.names.len());
        self.leave(View::Guest);
        self.shown = guest;
        self.enter_modes();
        self.stage(&title);
        self.start_replay();
    }

    /// Shows all guests' lines from now on.
    fn show_all(&mut self) {
        self.leave(View::All);
        let name = self.names.get(self.shown).map_or("nobody", String::as_str);
        self.stage(&format!("[all guests; {name} gets the typing]\n"));
    }

    fn leave(&mut self, view: View) {
        self.interrupt_replay();
        self.hand_over();
        // The next thing begins a line of its own.
        self.lines = Lines::new(self.names.len());
        self.stage(ASIDE);
        self.view = view;
    }

    /// The terminal is again what the guest had made of it.
    fn enter_modes(&mut self) {
        let mut order = String::new();
        self.consoles.get(self.shown).map_or(Modes::default(), |console| console.modes).enter(&mut order);
        order.bytes().for_each(|byte| self.terminal.feed(byte));
        self.stage(&order);
    }

    fn start_replay(&mut self) {
        let Some(Console { scrollback, seen, .. }) = self.consoles.get_mut(self.shown) else { return };
        let start = scrollback.start();
        let mut unseen = *seen;
        if unseen < start {
            unseen = scrollback.line_start(start, REACH);
        }
        let lost = unseen - *seen;
        // What is lost is lost before all that is shown.
        let next = if lost > 0 { unseen } else { unseen.min(scrollback.last_lines(SCREENFUL)) };
        *seen = scrollback.end();
        self.attended = scrollback.end();
        self.replay = Some(Replay { next, unseen, lost, harmless: Harmless::default(), begun: next });
    }

    /// What has not been replayed has not been seen.
    fn interrupt_replay(&mut self) {
        if let Some(replay) = self.replay.take()
            && let Some(console) = self.consoles.get_mut(self.shown)
        {
            console.seen = replay.next.max(replay.unseen) - replay.lost;
        }
    }

    /// Tells the operator something about the console itself.
    fn remark(&mut self, text: &str) {
        if self.view == View::Guest {
            self.take_the_word();
            self.stage(ASIDE);
        }
        self.say(text);
    }

    /// A terminal wants a carriage return at each line's end.
    fn stage(&mut self, text: &str) {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.staged.push_back(b'\r');
            }
            self.staged.push_back(byte);
        }
    }
}

#[cfg(test)]
mod tests;
