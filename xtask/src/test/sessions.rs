//! Scripted runs of the host command line, from the table `tests/sessions.toml`: what to start, what to wait
//! for, what to type, and the exit status that it must end with.

use super::disks::{Disk, Disks};
use super::outside::{self, OwnCache};
use super::runner::{Case, silent};
use super::setting::{DEFAULT_FIRMWARE, Setting};
use crate::expect::{Input, Missed, Session};
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, anyhow, ensure};
use regex::bytes::Regex;
use serde::Deserialize;
use std::time::Duration;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    session: Vec<Entry>,
    unusable: Vec<Unusable>,
}

/// The option that leaves the hypervisor out.
const NATIVE: &str = "--native";

/// Sessions that are not played with these settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unusable {
    /// The names of their sessions.
    sessions: Pattern,
    firmware: String,
    /// Whether code is rewritten, if that matters.
    rewrite: Option<String>,
    /// Whether this is about QEMU alone, and not about guests.
    #[serde(default)]
    native: bool,
    #[expect(dead_code, reason = "for the reader of the table")]
    why: String,
}

/// One session of the table.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    about: String,
    /// hypo's arguments. `{tests}` is the directory of the table, `{guests}` that of our own guests' ELFs.
    hypo: Vec<String>,
    /// Seconds for all of it.
    limit: u64,
    /// The exit status that hypo must end with.
    #[serde(default)]
    status: i32,
    /// Whether the same session must also go well on QEMU alone.
    #[serde(default)]
    native: bool,
    /// Whether it takes so long that it is only played when it is asked for.
    #[serde(default)]
    long: bool,
    /// Whether it gets a disk of Debian's of its own, whose file system has to be clean at the end.
    #[serde(default)]
    disk: bool,
    /// Whether there is a TCP peer on this machine that sends back what it gets; `{peer}` in a line is its port.
    #[serde(default)]
    peer: bool,
    /// More firmwares to play it on. One whose arguments name the firmware is played on that.
    #[serde(default)]
    firmware: Vec<String>,
    /// Disks of the only guest.
    #[serde(default)]
    disks: Vec<Disk>,
    #[serde(default)]
    steps: Vec<Step>,
    at_most: Option<AtMost>,
}

/// How often its output may have a text.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AtMost {
    text: Pattern,
    times: usize,
    /// What comes before it no more.
    before: Pattern,
}

/// Types keys, as they are, and a line, if there are any, then waits for a text, if there is one. The guest echoes
/// what is typed, so the text should not be part of the line. What a named group of an earlier text matched, `{NAME}`
/// in a line stands for.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Such as `"\u001dm"`: Ctrl-] and m. A session that types keys has a terminal; others have a pipe, to which Ctrl-] is
    /// no key.
    keys: Option<String>,
    send: Option<String>,
    expect: Option<Pattern>,
}

/// A regular expression, checked when the table is read; `^` and `$` are the borders of a line.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(Regex);

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Pattern, regex::Error> {
        Ok(Pattern(Regex::new(&format!("(?m){text}"))?))
    }
}

/// The table's cases.
pub fn cases(project: &Project, setting: &Setting) -> Result<Vec<Case>> {
    let table = Table::load(project)?;
    let places = [
        ("{tests}", project.root().join("tests").display().to_string()),
        ("{guests}", project.bare_program("").display().to_string()),
    ];
    let mut cases = Vec::new();
    for mut entry in table.session {
        for argument in &mut entry.hypo {
            for (name, place) in &places {
                *argument = argument.replace(name, place.trim_end_matches('/'));
            }
        }
        let fixed = entry.hypo.iter().any(|argument| argument == "--firmware");
        for (firmware, suffix) in setting.firmwares(&entry.firmware) {
            let mut entry = entry.clone();
            if !fixed {
                entry.hypo.extend(["--firmware".into(), firmware.into()]);
            } else if firmware != DEFAULT_FIRMWARE {
                continue;
            }
            let name = entry.name.clone();
            let usable = |entry: &Entry| {
                !table.unusable.iter().any(|one| one.covers(&name, firmware, &setting.hypo, &entry.hypo))
            };
            entry.name.push_str(&suffix);
            if entry.native {
                let mut native = entry.clone();
                native.hypo.push(NATIVE.into());
                if usable(&native) {
                    cases.push(case(native, "native", &setting.hypo));
                }
            }
            if usable(&entry) {
                let side = if entry.native { "guest" } else { "" };
                cases.push(case(entry, side, &setting.hypo));
            }
        }
    }
    Ok(cases)
}

impl Table {
    fn load(project: &Project) -> Result<Self> {
        let path = project.root().join("tests/sessions.toml");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))
    }
}

/// Those of other tables' cases that this one does not declare unusable with these settings.
pub fn usable(project: &Project, cases: Vec<Case>, setting: &Setting) -> Result<Vec<Case>> {
    let table = Table::load(project)?;
    let is_usable = |case: &Case| {
        !table.unusable.iter().any(|one| one.covers(&case.name, &setting.firmware, &setting.hypo, &[]))
    };
    Ok(cases.into_iter().filter(is_usable).collect())
}

impl Unusable {
    /// Whether a run of the session `name` with these arguments is among them.
    fn covers(&self, name: &str, firmware: &str, hypo: &Hypo, arguments: &[String]) -> bool {
        self.sessions.0.is_match(name.as_bytes())
            && self.firmware == firmware
            && self.native == arguments.iter().any(|argument| argument == NATIVE)
            && self.rewrite.as_ref().is_none_or(|is| hypo.value(arguments, "--rewrite") == Some(is))
    }
}

fn case(entry: Entry, side: &str, hypo: &Hypo) -> Case {
    let hypo = hypo.clone();
    let name = if side.is_empty() { entry.name.clone() } else { format!("{}/{side}", entry.name) };
    Case {
        name,
        about: entry.about.clone(),
        long: entry.long,
        run: silent(move |log| play(&entry, &hypo, log)),
    }
}

/// Plays a session to its end.
fn play(entry: &Entry, hypo: &Hypo, log: &mut Vec<u8>) -> Result<()> {
    let limit = hypo.limit(Duration::from_secs(entry.limit));
    let mut known = Vec::new();
    if entry.peer {
        known.push(("{peer}".to_owned(), outside::echo_peer()?.to_string()));
    }
    let cache =
        if entry.disk { Some(OwnCache::new(hypo, Project::load()?.target_directory())?) } else { None };
    let hypo = cache.as_ref().map_or_else(|| hypo.clone(), |cache| hypo.with_cache(cache.path()));
    let disks = Disks::new(&entry.disks)?;
    let arguments: Vec<String> = entry.hypo.iter().cloned().chain(disks.arguments()).collect();
    let input =
        if entry.steps.iter().any(|step| step.keys.is_some()) { Input::Terminal } else { Input::Pipe };
    let mut run = launch::start(&hypo, &arguments, input, limit)?;
    log.extend(format!("$ {}\n", run.shown).bytes());
    if let Err(error) = follow(&mut run.session, &entry.steps, limit, known) {
        log.extend(run.session.abandon());
        return Err(error);
    }
    let status = run.finish(log)?;
    ensure!(status == entry.status, "exit status {status}, not {}", entry.status);
    disks.check()?;
    cache.map_or(Ok(()), |cache| cache.check_disk(log))?;
    entry.at_most.as_ref().map_or(Ok(()), |limit| limit.check(log))
}

impl AtMost {
    fn check(&self, output: &[u8]) -> Result<()> {
        let Self { text: Pattern(text), times, before: Pattern(before) } = self;
        let found = text.find_iter(output).count();
        ensure!(found <= *times, "{:?} came {found} times, more than {times}", text.as_str());
        let late = before.find(output).and_then(|end| output.get(end.end()..));
        ensure!(
            !late.is_some_and(|late| text.is_match(late)),
            "{:?} came after {:?}",
            text.as_str(),
            before.as_str()
        );
        Ok(())
    }
}

/// Types and waits. `captured` are texts that stand for others in lines.
fn follow(
    session: &mut Session,
    steps: &[Step],
    limit: Duration,
    mut captured: Vec<(String, String)>,
) -> Result<()> {
    for step in steps {
        if let Some(keys) = &step.keys {
            session.send(keys).with_context(|| format!("nobody reads {keys:?}"))?;
        }
        if let Some(line) = &step.send {
            let line = captured.iter().fold(line.clone(), |line, (name, text)| line.replace(name, text));
            session.send(format!("{line}\n")).with_context(|| format!("nobody reads {line:?}"))?;
        }
        if let Some(Pattern(pattern)) = &step.expect {
            let text = session.expect(pattern, limit).map_err(|missed| {
                let how = match missed {
                    Missed::TimedOut => "did not come in time",
                    Missed::Ended => "did not come before the end",
                };
                anyhow!("{:?} {how}", pattern.as_str())
            })?;
            captured.extend(groups(pattern, &text));
        }
    }
    Ok(())
}

/// The named groups of a match: `{NAME}` and its text.
fn groups(pattern: &Regex, text: &str) -> Vec<(String, String)> {
    let Some(captures) = pattern.captures(text.as_bytes()) else { return Vec::new() };
    let group = |name: &str| {
        let bytes = captures.name(name)?.as_bytes();
        Some((format!("{{{name}}}"), String::from_utf8_lossy(bytes).into_owned()))
    };
    pattern.capture_names().flatten().filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::kernel_log;

    fn entry(text: &str) -> Entry {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_table_is_well_formed() {
        let project = Project::load().unwrap();
        let cases = cases(&project, &Setting::plain(Hypo::new("hypo".as_ref(), Vec::new()))).unwrap();
        let mut names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len(), "names are unique");
    }

    #[test]
    fn what_firmware_makes_unusable_is_left_out() {
        let project = Project::load().unwrap();
        let names = |firmware: &str, rewrite: &str| {
            let hypo = Hypo::new("hypo".as_ref(), vec![("--rewrite", rewrite.into())]);
            let setting = Setting { firmware: firmware.into(), ..Setting::plain(hypo) };
            let others = vec![kernel_log::case(&project, &setting).unwrap()];
            let is_usable = !usable(&project, others, &setting).unwrap().is_empty();
            assert_eq!(is_usable, (firmware, rewrite) != ("opensbi-1.6", "off"));
            let cases = cases(&project, &setting).unwrap();
            cases.into_iter().map(|case| case.name).collect::<Vec<_>>()
        };
        let has = |names: &[String], name: &str| names.iter().any(|other| other == name);
        let off = names("opensbi-1.6", "off");
        assert!(!has(&off, "linux/guest") && has(&off, "linux/native") && has(&off, "u-boot/guest"));
        let on = names("opensbi-1.6", "on");
        assert!(has(&on, "linux/guest") && !has(&on, "linux/slow"), "it switches off by itself");
        let rustsbi = names("rustsbi", "off");
        assert!(has(&rustsbi, "linux/slow") && has(&rustsbi, "linux/modules/guest"));
        assert!(!has(&rustsbi, "linux/modules/native") && has(&rustsbi, "linux/native"));
    }

    #[test]
    fn a_text_may_come_so_often_and_so_late() {
        let limit: AtMost = toml::from_str("text = 'no'\ntimes = 2\nbefore = '^go'").unwrap();
        assert!(limit.check(b"no no\ngo\n").is_ok());
        assert!(limit.check(b"no no no").unwrap_err().to_string().contains("3 times"));
        assert!(limit.check(b"no\ngo\nno").unwrap_err().to_string().contains("after"));
        assert!(limit.check(b"").is_ok());
    }

    #[test]
    fn a_session_types_waits_and_checks_the_status() {
        // sh stands in for hypo.
        let entry = entry(
            r#"
            name = "x"
            about = "x"
            hypo = ["-c", "echo ready; read line; echo got $line; exit 32"]
            limit = 20
            status = 32
            steps = [
                { expect = "^re(?P<part>ad)y$" },
                { keys = "\u0001" },
                { send = "b{part}", expect = "got \u0001bad" },
            ]
            "#,
        );
        let mut log = Vec::new();
        play(&entry, &Hypo::new("sh".as_ref(), Vec::new()), &mut log).unwrap();
        assert!(String::from_utf8(log).unwrap().contains("got \u{1}bad"));
    }

    #[test]
    fn a_wrong_status_and_a_missing_text_fail() {
        let mut entry = entry(
            r#"
            name = "x"
            about = "x"
            hypo = ["-c", "echo hello; exit 1"]
            limit = 20
            "#,
        );
        let error = play(&entry, &Hypo::new("sh".as_ref(), Vec::new()), &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "exit status 1, not 0");
        entry.steps = toml::from_str::<Step>("expect = 'prompt'").map(|step| vec![step]).unwrap();
        let mut log = Vec::new();
        let error = play(&entry, &Hypo::new("sh".as_ref(), Vec::new()), &mut log).unwrap_err();
        assert!(error.to_string().contains("before the end"), "{error}");
        assert!(String::from_utf8(log).unwrap().contains("hello"), "what came is in the log");
    }
}
