//! That the terminal is in order when the hypervisor or another guest has it, on model terminals.

use super::*;
use crate::model::{hostile, questions, rows, screen};

#[test]
fn a_guest_cannot_hide_what_is_said_of_it() {
    for hidden in [
        &b"login: \x1b]0;"[..],
        b"\x1bP",
        b"\x1b_x\x1b[mx",
        b"\x1b[",
        b"\xe2",
        b"\xc2\x1b]0;",
        b"\x1b[?1049h\x1b[2J",
        b"\x1b[1;1H\x1b[1;2r",
        b"\x1b[1;75H\x1b[?7l",
        b"\x1b[5;5H\x1b[?6h",
        b"\x1b[?1049h\x1b[?1049l\x1b7\x1b[H\x1b8",
    ] {
        let mut setup = Setup::new(&["web", "db"]);
        let mut terminal = screen(24);
        setup.consoles.written(0, &b"filled\r\n".repeat(40), &mut setup.terminal);
        setup.consoles.written(0, hidden, &mut setup.terminal);
        setup.consoles.say("hypocaust: guest `web` crashed\nits registers\n");
        setup.consoles.pump(&mut setup.terminal);
        terminal.process(&setup.terminal.shown);
        let rows = rows(&terminal);
        let at = rows.iter().position(|row| row.ends_with("hypocaust: guest `web` crashed"));
        assert_eq!(rows[at.unwrap_or_else(|| panic!("{hidden:x?}: {rows:?}")) + 1], "its registers");
        assert!(!terminal.screen().alternate_screen());
    }
}

#[test]
fn what_a_guest_has_set_goes_with_it_and_comes_back_with_it() {
    let mut setup = Setup::new(&["web", "db"]);
    let mut terminal = screen(24);
    let mut show = |setup: &mut Setup| {
        terminal.process(setup.shown().as_bytes());
        let screen = terminal.screen();
        let mouse = screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None;
        (
            mouse,
            screen.bracketed_paste(),
            screen.application_cursor(),
            screen.hide_cursor(),
            screen.alternate_screen(),
        )
    };
    setup.written(0, "\x1b[?1000h\x1b[?2004h\x1b[?1h\x1b[?25l\x1b[?1049h");
    setup.written(0, &"lines\r\n".repeat(100));
    assert_eq!(show(&mut setup), (true, true, true, true, true));
    setup.typed(b"\x1d2");
    assert_eq!(show(&mut setup), (false, false, false, false, false));
    setup.typed(b"\x1d1");
    assert_eq!(show(&mut setup), (true, true, true, true, true));
    setup.typed(b"\x1dm");
    assert_eq!(show(&mut setup), (false, false, false, false, false));
    setup.typed(b"\x1d1");
    setup.consoles.set_state(1, State::Off);
    setup.consoles.set_state(0, State::Crashed);
    assert_eq!(show(&mut setup), (false, false, false, false, false), "and when it ends");
}

#[test]
fn what_is_said_behind_the_end_begins_a_line() {
    let mut setup = Setup::new(&["web"]);
    setup.written(0, "\x1b[?2004h# ");
    setup.consoles.set_state(0, State::Off);
    assert_eq!(setup.shown(), "\x1b[?2004h# \x1b[?2004l\r\n");
    setup.consoles.give_back();
    assert_eq!(setup.shown(), "", "once is enough");
}

#[test]
fn what_was_written_long_ago_is_remembered() {
    // More than is looked at at once, less and more than the scroll-back has, in one piece and in many.
    for (count, piece) in [(10_000, 1), (100_000, 1), (100_000, 100_000)] {
        let mut setup = Setup::new(&["web"]);
        setup.written(0, "\x1b[5i\x1b[?2026h");
        for _ in 0..count / piece {
            setup.consoles.written(0, &b"x".repeat(piece), &mut setup.terminal);
        }
        setup.shown();
        setup.consoles.say("news\n");
        let shown = setup.shown();
        assert!(
            shown.contains("\x1b[4i") && shown.contains("\x1b[?2026l") && shown.ends_with("news\r\n"),
            "{shown:?}"
        );
        setup.consoles.say("news\n");
        assert_eq!(setup.shown(), "news\r\n");
    }
}

#[test]
fn a_replay_asks_nothing_and_ends_where_the_guest_goes_on() {
    let mut setup = Setup::new(&["web", "db"]);
    setup.written(1, "old \x1b[?u|\u{9b}6n|\x1b[1;1;1;1;1;1*y|\x1b[?1;1;0S|\x1b[6n|\x1b[c| end\n\x1b[3");
    setup.typed(b"\x1d2");
    let shown = setup.shown();
    assert_eq!(questions(shown.as_bytes()), [""; 0]);
    assert!(shown.ends_with("old |6n||||| end\n\x1b[3"), "{shown:?}");
    setup.written(1, "1mred");
    assert_eq!(setup.shown(), "1mred");
    setup.consoles.say("news\n");
    assert_eq!(setup.shown(), "\x1b[0mnews\r\n");
    setup.typed(b"\x1d1");
    setup.shown();
    setup.written(1, "\x1b]0;unended");
    setup.typed(b"\x1d2");
    let shown = setup.shown();
    assert!(shown.ends_with("\x1b[31mred"), "the beginning of a string is none: {shown:?}");
}

proptest! {
    /// *terminal-in-order*
    #[test]
    fn what_is_said_is_on_the_screen_whatever_a_guest_has_written(
        pieces in proptest::collection::vec(hostile(), 1..4), view in prop_oneof![Just(b'1'), Just(b'a'), Just(b'2')]
    ) {
        let mut setup = Setup::new(&["web", "db"]);
        let mut terminal = screen(24);
        setup.typed(&[ESCAPE, view]);
        setup.consoles.pump(&mut setup.terminal);
        for (n, piece) in pieces.iter().enumerate() {
            setup.consoles.written(0, piece, &mut setup.terminal);
            setup.consoles.written(1, piece, &mut setup.terminal);
            let news = std::format!("hypocaust: news {n}");
            setup.consoles.say(&std::format!("{news}\n"));
            setup.consoles.pump(&mut setup.terminal);
            terminal.process(&mem::take(&mut setup.terminal.shown));
            let shown = terminal.screen().contents();
            prop_assert!(shown.replace('\n', "").contains(&news), "{shown:?}");
        }
    }

    #[test]
    fn what_is_replayed_asks_nothing(pieces in proptest::collection::vec(hostile(), 1..9)) {
        let mut setup = Setup::new(&["web", "db"]);
        pieces.iter().for_each(|piece| assert_eq!(setup.consoles.written(1, piece, &mut setup.terminal), piece.len()));
        setup.typed(b"\x1d2");
        setup.consoles.pump(&mut setup.terminal);
        prop_assert_eq!(questions(&setup.terminal.shown), [""; 0]);
    }
}
