use super::typing::{ESCAPE, STAGED};
use super::*;
use crate::control::Change;
use crate::operator::Reply;
use proptest::prelude::*;
use std::string::ToString;

mod order;

/// A terminal whose line is as slow as the test wants.
#[derive(Default)]
struct Terminal {
    room: usize,
    shown: Vec<u8>,
}

impl Screen for Terminal {
    fn put(&mut self, byte: u8) -> bool {
        let has_room = self.room > 0;
        if has_room {
            self.room -= 1;
            self.shown.push(byte);
        }
        has_room
    }
}

struct Setup {
    consoles: Multiplexer,
    terminal: Terminal,
}

impl Setup {
    fn new(names: &[&str]) -> Self {
        let mut consoles = Multiplexer::new(names.iter().map(ToString::to_string).collect(), View::Guest);
        (0..names.len()).for_each(|guest| consoles.set_state(guest, State::Running));
        Self { consoles, terminal: Terminal { room: usize::MAX, shown: Vec::new() } }
    }

    fn typed(&mut self, bytes: &[u8]) -> Vec<Command> {
        bytes.iter().filter_map(|byte| self.consoles.typed(*byte)).collect()
    }

    fn written(&mut self, guest: usize, text: &str) -> usize {
        self.consoles.written(guest, text.as_bytes(), &mut self.terminal)
    }

    /// What has come to the terminal since the last time.
    fn shown(&mut self) -> String {
        self.consoles.pump(&mut self.terminal);
        String::from_utf8(mem::take(&mut self.terminal.shown)).unwrap()
    }

    fn read(&mut self, guest: usize) -> Vec<u8> {
        core::iter::from_fn(|| self.consoles.read(guest)).collect()
    }
}

#[test]
fn the_first_guest_is_shown_and_the_others_are_kept() {
    let mut setup = Setup::new(&["web", "db"]);
    setup.written(0, "from web\r\n");
    setup.written(1, "from db\r\n");
    assert_eq!(setup.shown(), "from web\r\n");
    setup.typed(b"\x1d2");
    assert_eq!(setup.shown(), "\x1b[0m\r\n[db, guest 2 of 2]\r\nfrom db\r\n");
    setup.written(0, "hidden");
    setup.written(1, "shown");
    assert_eq!(setup.shown(), "shown");
    setup.typed(b"\x1dn");
    assert_eq!(setup.shown(), "\x1b[0m\r\n[web, guest 1 of 2]\r\nfrom web\r\nhidden");
    setup.typed(b"\x1dp");
    assert_eq!(setup.shown(), "\x1b[0m\r\n[db, guest 2 of 2]\r\nfrom db\r\nshown", "a screenful comes again");
}

#[test]
fn typing_reaches_the_guest_that_is_shown() {
    let mut setup = Setup::new(&["web", "db"]);
    setup.typed(b"one\x1d2two\x1d\x1d\x1d1three\x1dz");
    assert_eq!(setup.read(0), b"onethree");
    assert_eq!(setup.read(1), b"two\x1d");
}

#[test]
fn keys_that_lead_nowhere_say_so() {
    let mut setup = Setup::new(&["web", "db"]);
    setup.typed(b"\x1d3");
    assert_eq!(setup.shown(), "\x1b[0m\r\n[there are 2 guests]\r\n");
    setup.typed(b"\x1dz");
    assert_eq!(setup.shown(), "\x1b[0m\r\n[Ctrl-] and ? tell the keys]\r\n");
    setup.typed(b"\x1d?");
    assert!(setup.shown().contains("\r\n  m        the monitor\r\n"));
    let mut alone = Setup::new(&["web"]);
    alone.typed(b"\x1dn\x1dp\x1d9");
    assert!(alone.shown().ends_with("[there is 1 guest]\r\n"));
}

#[test]
fn what_is_lost_is_counted_and_told_once() {
    let mut setup = Setup::new(&["web", "db"]);
    let line = std::format!("{}\n", "x".repeat(99));
    for _ in 0..1000 {
        assert_eq!(setup.written(1, &line), 100, "a hidden guest never waits");
    }
    setup.typed(b"\x1d2");
    let shown = setup.shown();
    let lines = SCROLLBACK / 100;
    let title =
        std::format!("[db, guest 2 of 2]\r\n[{} bytes lost]\r\n", grouped(100_000 - 100 * lines as u64));
    let (_, rest) = shown.split_once(&title).unwrap();
    assert_eq!(rest, line.repeat(lines), "which begins with a whole line");
    setup.typed(b"\x1d1\x1d2");
    assert!(!setup.shown().contains("lost"));
}

#[test]
fn a_replay_that_is_left_is_taken_up_where_it_was() {
    let mut setup = Setup::new(&["web", "db"]);
    let lines: Vec<_> =
        (0..2000).map(|n| std::format!("line {n:04}, to make up bytes for the ring\n")).collect();
    lines.iter().for_each(|line| assert_eq!(setup.written(1, line), line.len()));
    setup.terminal.room = 1000;
    setup.typed(b"\x1d2");
    let first = setup.shown();
    assert!(setup.consoles.is_behind());
    assert_eq!(setup.written(1, "later"), 0, "it waits for the screen like any guest that is shown");
    setup.typed(b"\x1d1");
    assert_eq!(setup.written(1, "later"), 5);
    setup.terminal.room = usize::MAX;
    setup.shown();
    setup.typed(b"\x1d2");
    let second = setup.shown();
    let all = |text: &str| text.lines().filter(|line| line.starts_with("line ")).count();
    assert!(first.contains("lost") && !second.contains("lost"));
    let kept = SCROLLBACK / lines[0].len();
    // The line that was cut off is there in both.
    assert!((kept..=kept + SCREENFUL + 1).contains(&(all(&first) + all(&second))));
    assert!(second.ends_with("ring\nlater"));
}

#[test]
fn the_loss_is_told_also_when_the_operator_was_away_too_soon() {
    let mut setup = Setup::new(&["web", "db"]);
    let line = "0123456789abcde\n";
    (0..2 * SCROLLBACK / line.len()).for_each(|_| assert_eq!(setup.written(1, line), line.len()));
    setup.terminal.room = 0;
    setup.typed(b"\x1d2\x1d1");
    setup.terminal.room = usize::MAX;
    setup.typed(b"\x1d2");
    assert!(setup.shown().contains("[65,552 bytes lost]"));
}

#[test]
fn a_guest_that_does_not_run_holds_no_typing_up() {
    let mut setup = Setup::new(&["web", "db"]);
    setup.typed(&[b'x'; INPUT]);
    assert!(!setup.consoles.accepts(), "a guest that runs will read it");
    setup.consoles.set_state(0, State::Paused);
    assert!(setup.consoles.accepts());
    setup.typed(b"y");
    assert_eq!(setup.shown(), "\x07");
    assert_eq!(setup.read(0).len(), INPUT, "what was typed before waits for it");
    setup.consoles.set_state(1, State::Stopped);
    setup.consoles.set_state(0, State::Off);
    setup.typed(b"z");
    assert_eq!((setup.shown().as_str(), setup.read(0).len()), ("\x07", 0));
    setup.typed(b"\x1d1");
    assert_eq!(setup.shown(), "\x1b[0m\r\n[web, guest 1 of 2, off]\r\n");
}

#[test]
fn the_monitor_takes_lines_and_gives_commands() {
    let mut setup = Setup::new(&["web", "db"]);
    setup.typed(b"\x1dm");
    assert!(setup.shown().ends_with("\r\nhypocaust> "));
    assert!(setup.consoles.view() == View::Monitor);
    assert_eq!(setup.typed(b"pause d\r"), [Command::Change(Change::Pause, 1)]);
    assert_eq!(setup.shown(), "pause d\r\n", "the prompt comes behind the answer");
    setup.consoles.answer(Reply::Text("done\n".to_string()));
    assert_eq!(setup.shown(), "done\r\nhypocaust> ");
    assert_eq!(setup.typed(b"frob\r"), []);
    assert_eq!(setup.shown(), "frob\r\nthere is no command `frob`; `help` lists them\r\nhypocaust> ");
    assert_eq!(setup.typed(b"\r"), []);
    assert_eq!(setup.shown(), "\r\nhypocaust> ");
    assert_eq!(setup.written(0, "meanwhile"), 9);
    setup.typed(b"\x04");
    assert_eq!(setup.shown(), "\x1b[0m\r\n[web, guest 1 of 2]\r\nmeanwhile");
    assert!(setup.read(0).is_empty(), "nothing of it was for a guest");
}

#[test]
fn a_question_wants_a_yes() {
    let mut setup = Setup::new(&["web"]);
    let ask = || Reply::Ask("sure? ".to_string(), Command::Shutdown { now: true });
    setup.typed(b"\x1dm");
    for no in [&b"\r"[..], b"n\r", b"vms\r", b"\x03"] {
        setup.consoles.answer(ask());
        assert_eq!(setup.typed(no), []);
        assert!(setup.shown().ends_with("hypocaust> "));
        assert_eq!(setup.typed(b"y\r"), [], "it was asked once");
        setup.shown();
    }
    setup.consoles.answer(ask());
    setup.consoles.say("hypocaust: news\n");
    assert!(setup.shown().ends_with("news\r\nsure? "), "what is asked stays on the screen");
    assert_eq!(setup.typed(b"y\r"), [Command::Shutdown { now: true }]);
}

#[test]
fn the_hypervisors_lines_do_not_tear_the_prompt() {
    let mut setup = Setup::new(&["web"]);
    setup.written(0, "# ");
    setup.consoles.say("hypocaust: news\n");
    assert_eq!(setup.shown(), "# hypocaust: news\r\n", "while a guest is shown they come where it is");
    setup.typed(b"\x1dmvs\x1b[D");
    setup.shown();
    setup.consoles.say("hypocaust: news\n");
    assert_eq!(setup.shown(), "\r\x1b[Khypocaust: news\r\nhypocaust> vs\x08");
    setup.typed(b"\x1d?");
    assert!(setup.shown().ends_with("]\r\nhypocaust> vs\x08"));
}

#[test]
fn commands_wait_until_the_answers_have_room() {
    let mut setup = Setup::new(&["web"]);
    setup.typed(b"\x1dm");
    setup.terminal.room = 0;
    assert!(setup.consoles.accepts());
    setup.consoles.answer(Reply::Text("x".repeat(STAGED)));
    assert!(!setup.consoles.accepts());
    setup.terminal.room = usize::MAX;
    setup.shown();
    assert!(setup.consoles.accepts());
}

#[test]
fn all_guests_can_be_shown_by_lines() {
    let mut setup = Setup::new(&["web", "db"]);
    setup.typed(b"\x1da");
    assert_eq!(setup.shown(), "\x1b[0m\r\n[all guests; web gets the typing]\r\n");
    setup.written(0, "login: ");
    setup.written(1, "half a li");
    assert_eq!(setup.shown(), "web| login: ", "what can be typed to is shown byte by byte");
    setup.written(1, "ne\r\n");
    assert_eq!(setup.shown(), "\r\ndb| half a line\r\n");
    setup.typed(b"x");
    setup.written(0, "x\r\n");
    assert_eq!(setup.shown(), "web| x\r\n");
    assert_eq!((setup.read(0), setup.read(1)), (b"x".to_vec(), b"".to_vec()));
    setup.written(0, "# ");
    setup.consoles.say("hypocaust: news\n");
    assert_eq!(setup.shown(), "web| # \r\nhypocaust: news\r\n");
    setup.written(1, &"y".repeat(85));
    assert_eq!(setup.shown(), std::format!("db| {}\r\n", "y".repeat(75)), "a long line is broken");
    setup.consoles.set_state(1, State::Off);
    assert_eq!(setup.shown(), "db| yyyyyyyyyy\r\n", "the last line need not end");
    setup.typed(b"\x1dm\x04");
    assert!(setup.shown().ends_with("[all guests; web gets the typing]\r\n"), "the monitor leads back to it");
    setup.typed(b"\x1d1");
    assert!(setup.shown().ends_with("[web, guest 1 of 2]\r\nlogin: x\r\n# "));
}

#[test]
fn all_guests_wait_for_the_screen_where_all_are_shown() {
    let mut setup = Setup::new(&["web", "db"]);
    setup.typed(b"\x1da");
    setup.shown();
    setup.terminal.room = 6;
    assert_eq!(
        setup.written(1, "one\ntwo\nthree\n"),
        4,
        "a line is taken, with what is left of it on the way"
    );
    assert_eq!(setup.written(0, "x"), 0);
    setup.terminal.room = usize::MAX;
    assert_eq!(setup.written(1, "two\n"), 4);
    assert_eq!(setup.shown(), "db| one\r\ndb| two\r\n");
}

#[test]
fn typing_goes_to_a_guest_that_is_alive_where_all_are_shown() {
    let names = ["web", "db"].map(String::from).to_vec();
    let mut consoles = Multiplexer::new(names, View::All);
    consoles.set_state(1, State::Running);
    consoles.set_state(0, State::Off);
    assert_eq!(consoles.typed(b'x'), None);
    assert_eq!(consoles.read(1), Some(b'x'));
    consoles.set_state(1, State::Off);
    assert_eq!(consoles.shown(), 1);
}

#[test]
fn where_the_shown_guest_ends_the_next_one_is_shown_and_gets_the_typing() {
    let mut setup = Setup::new(&["web", "db", "mail"]);
    setup.written(1, "db> ");
    setup.consoles.set_state(2, State::Off);
    assert_eq!((setup.shown().as_str(), setup.consoles.shown()), ("", 0));
    setup.consoles.set_state(0, State::Failed);
    let shown = setup.shown();
    assert!(shown.contains("[db, guest 2 of 3]") && shown.ends_with("db> "), "{shown:?}");
    setup.typed(b"uptime\n");
    assert_eq!(setup.read(1), b"uptime\n");
    // The last one stays, and so does what the monitor was opened for.
    setup.consoles.set_state(1, State::Off);
    assert_eq!((setup.shown().as_str(), setup.consoles.shown()), ("", 1));
    setup.consoles.set_state(0, State::Running);
    setup.typed(b"\x1d1\x1dm");
    setup.consoles.set_state(2, State::Running);
    setup.consoles.set_state(0, State::Off);
    assert_eq!((setup.consoles.shown(), setup.consoles.view()), (0, View::Monitor));
}

#[test]
fn a_console_of_nobody_is_no_harm() {
    let mut setup = Setup::new(&[]);
    setup.typed(b"x\x1d1\x1dn\x1dp\x1dmvms\r\x04");
    assert_eq!(setup.written(3, "x"), 1);
    assert_eq!(setup.consoles.read(0), None);
    setup.consoles.set_state(7, State::Off);
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, String),
    Type(Vec<u8>),
    Room(usize),
    Say,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys =
        [&b"\x1d1"[..], b"\x1d2", b"\x1dn", b"\x1dm", b"\x1da", b"\x1d?", b"\x04", b"a", b"\r", b"\x1d\x1d"];
    let step = prop_oneof![
        4 => (0..3_usize, "[a-z \n]{0,300}").prop_map(|(guest, text)| Step::Write(guest, text)),
        2 => proptest::sample::select(keys.map(<[u8]>::to_vec).to_vec()).prop_map(Step::Type),
        2 => (0..2000_usize).prop_map(Step::Room),
        1 => Just(Step::Say),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn a_lone_guests_output_comes_unchanged_however_slow_the_line_is(
        bytes: Vec<u8>, rooms in proptest::collection::vec(0..9_usize, 1..200)
    ) {
        let mut setup = Setup::new(&["web"]);
        let mut rest = &bytes[..];
        for room in rooms {
            setup.terminal.room = room;
            rest = &rest[setup.consoles.written(0, rest, &mut setup.terminal)..];
        }
        prop_assert_eq!(&setup.terminal.shown[..], &bytes[..bytes.len() - rest.len()]);
    }

    /// *nothing-lost*, *loss-counted*, *hidden-never-waits*
    #[test]
    fn only_the_shown_guest_waits_and_nothing_is_lost_unnoticed(steps in steps()) {
        let mut setup = Setup::new(&["web", "db", "mail"]);
        let mut output = [const { Vec::new() }; 3];
        for step in steps {
            match step {
                Step::Write(guest, text) => {
                    let is_shown = match setup.consoles.view() {
                        View::Guest => guest == setup.consoles.shown(),
                        View::All => true,
                        View::Monitor => false,
                    };
                    let taken = setup.written(guest, &text);
                    prop_assert!(taken == text.len() || is_shown && setup.terminal.room == 0);
                    output[guest].extend(text.bytes().take(taken));
                }
                Step::Type(keys) => {
                    if setup.consoles.accepts() {
                        for command in setup.typed(&keys) {
                            setup.consoles.answer(Reply::Text(std::format!("{command:?}\n")));
                        }
                    }
                }
                Step::Room(room) => setup.terminal.room = room,
                Step::Say => setup.consoles.say("hypocaust: news\n"),
            }
            setup.consoles.pump(&mut setup.terminal);
        }
        setup.terminal.room = usize::MAX;
        setup.shown();
        // Too little was written for a loss, so each console's end is all that its guest wrote since a line began.
        for (guest, output) in output.iter().enumerate() {
            setup.typed(&[ESCAPE, b'1' + guest as u8]);
            let shown = setup.shown();
            let (_, replayed) = shown.split_once("of 3]\r\n").unwrap();
            prop_assert!(!shown.contains("bytes lost]"));
            let output = String::from_utf8(output.clone()).unwrap();
            prop_assert!(output.ends_with(replayed));
            prop_assert!(replayed.lines().count() >= output.lines().count().min(SCREENFUL));
        }
    }
}
