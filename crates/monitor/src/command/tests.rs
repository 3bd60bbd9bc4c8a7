use super::*;
use proptest::prelude::*;

fn guests() -> Vec<String> {
    ["web", "webcam", "db", "7"].map(String::from).into()
}

fn parsed(line: &str) -> Command {
    parse(line, &guests()).unwrap().unwrap()
}

fn refused(line: &str) -> String {
    parse(line, &guests()).unwrap_err()
}

#[test]
fn each_command_is_understood() {
    for (line, command) in [
        ("help", Command::Help(None)),
        ("help vm", Command::Help(Some(&COMMANDS[1]))),
        ("vms", Command::Vms),
        ("console", Command::Console(None)),
        ("console db", Command::Console(Some(2))),
        ("start web", Command::Change(Change::Start, 0)),
        ("stop web", Command::Change(Change::Stop, 0)),
        ("pause web", Command::Change(Change::Pause, 0)),
        ("resume web", Command::Change(Change::Resume, 0)),
        ("reset webcam", Command::Change(Change::Reset, 1)),
        ("stat", Command::Stat(None)),
        ("trace db", Command::Trace(Some(2))),
        ("regs  db ", Command::Regs(Some(2))),
        ("mem db 0x80200000", Command::Mem { guest: 2, address: GuestPhysAddr(0x8020_0000), count: 128 }),
        ("mem db 0x8020_0000 16", Command::Mem { guest: 2, address: GuestPhysAddr(0x8020_0000), count: 16 }),
        ("net", Command::Net),
        ("disk", Command::Disk),
        ("host", Command::Host),
        ("log", Command::Log(None)),
        ("log 3", Command::Log(Some(3))),
        ("shutdown", Command::Shutdown { now: false }),
        ("shutdown now", Command::Shutdown { now: true }),
    ] {
        assert_eq!(parsed(line), command, "{line}");
    }
    assert_eq!(parse("", &guests()), Ok(None));
    assert_eq!(parse("  ", &guests()), Ok(None));
}

#[test]
fn the_table_and_the_parser_know_the_same_commands() {
    for entry in COMMANDS {
        let example = entry.usage().replace("NAME", "db").replace("[COMMAND]", "vms");
        let example = example.replace("ADDRESS", "0").replace("COUNT", "1").replace("LEVEL", "0");
        let command = parsed(&example.replace(['[', ']'], ""));
        assert_eq!(command == Command::Shutdown { now: true }, entry.name == "shutdown", "{example}");
    }
}

#[test]
fn beginnings_do_where_they_are_unambiguous() {
    assert_eq!(parsed("v"), Command::Vms);
    assert_eq!(parsed("p d"), Command::Change(Change::Pause, 2));
    assert_eq!(parsed("stat webc"), Command::Stat(Some(1)));
    assert_eq!(refused("s"), "`s` could be start, stop, stat or shutdown");
    assert_eq!(refused("st we"), "`st` could be start, stop or stat");
    assert_eq!(refused("stop we"), "`we` could be web or webcam");
}

#[test]
fn a_guest_has_a_number_too_but_a_name_comes_first() {
    assert_eq!(parsed("regs 3"), Command::Regs(Some(2)));
    assert_eq!(parsed("regs 7"), Command::Regs(Some(3)), "its name is 7");
    assert_eq!(refused("regs 0"), "there is no guest `0`; `vms` lists them");
    assert_eq!(refused("regs 5"), "there is no guest `5`; `vms` lists them");
}

#[test]
fn wrong_input_gets_one_line_that_says_what_is_right() {
    for (line, message) in [
        ("quit", "there is no command `quit`; `help` lists them"),
        ("vms all", "`all` is too much: vms"),
        ("stop", "`stop` wants a guest: stop NAME"),
        ("stop mail", "there is no guest `mail`; `vms` lists them"),
        ("stop web db", "`db` is too much: stop NAME"),
        ("mem web", "`mem` wants an address: mem NAME ADDRESS [COUNT]"),
        ("mem web here", "`here` is no address: write it as 0x80200000"),
        ("mem web 0x", "`0x` is no address: write it as 0x80200000"),
        ("mem web +1", "`+1` is no address: write it as 0x80200000"),
        (
            "mem web 0x1_0000_0000_0000_0000",
            "`0x1_0000_0000_0000_0000` is no address: write it as 0x80200000",
        ),
        ("mem web 0 0", "`0` is no count: 1 to 4096 bytes"),
        ("mem web 0 4097", "`4097` is no count: 1 to 4096 bytes"),
        ("log 5", "`5` is no level: 0 to 4"),
        ("log loud", "`loud` is no level: 0 to 4"),
        ("shutdown later", "`later`? It is `shutdown` or `shutdown now`"),
        ("help me please", "`please` is too much: help [COMMAND]"),
    ] {
        assert_eq!(refused(line), message, "{line}");
    }
}

#[test]
fn words_are_completed_by_where_they_stand() {
    let guests = guests();
    assert_eq!(candidates("re", &guests), ["resume", "reset", "regs"]);
    assert_eq!(candidates("pause ", &guests), ["web", "webcam", "db", "7"]);
    assert_eq!(candidates("pause w", &guests), ["web", "webcam"]);
    assert_eq!(candidates("p w", &guests), ["web", "webcam"], "a beginning of a command is one");
    assert_eq!(candidates("mem d", &guests), ["db"]);
    assert_eq!(candidates("mem db 0", &guests), [""; 0]);
    assert_eq!(candidates("help sh", &guests), ["shutdown"]);
    assert_eq!(candidates("shutdown ", &guests), ["now"]);
    assert_eq!(candidates("vms ", &guests), [""; 0]);
    assert_eq!(candidates("", &guests).len(), COMMANDS.len());
}

proptest! {
    #[test]
    fn any_line_gets_a_command_or_one_line(line in "\\PC{0,80}", begin in 0..COMMANDS.len()) {
        for line in [line.clone(), format!("{} {line}", COMMANDS[begin].name)] {
            if let Err(message) = parse(&line, &guests()) {
                prop_assert_eq!(message.lines().count(), 1);
                prop_assert!(message.is_ascii());
                prop_assert!(message.len() < 200);
            }
            candidates(&line, &guests());
        }
    }

    #[test]
    fn a_completed_word_is_understood(count in 0..9_usize, n in 0..COMMANDS.len()) {
        let name = COMMANDS[n].name;
        let word = &name[..count.min(name.len())];
        for candidate in candidates(word, &guests()) {
            prop_assert!(candidate.starts_with(word));
            prop_assert_eq!(command(candidate).unwrap().name, candidate);
        }
    }
}
