//! The shell's commands: one table of them, and the parser that reads a line.
//!
//! Pure; carrying the commands out is `shell`'s business, in the kernel.

/// A command, understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// List the commands.
    Help,
    /// List the processes.
    Ps,
    /// Start a program and, unless in the background, wait for it.
    Run {
        /// The program's name.
        program: &'a str,
        /// The number given to it; 0 where none is.
        argument: usize,
        /// Whether the shell goes on at once (a trailing `&`).
        background: bool,
    },
    /// End a process.
    Kill(u32),
    /// Show the hart: ISA, CSRs, SBI.
    Cpu,
    /// Show memory and page tables.
    Mem,
    /// Let user processes fault in every way.
    Fault,
    /// Measure what the kernel's mechanisms cost.
    Bench,
    /// Show the time since boot.
    Uptime,
    /// Reset the machine.
    Reboot,
    /// Turn the machine off.
    Poweroff,
}

/// Why a line is not a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake<'a> {
    /// The first word is not in [`COMMANDS`].
    Unknown(&'a str),
    /// The arguments are not those that this command takes.
    Usage(&'static Entry),
}

/// A command's line in `help`.
#[derive(PartialEq, Eq, Debug)]
pub struct Entry {
    /// The word typed.
    pub name: &'static str,
    /// What may follow it.
    pub arguments: &'static str,
    /// What it does.
    pub summary: &'static str,
    form: Form,
}

/// How a command is written.
#[derive(PartialEq, Eq, Debug)]
enum Form {
    /// Its name alone.
    Plain(Command<'static>),
    /// `NAME [N] [&]`.
    Run,
    /// `PID`.
    Kill,
}

const fn plain(name: &'static str, command: Command<'static>, summary: &'static str) -> Entry {
    Entry { name, arguments: "", summary, form: Form::Plain(command) }
}

/// All commands, in the order in which `help` lists them.
pub const COMMANDS: &[Entry] = &[
    plain("help", Command::Help, "this list"),
    plain("ps", Command::Ps, "list the processes"),
    Entry {
        name: "run",
        arguments: "NAME [N] [&]",
        summary: "run a program; & puts it in the background",
        form: Form::Run,
    },
    Entry { name: "kill", arguments: "PID", summary: "end a process", form: Form::Kill },
    plain("cpu", Command::Cpu, "show the hart: ISA, CSRs, SBI"),
    plain("mem", Command::Mem, "show memory, frames and page tables"),
    plain("fault", Command::Fault, "make user processes fault, and survive"),
    plain("bench", Command::Bench, "measure what traps, switches and faults cost"),
    plain("uptime", Command::Uptime, "time since boot"),
    plain("reboot", Command::Reboot, "restart the machine"),
    plain("poweroff", Command::Poweroff, "turn the machine off"),
];

/// Reads a line: `Ok(None)` where it is blank.
///
/// # Errors
/// A [`Mistake`] that says what to tell the user.
pub fn parse(line: &str) -> Result<Option<Command<'_>>, Mistake<'_>> {
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else { return Ok(None) };
    let entry = COMMANDS.iter().find(|entry| entry.name == name).ok_or(Mistake::Unknown(name))?;
    let command = match entry.form {
        Form::Plain(command) => Some(command),
        Form::Run => parse_run(&mut words),
        Form::Kill => words.next().and_then(|pid| pid.parse().ok()).map(Command::Kill),
    };
    match (command, words.next()) {
        (Some(command), None) => Ok(Some(command)),
        _ => Err(Mistake::Usage(entry)),
    }
}

/// `NAME [N] [&]`, where the `&` may touch the word before it.
fn parse_run<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Command<'a>> {
    let (program, mut background) = split_ampersand(words.next()?);
    let mut argument = 0;
    if !background && let Some(word) = words.next() {
        let (number, ampersand) = split_ampersand(word);
        background = ampersand;
        if !number.is_empty() {
            argument = number.parse().ok()?;
            if !background && let Some(last) = words.next() {
                background = last == "&";
                if !background {
                    return None;
                }
            }
        }
    }
    (!program.is_empty()).then_some(Command::Run { program, argument, background })
}

fn split_ampersand(word: &str) -> (&str, bool) {
    word.strip_suffix('&').map_or((word, false), |rest| (rest, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(program: &str, argument: usize, background: bool) -> Result<Option<Command<'_>>, Mistake<'_>> {
        Ok(Some(Command::Run { program, argument, background }))
    }

    fn usage(name: &str) -> Result<Option<Command<'_>>, Mistake<'_>> {
        Err(Mistake::Usage(COMMANDS.iter().find(|entry| entry.name == name).unwrap()))
    }

    #[test]
    fn a_blank_line_is_no_command() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("  \t "), Ok(None));
    }

    #[test]
    fn every_command_in_the_table_is_parsed() {
        for entry in COMMANDS {
            let parsed = parse(entry.name);
            match entry.arguments {
                "" => assert!(matches!(parsed, Ok(Some(_))), "{}", entry.name),
                _ => assert_eq!(parsed, usage(entry.name)),
            }
        }
    }

    #[test]
    fn an_unknown_word_is_named() {
        assert_eq!(parse(" frob 1"), Err(Mistake::Unknown("frob")));
    }

    #[test]
    fn run_takes_a_number_and_an_ampersand_in_every_spacing() {
        assert_eq!(parse("run hello"), run("hello", 0, false));
        assert_eq!(parse("run hello 7"), run("hello", 7, false));
        for line in ["run hello 7&", "run hello 7 &", "run  hello  7  & "] {
            assert_eq!(parse(line), run("hello", 7, true), "{line}");
        }
        for line in ["run hello&", "run hello &"] {
            assert_eq!(parse(line), run("hello", 0, true), "{line}");
        }
    }

    #[test]
    fn arguments_that_do_not_fit_get_the_usage() {
        for line in [
            "run",
            "run &",
            "run hello x",
            "run hello -1",
            "run hello 1 2",
            "run hello & 1",
            "run hello 1 & 2",
        ] {
            assert_eq!(parse(line), usage("run"), "{line}");
        }
        for line in ["kill", "kill init", "kill -1", "kill 99999999999", "kill 1 2"] {
            assert_eq!(parse(line), usage("kill"), "{line}");
        }
        assert_eq!(parse("ps aux"), usage("ps"));
    }

    #[test]
    fn kill_takes_a_process_number() {
        assert_eq!(parse("kill 12"), Ok(Some(Command::Kill(12))));
    }
}
