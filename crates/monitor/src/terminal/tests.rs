use super::*;

fn after(bytes: &[u8]) -> (String, String) {
    let mut terminal = Terminal::default();
    bytes.iter().for_each(|byte| terminal.feed(*byte));
    let order = terminal.show_text();
    (order, terminal.leave().0)
}

#[test]
fn plain_output_needs_nothing() {
    for text in [
        "login: ",
        "a\r\nb\tc\x08\x07",
        "\u{e4}\u{2500}",
        "\x1b[31mred\x1b[0m",
        "\x1b[6n\x1b[J\x1b[3C",
        "\x1b]0;t\x07",
        "\x1b]2;t\x1b\\",
    ] {
        assert_eq!(after(text.as_bytes()), (String::new(), String::new()), "{text:?}");
    }
}

#[test]
fn what_is_open_is_closed() {
    for text in [
        &b"\x1b"[..],
        b"\x1b[",
        b"\x1b[3;",
        b"\x1b]0;",
        b"\x1b]0;x\x1b",
        b"\xe2",
        b"\xe2\x94",
        b"\x1b(",
        b"\xc2\x1b]0;",
        b"\xc2\xe2",
        b"\x1b\x1b[",
    ] {
        assert_eq!(after(text), (CLOSE.into(), String::new()), "{text:x?}");
    }
    // Strings that terminals leave in different ways, and those that not all terminals know.
    for text in [
        &b"\x1bP"[..],
        b"\x1bPq",
        b"\x1b_x\x1b[m",
        b"\x1b]0;x\x1b[m",
        b"\x1bX",
        b"\x1b^\xe2",
        b"\x90",
        b"\xc2\x90",
        b"\x9b",
    ] {
        assert!(after(text).0.starts_with(CLOSE), "{text:x?}");
    }
    for text in [
        &b"\x1b]0;x\x1b[m"[..],
        b"\x1b_x\x1b[mx",
        b"\x1bPq\x1b[m",
        b"\xc2\x9b8m",
        b"\x1b[3\n1m",
        b"\x1b[3\x801m",
        b"\x1b[5i",
        b"\x1b%@",
    ] {
        assert!(after(text).0.contains(EVERYTHING), "{text:x?}");
    }
}

#[test]
fn what_hides_text_is_put_back_before_text_and_the_rest_on_leaving() {
    for (text, order, leave) in [
        ("\x1b[8m", "\x1b[0m", ""),
        ("\x1b[0;8m", "\x1b[0m", ""),
        ("\x1b(0", CHARACTERS, ""),
        ("\x0e", CHARACTERS, ""),
        ("\x1b[5;5r", BOTTOM, ""),
        ("\x1b[H", BOTTOM, ""),
        ("\x1b[?7l", "\x1b[?7h", ""),
        ("\x1b[?2026h", "\x1b[?2026l", ""),
        ("\x1b[?25l\x1b[?1;1000;2004h", "", "\x1b[?1l\x1b[?25h\x1b[?1000l\x1b[?2004l"),
        ("\x1b[?25l\x1b[?25h", "", ""),
        ("\x1b=", "", KEYS),
        ("\x1b[>1u", "", KEYS),
    ] {
        assert_eq!(after(text.as_bytes()), (order.into(), leave.into()), "{text:?}");
    }
    let alternate = after(b"\x1b[?1049h").0;
    assert!(alternate.starts_with("\x1b[?1049l") && alternate.ends_with(BOTTOM));
}

#[test]
fn a_terminal_is_put_in_order_once() {
    let mut terminal = Terminal::default();
    b"\x1b[5i\x1b[?1000h\x1b]".iter().for_each(|byte| terminal.feed(*byte));
    let (order, modes) = terminal.leave();
    assert!(order.contains("\x1b[?1000l"));
    assert_eq!(terminal.leave(), (String::new(), Modes::default()));
    let mut again = String::new();
    modes.enter(&mut again);
    assert_eq!(again, "\x1b[?1000h");
}
