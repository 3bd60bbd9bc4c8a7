use super::*;
use crate::command::{COMMANDS, parse};
use crate::control::{Disk, Exits, Guest, HostFacts, KindOfExit, Switch};
use memory::GuestPhysAddr;
use trace::Event;

/// A hypervisor of three guests that records what is asked of it.
struct Fake {
    now: u64,
    states: [State; 3],
    exits: [u64; 3],
    changes: Vec<(usize, Change)>,
    refuses: bool,
    level: u8,
    is_down: bool,
}

const NAMES: [&str; 3] = ["web", "db", "mail"];

impl Fake {
    fn new() -> Self {
        Self {
            now: 2_000_000_000,
            states: [State::Running, State::Paused, State::Off],
            exits: [100, 0, 50],
            changes: Vec::new(),
            refuses: false,
            level: 2,
            is_down: false,
        }
    }
}

impl Control for Fake {
    fn now(&self) -> u64 {
        self.now
    }

    fn guests(&self) -> Vec<Guest> {
        let guest = |n: usize| Guest {
            name: NAMES[n].to_string(),
            state: self.states[n],
            exits: self.exits[n],
            ..Guest::default()
        };
        (0..3).map(guest).collect()
    }

    fn change(&mut self, guest: usize, change: Change) -> Result<(), String> {
        if self.refuses {
            return Err("no memory".to_string());
        }
        self.changes.push((guest, change));
        Ok(())
    }

    fn exits(&self, guest: usize) -> Exits {
        let kind = KindOfExit { name: "sbi", count: self.exits[guest], cost: 0 };
        Exits { kinds: [kind].into(), ..Exits::default() }
    }

    fn trace(&self, _guest: usize) -> Vec<Event> {
        [Event { pc: 1, cause: 2, value: 3 }].into()
    }

    fn registers(&self, _guest: usize) -> String {
        "  pc 0x1\n".to_string()
    }

    fn read_memory(
        &self,
        _guest: usize,
        address: GuestPhysAddr,
        into: &mut [u8],
    ) -> Result<(), (GuestPhysAddr, u64)> {
        into.fill(0x41);
        if address.0 < 0x8000_0000 { Err((GuestPhysAddr(0x8000_0000), 16 << 20)) } else { Ok(()) }
    }

    fn switches(&self) -> Vec<Switch> {
        Vec::new()
    }

    fn disks(&self) -> Vec<Disk> {
        Vec::new()
    }

    fn host(&self) -> HostFacts {
        HostFacts::default()
    }

    fn log_level(&self) -> u8 {
        self.level
    }

    fn set_log_level(&mut self, level: u8) {
        self.level = level;
    }

    fn shut_down(&mut self) {
        self.is_down = true;
    }
}

struct Setup {
    operator: Operator,
    fake: Fake,
}

impl Setup {
    fn new() -> Self {
        Self { operator: Operator::default(), fake: Fake::new() }
    }

    fn reply(&mut self, line: &str) -> Reply {
        let command = parse(line, &NAMES.map(String::from)).unwrap().unwrap();
        self.operator.carry_out(command, 1, &mut self.fake)
    }

    fn text(&mut self, line: &str) -> String {
        match self.reply(line) {
            Reply::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn changes_are_made_where_the_state_allows_them() {
    let mut setup = Setup::new();
    for (line, answer) in [
        ("start web", "web runs already\n"),
        ("start db", "db is paused; `resume db` lets it run on\n"),
        ("start mail", "mail has been started\n"),
        ("stop web", "web has been stopped\n"),
        ("stop mail", "mail is off already\n"),
        ("pause web", "web is paused\n"),
        ("pause db", "db is paused already\n"),
        ("pause mail", "mail is off; `start mail` starts it\n"),
        ("resume web", "web is not paused\n"),
        ("resume db", "db runs on\n"),
        ("resume mail", "mail is off; `start mail` starts it\n"),
        ("reset db", "db has been reset\n"),
        ("reset mail", "mail is off; `start mail` starts it\n"),
    ] {
        assert_eq!(setup.text(line), answer, "{line}");
    }
    assert_eq!(
        setup.fake.changes,
        [(2, Change::Start), (0, Change::Stop), (0, Change::Pause), (1, Change::Resume), (1, Change::Reset),]
    );
    setup.fake.refuses = true;
    assert_eq!(setup.text("start mail"), "mail: no memory\n");
}

#[test]
fn changes_of_guests_between_two_lives() {
    let mut setup = Setup::new();
    setup.fake.states = [State::Resetting, State::Waiting, State::Stopping];
    for (line, answer) in [
        ("start web", "web is resetting: what it has begun is awaited\n"),
        ("stop web", "web is resetting: what it has begun is awaited\n"),
        ("pause web", "web is resetting and does not run; wait, or `stop web`\n"),
        ("resume web", "web is resetting and does not run; wait, or `stop web`\n"),
        ("reset web", "web is resetting: what it has begun is awaited\n"),
        ("start db", "db has been started\n"),
        ("stop db", "db has been stopped\n"),
        ("pause db", "db is waiting and does not run; wait, or `stop db`\n"),
        ("reset db", "db has been reset\n"),
        ("start mail", "mail is stopping: what it has begun is awaited\n"),
        ("stop mail", "mail is stopping already\n"),
        ("pause mail", "mail is stopping; `start mail` starts it\n"),
        ("reset mail", "mail is stopping; `start mail` starts it\n"),
    ] {
        assert_eq!(setup.text(line), answer, "{line}");
    }
    assert!(matches!(setup.reply("shutdown"), Reply::Ask(question, _) if question.starts_with("3 guests")));
}

#[test]
fn rates_are_since_the_last_look() {
    let mut setup = Setup::new();
    let exits = |text: &str| -> Vec<String> {
        text.lines().skip(1).map(|line| line.rsplit(' ').next().unwrap().to_string()).collect()
    };
    assert_eq!(exits(&setup.text("vms")), ["50", "0", "25"], "since the start");
    setup.fake.now += 1_000_000_000;
    setup.fake.exits[0] += 7;
    assert_eq!(exits(&setup.text("vms")), ["7", "0", "0"]);
    assert_eq!(exits(&setup.text("vms")), ["-", "-", "-"], "no time has passed");
    assert!(setup.text("stat web").contains("107  100.0 %          35"), "{}", setup.text("stat web"));
    setup.fake.now += 1_000_000_000;
    setup.fake.exits[0] = 2;
    assert!(setup.text("stat web").contains("  2  100.0 %           0"), "counters may begin again");
}

#[test]
fn a_guest_that_is_not_named_is_the_one_shown_last() {
    let mut setup = Setup::new();
    assert!(setup.text("stat").starts_with("db: "));
    assert!(setup.text("trace").starts_with("db: "));
    assert_eq!(setup.text("regs"), "db:\n  pc 0x1\n");
    assert_eq!(setup.text("regs mail"), "mail:\n  pc 0x1\n");
    assert_eq!(setup.reply("console"), Reply::Console(1));
    assert_eq!(setup.reply("console web"), Reply::Console(0));
}

#[test]
fn memory_that_is_not_there_says_what_is() {
    let mut setup = Setup::new();
    assert_eq!(setup.text("mem web 0x80000000 2"), std::format!("0x0080000000  41 41{:43}  AA\n", ""));
    assert_eq!(
        setup.text("mem web 0x1000"),
        "not all of it is RAM of web, which has 0x80000000 to 0x80ffffff\n"
    );
}

#[test]
fn the_log_level_can_be_asked_and_set() {
    let mut setup = Setup::new();
    assert_eq!(setup.text("log"), "log level 2\n");
    assert_eq!(setup.text("log 4"), "log level 4\n");
    assert_eq!(setup.fake.level, 4);
}

#[test]
fn shutting_down_asks_while_guests_are_alive() {
    let mut setup = Setup::new();
    let Reply::Ask(question, command) = setup.reply("shutdown") else { panic!("no question") };
    assert_eq!(question, "2 guests are not powered off; end all the same? [y/N] ");
    assert!(!setup.fake.is_down);
    setup.operator.carry_out(command, 0, &mut setup.fake);
    assert!(setup.fake.is_down);
    let mut setup = Setup::new();
    setup.fake.states = [State::Off, State::Crashed, State::Stopped];
    assert_eq!(setup.reply("shutdown"), Reply::Last("shutting down\n".to_string()));
    assert!(setup.fake.is_down);
}

#[test]
fn every_command_is_answered() {
    for entry in COMMANDS {
        let line = entry.usage().replace("NAME", "web").replace("[COMMAND]", "vms");
        let line = line.replace("ADDRESS", "0x80000000").replace("COUNT", "16").replace("LEVEL", "1");
        match Setup::new().reply(&line.replace(['[', ']'], "")) {
            Reply::Text(text) | Reply::Last(text) => {
                assert!(text.ends_with('\n') && text.is_ascii(), "{line}: {text:?}")
            }
            Reply::Console(guest) => assert_eq!((entry.name, guest), ("console", 0)),
            Reply::Ask(..) => panic!("{line} does not ask"),
        }
    }
}
