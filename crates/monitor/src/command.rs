//! What can be typed at the monitor's prompt, and what it means. Pure: a line in, a command or one clear line out.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use memory::GuestPhysAddr;

use crate::control::Change;

/// The most bytes that `mem` shows at a time.
pub const MAX_MEMORY: usize = 4096;
/// How many it shows where nothing is said.
const DEFAULT_MEMORY: usize = 128;
/// The loudest log level.
const MAX_LEVEL: u8 = 4;

/// A command whose arguments are right. Guests are named by their number, counted from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// What there is, or what one of them does.
    Help(Option<&'static Entry>),
    /// All guests.
    Vms,
    /// A change of a guest's state.
    Change(Change, usize),
    /// Back to a guest's console, by default the one that was shown last.
    Console(Option<usize>),
    /// A guest's exits by kind; by default of the one that was shown last, as for the next two.
    Stat(Option<usize>),
    /// A guest's last exits.
    Trace(Option<usize>),
    /// A guest's registers.
    Regs(Option<usize>),
    /// A guest's memory.
    Mem {
        /// The guest.
        guest: usize,
        /// Where.
        address: GuestPhysAddr,
        /// How many bytes: 1 to [`MAX_MEMORY`].
        count: usize,
    },
    /// Switches and their ports.
    Net,
    /// Disks.
    Disk,
    /// The machine below.
    Host,
    /// Sets the log level, or tells it.
    Log(Option<u8>),
    /// Stops all guests and powers the machine off.
    Shutdown {
        /// Without asking.
        now: bool,
    },
}

/// A command in the table.
#[derive(PartialEq, Eq, Debug)]
pub struct Entry {
    /// How it is called.
    pub name: &'static str,
    /// Its arguments, in words; those in brackets may be left out.
    pub arguments: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
}

/// All commands, in the order in which `help` shows them.
pub const COMMANDS: &[Entry] = &[
    Entry { name: "help", arguments: "[COMMAND]", help: "what there is, or what COMMAND does" },
    Entry { name: "vms", arguments: "", help: "all guests: state, vCPU time, memory, restarts, exits" },
    Entry { name: "console", arguments: "[NAME]", help: "back to a guest's console" },
    Entry { name: "start", arguments: "NAME", help: "start a stopped guest afresh" },
    Entry { name: "stop", arguments: "NAME", help: "cut a guest's power; its memory is lost" },
    Entry { name: "pause", arguments: "NAME", help: "let a guest stand still" },
    Entry { name: "resume", arguments: "NAME", help: "let a paused guest run on" },
    Entry { name: "reset", arguments: "NAME", help: "start a guest again with fresh memory" },
    Entry { name: "stat", arguments: "[NAME]", help: "exits by kind, and what they cost" },
    Entry { name: "trace", arguments: "[NAME]", help: "the last exits" },
    Entry { name: "regs", arguments: "[NAME]", help: "registers and CSRs" },
    Entry { name: "mem", arguments: "NAME ADDRESS [COUNT]", help: "guest-physical memory, in hexadecimal" },
    Entry { name: "net", arguments: "", help: "switches, their ports and counters" },
    Entry { name: "disk", arguments: "", help: "disks and their counters" },
    Entry { name: "host", arguments: "", help: "the machine that all this runs on" },
    Entry { name: "log", arguments: "[LEVEL]", help: "how much the hypervisor says: 0 to 4" },
    Entry { name: "shutdown", arguments: "[now]", help: "stop all guests and power off" },
];

impl Entry {
    /// Whether its first argument is a guest.
    fn takes_guest(&self) -> bool {
        self.arguments.trim_start_matches('[').starts_with("NAME")
    }

    /// Name and arguments.
    pub fn usage(&self) -> String {
        format!("{} {}", self.name, self.arguments).trim_end().to_string()
    }
}

/// What a line means; `None` where it is empty.
///
/// # Errors
/// One line that says what is wrong and what would be right.
pub fn parse(line: &str, guests: &[String]) -> Result<Option<Command>, String> {
    let mut words = line.split_ascii_whitespace();
    let Some(word) = words.next() else { return Ok(None) };
    let entry = command(word)?;
    let mut arguments = Arguments { entry, guests, words };
    let command = match entry.name {
        "help" => Command::Help(arguments.words.next().map(command).transpose()?),
        "vms" => Command::Vms,
        "console" => Command::Console(arguments.optional_guest()?),
        "start" => Command::Change(Change::Start, arguments.guest()?),
        "stop" => Command::Change(Change::Stop, arguments.guest()?),
        "pause" => Command::Change(Change::Pause, arguments.guest()?),
        "resume" => Command::Change(Change::Resume, arguments.guest()?),
        "reset" => Command::Change(Change::Reset, arguments.guest()?),
        "stat" => Command::Stat(arguments.optional_guest()?),
        "trace" => Command::Trace(arguments.optional_guest()?),
        "regs" => Command::Regs(arguments.optional_guest()?),
        "mem" => arguments.memory()?,
        "net" => Command::Net,
        "disk" => Command::Disk,
        "host" => Command::Host,
        "log" => Command::Log(arguments.level()?),
        _ => Command::Shutdown { now: arguments.now()? },
    };
    match arguments.words.next() {
        None => Ok(Some(command)),
        Some(word) => Err(format!("`{}` is too much: {}", clean(word), entry.usage())),
    }
}

/// What would complete the last word of `line`: candidates, in order. A line that ends with a space has an empty
/// last word.
pub fn candidates<'a>(line: &str, guests: &'a [String]) -> Vec<&'a str> {
    let (before, word) = line.rsplit_once(' ').unwrap_or(("", line));
    let mut before = before.split_ascii_whitespace();
    let mut names: Vec<&'a str> = match (before.next(), before.next()) {
        (None, _) => COMMANDS.iter().map(|entry| entry.name).collect(),
        (Some(name), None) => match command(name) {
            Ok(entry) if entry.takes_guest() => guests.iter().map(String::as_str).collect(),
            Ok(Entry { name: "help", .. }) => COMMANDS.iter().map(|entry| entry.name).collect(),
            Ok(Entry { name: "shutdown", .. }) => Vec::from(["now"]),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    names.retain(|name| name.starts_with(word));
    names
}

struct Arguments<'a> {
    entry: &'static Entry,
    guests: &'a [String],
    words: core::str::SplitAsciiWhitespace<'a>,
}

impl Arguments<'_> {
    fn optional_guest(&mut self) -> Result<Option<usize>, String> {
        self.words.next().map(|word| guest(word, self.guests)).transpose()
    }

    fn guest(&mut self) -> Result<usize, String> {
        self.optional_guest()?.ok_or_else(|| self.wants("a guest"))
    }

    fn memory(&mut self) -> Result<Command, String> {
        let guest = self.guest()?;
        let word = self.words.next().ok_or_else(|| self.wants("an address"))?;
        let address = number(word)
            .ok_or_else(|| format!("`{}` is no address: write it as 0x80200000", clean(word)))
            .map(GuestPhysAddr)?;
        let count = match self.words.next() {
            None => DEFAULT_MEMORY,
            Some(word) => number(word)
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| (1..=MAX_MEMORY).contains(count))
                .ok_or_else(|| format!("`{}` is no count: 1 to {MAX_MEMORY} bytes", clean(word)))?,
        };
        Ok(Command::Mem { guest, address, count })
    }

    fn level(&mut self) -> Result<Option<u8>, String> {
        let Some(word) = self.words.next() else { return Ok(None) };
        let level = word.parse().ok().filter(|level| *level <= MAX_LEVEL);
        level.map(Some).ok_or_else(|| format!("`{}` is no level: 0 to {MAX_LEVEL}", clean(word)))
    }

    fn now(&mut self) -> Result<bool, String> {
        match self.words.next() {
            None => Ok(false),
            Some("now") => Ok(true),
            Some(word) => Err(format!("`{}`? It is `shutdown` or `shutdown now`", clean(word))),
        }
    }

    fn wants(&self, what: &str) -> String {
        format!("`{}` wants {what}: {}", self.entry.name, self.entry.usage())
    }
}

fn command(word: &str) -> Result<&'static Entry, String> {
    match one_of(word, COMMANDS.iter().map(|entry| entry.name)) {
        Found::One(n) => COMMANDS.get(n).ok_or_else(String::new),
        Found::None => Err(format!("there is no command `{}`; `help` lists them", clean(word))),
        Found::Several(names) => Err(format!("`{}` could be {}", clean(word), listed(&names))),
    }
}

fn guest(word: &str, guests: &[String]) -> Result<usize, String> {
    match one_of(word, guests.iter().map(String::as_str)) {
        Found::One(n) => Ok(n),
        Found::Several(names) => Err(format!("`{}` could be {}", clean(word), listed(&names))),
        // The numbers that `vms` shows and Ctrl-] takes.
        Found::None => match word.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) {
            Some(n) if n < guests.len() => Ok(n),
            _ => Err(format!("there is no guest `{}`; `vms` lists them", clean(word))),
        },
    }
}

enum Found<'a> {
    None,
    One(usize),
    Several(Vec<&'a str>),
}

/// The name that `word` is, or is the beginning of.
fn one_of<'a>(word: &str, names: impl Iterator<Item = &'a str> + Clone) -> Found<'a> {
    if let Some(n) = names.clone().position(|name| name == word) {
        return Found::One(n);
    }
    let begins: Vec<_> = names.enumerate().filter(|(_, name)| name.starts_with(word)).collect();
    match begins.as_slice() {
        [] => Found::None,
        [(n, _)] => Found::One(*n),
        several => Found::Several(several.iter().map(|(_, name)| *name).collect()),
    }
}

/// `a, b or c`; long lists are cut.
fn listed(names: &[&str]) -> String {
    const MOST: usize = 6;
    match names.split_last() {
        Some((last, [])) => (*last).to_string(),
        Some((last, rest)) if names.len() <= MOST => format!("{} or {last}", rest.join(", ")),
        _ => format!("{} and others", names.get(..MOST).unwrap_or(names).join(", ")),
    }
}

/// A number in decimal, or in hexadecimal behind 0x; `_` may stand between digits.
fn number(word: &str) -> Option<u64> {
    let word = word.replace('_', "");
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None if word.bytes().all(|digit| digit.is_ascii_digit()) => word.parse().ok(),
        None => None,
    }
}

/// What was typed, fit to be shown: a line is short, and the editor takes printable ASCII only, but others may ask.
fn clean(word: &str) -> String {
    word.chars().take(40).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests;
