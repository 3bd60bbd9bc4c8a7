//! Guests that are up to something with the operator's terminal, beside one that is not: `guests/features`' `terminal`. The
//! terminal that is played here answers each question that it is asked, by typing: so an answer reaches whoever is typed to.

use super::runner::{Case, silent};
use crate::expect::{Input, Missed, Session};
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, anyhow, bail, ensure};
use regex::bytes::Regex;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// What a terminal answers: ENQ, reports, settings and checksums, control strings that ask; and 8-bit controls, of which
/// any may be one of these.
const QUESTIONS: &str = r"(?s-u)\x05|\x1b[ZP_X^]|\x1b\][^\x07\x1b]*\?|\xc2[\x80-\x9f]|[\x00-\x7f][\x80-\x9f]|\x1b\[[\x00-\x3f]*[cntxyq]|\x1b\[[\x00-\x3f]*\$p|\x1b\[[\x00-\x1f]*[<-?][\x00-\x3f]*[umS]";
/// What it types.
const ANSWER: &str = "\x1b[24;80R";

/// Both take seconds.
const LIMIT: Duration = Duration::from_secs(60);

struct Scene {
    name: &'static str,
    about: &'static str,
    /// What is shown, as the manifest says it.
    show: &'static str,
    /// What is waited for, and typed then.
    steps: &'static [(&'static str, &'static str)],
    check: fn(&[u8]) -> Result<()>,
}

/// The guests, in order: the first is shown, or gets the typing.
const GUESTS: [&str; 3] = ["listen", "ask", "hide"];

const SCENES: [Scene; 2] = [
    Scene {
        name: "all",
        about: "on a shared screen no guest makes the terminal answer, nor writes in another's lines, nor hides its end",
        show: "all",
        steps: &[
            // In the order in which they come.
            (r"hide\| hide: ready.*ask\| ask: end|ask\| ask: end.*hide\| hide: ready", "\u{1d}3\u{1d}ax"),
            ("guest `hide` was stopped", "\u{1d}2\u{1d}ax"),
            ("guest `ask` powered off", "q"),
            (r"listen: \d+ bytes", ""),
        ],
        check: shared,
    },
    Scene {
        name: "replay",
        about: "a guest that is shown again asks the terminal nothing, and one that has ended does not hide why",
        show: "first",
        steps: &[
            ("listen: ready", "\u{1d}2"),
            ("ask: end", "\u{1d}3"),
            ("hide: ready", "x"),
            ("guest `hide` was stopped", "\u{1d}1\u{1d}2\u{1d}1q"),
            (r"listen: \d+ bytes", "\u{1d}2x"),
        ],
        check: replayed,
    },
];

/// The cases.
pub fn cases(project: &Project, hypo: &Hypo, firmware: &str) -> Vec<Case> {
    let case = |scene: &'static Scene| {
        let (kernel, hypo, firmware) = (project.bare_program("terminal"), hypo.clone(), firmware.to_owned());
        Case {
            name: format!("terminal/{}", scene.name),
            about: scene.about.into(),
            long: false,
            run: silent(move |log| run(scene, &kernel, &hypo, &firmware, log)),
        }
    };
    SCENES.iter().map(case).collect()
}

fn run(scene: &Scene, kernel: &PathBuf, hypo: &Hypo, firmware: &str, log: &mut Vec<u8>) -> Result<()> {
    let folder = tempfile::tempdir().context("no place for a manifest")?;
    let path = folder.path().join("terminal.toml");
    std::fs::write(&path, manifest(scene, kernel))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let path = path.display().to_string();
    let arguments = ["run", &path, "--icount", "--firmware", firmware].map(String::from);
    let limit = hypo.limit(LIMIT);
    let mut run = launch::start(hypo, &arguments, Input::Terminal, limit)?;
    log.extend(format!("$ {}\n", run.shown).bytes());
    if let Err(error) = play(scene, &mut run.session, limit) {
        log.extend(run.session.abandon());
        return Err(error);
    }
    let status = run.finish(log)?;
    ensure!(status == 33, "exit status {status}, not 33: a guest was stopped");
    ensure!(has(log, "listen: 0 bytes"), "answers were typed to a guest");
    (scene.check)(log)
}

/// Plays the terminal: types what is due, and answers each question of what comes before.
fn play(scene: &Scene, session: &mut Session, limit: Duration) -> Result<()> {
    let questions = Regex::new(QUESTIONS)?;
    for (expected, keys) in scene.steps {
        let pattern = Regex::new(&format!("(?s-u).*?(?:{expected})"))?;
        let text = session.expect(&pattern, limit).map_err(|missed| {
            let how = if missed == Missed::TimedOut { "in time" } else { "before the end" };
            anyhow!("{expected:?} did not come {how}")
        })?;
        for _ in questions.find_iter(text.as_bytes()) {
            session.send(ANSWER)?;
        }
        session.send(keys)?;
    }
    Ok(())
}

fn manifest(scene: &Scene, kernel: &PathBuf) -> String {
    let mut text = format!("[host]\nshow = '{}'\n", scene.show);
    for name in GUESTS {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "[[vm]]\nname = '{name}'\nkernel = {kernel:?}\nmemory = '16M'\nappend = 'terminal={name}'\n"
        );
    }
    text
}

/// No question, only colours, and each line with the name of who wrote it. Guests that are shown alone come later.
fn shared(output: &[u8]) -> Result<()> {
    let (shared, _) = split(output, "[hide, guest 3 of 3]").context("guest `hide` was not shown")?;
    let strange = Regex::new(r"(?-u)\x1b(?:[^\[]|\[[^A-Za-z]*[A-LN-Za-jln-z])|[\x00-\x08\x0b-\x1a]")?;
    if let Some(found) = strange.find(shared).or(Regex::new(QUESTIONS)?.find(output)) {
        bail!("{:?} came to the terminal", String::from_utf8_lossy(found.as_bytes()));
    }
    let forged = Regex::new(r"(?m-u)^.*forged")?;
    for line in forged.find_iter(shared) {
        ensure!(line.as_bytes().starts_with(b"ask| "), "a line was forged");
    }
    ensure!(forged.is_match(shared), "nothing was forged");
    told(output)
}

/// No question, and the hypervisor's line behind the end of what would hide it.
fn replayed(output: &[u8]) -> Result<()> {
    let (_, shown) = split(output, "[ask, guest 2 of 3]").context("guest `ask` was not shown")?;
    ensure!(has(shown, "asked"), "its console was not replayed");
    if let Some(found) = Regex::new(QUESTIONS)?.find(output) {
        bail!("{:?} came to the terminal", String::from_utf8_lossy(found.as_bytes()));
    }
    let (_, hidden) = split(output, "\x1b]0;").context("guest `hide` has hidden nothing")?;
    let (before, _) = split(hidden, "hypocaust: guest `hide` was stopped").context("its end was not told")?;
    ensure!(has(before, "\x18\x1b\\") && has(before, "\x1b[0m"), "the end of `hide` was hidden");
    told(output)
}

/// Why `hide` has ended is told, with its registers.
fn told(output: &[u8]) -> Result<()> {
    let (_, told) = split(output, "hypocaust: guest `hide` was stopped").context("its end was not told")?;
    ensure!(has(told, "sepc"), "its registers were not told");
    Ok(())
}

fn split<'a>(bytes: &'a [u8], at: &str) -> Option<(&'a [u8], &'a [u8])> {
    let at = at.as_bytes();
    let found = bytes.windows(at.len()).position(|window| window == at)?;
    Some((bytes.get(..found)?, bytes.get(found + at.len()..)?))
}

fn has(bytes: &[u8], text: &str) -> bool {
    split(bytes, text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &str = "hypocaust: here\nlisten| ready\nask| asked\nask| \x1b[31mlisten| forged\x1b[0m\n[hide, guest 3 of 3]\n\
        hypocaust: guest `hide` was stopped: x\nsepc 1\n";
    const REPLAYED: &str = "[ask, guest 2 of 3]\nasked\n\x1b[2J[hide, guest 3 of 3]\nlogin: \x1b[8m\x1b]0;\x18\x1b\\\x1b[0m\
        hypocaust: guest `hide` was stopped: x\nsepc 1\n";

    #[test]
    fn what_a_shared_screen_must_not_show_is_found() {
        assert!(shared(SHARED.as_bytes()).is_ok(), "{:?}", shared(SHARED.as_bytes()));
        for (from, to) in [
            ("asked", "\x1b[6n"),
            ("asked", "\x1b[1A"),
            ("asked", "\x1b]0;x"),
            ("asked", "\u{9b}6n"),
            ("asked", "x\x08"),
            ("ask| \x1b", "\x1b"),
            ("forged", ""),
            ("was stopped", ""),
            ("sepc", ""),
        ] {
            assert!(shared(SHARED.replace(from, to).as_bytes()).is_err(), "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn what_a_replay_must_not_send_is_found() {
        assert!(replayed(REPLAYED.as_bytes()).is_ok(), "{:?}", replayed(REPLAYED.as_bytes()));
        for question in [
            "\x1b[6n",
            "\x1b[?u",
            "\x1b[1;1*y",
            "\x1b[?1;1;0S",
            "\x1bPx",
            "\x05",
            "\u{9b}",
            "\x1b]4;1;?\x07",
            "\x1b[?1$p",
            "\x1b[>q",
        ] {
            assert!(replayed(REPLAYED.replace("\x1b[2J", question).as_bytes()).is_err(), "{question:?}");
        }
        for (from, to) in [("\x18", ""), ("\x1b[0m", ""), ("asked", ""), ("sepc", "")] {
            assert!(replayed(REPLAYED.replace(from, to).as_bytes()).is_err(), "{from:?} -> {to:?}");
        }
    }
}
