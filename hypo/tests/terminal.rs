//! What a run leaves of the terminal that it was started in, and of QEMU. Each test of that starts a shell with job control in
//! a terminal of its own, and in it `hypo run` with a small kernel. And what a dry run, for which QEMU is asked, does where
//! nobody reads it. Needs QEMU: `cargo test -p hypo --features qemu`.

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

/// A kernel that prints "READY" and waits for ever. SBI specification, "Legacy Extensions": console_putchar.
fn kernel() -> Vec<u8> {
    const LI_A7_1: u32 = 0x0010_0893;
    const ECALL: u32 = 0x73;
    const WFI: u32 = 0x1050_0073;
    const BACK_ONE: u32 = 0xffdf_f06f;
    let li_a0 = |byte: u8| u32::from(byte) << 20 | 0x513;
    let print = |byte: &u8| [LI_A7_1, li_a0(*byte), ECALL];
    let code = b"READY\n".iter().flat_map(print).chain([WFI, BACK_ONE]);
    code.flat_map(u32::to_le_bytes).collect()
}

/// A shell in a terminal.
struct Shell {
    shell: Child,
    typing: File,
    /// Its other end, to look at the modes.
    terminal: File,
    output: Arc<Mutex<Vec<u8>>>,
    /// Where the next text is looked for.
    seen: usize,
    _folder: TempDir,
}

impl Shell {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("k"), kernel()).unwrap();
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = File::from(rustix::fs::open(name, flags, Mode::empty()).unwrap());
        let end = || Stdio::from(terminal.try_clone().unwrap());
        // A job that a script has started in the background ignores SIGINT, and a shell leaves that as it is.
        let mut command = Command::new("env");
        command
            .args(["--default-signal", "setsid", "--ctty", "sh", "-i"])
            .stdin(end())
            .stdout(end())
            .stderr(end());
        command.current_dir(folder.path()).env("PS1", "sh> ").env_remove("ENV");
        let guest = format!("{} run --kernel k --memory 64M", env!("CARGO_BIN_EXE_hypo"));
        command.env("hypo", format!("{guest} --native")).env("guest", guest);
        let shell = command.spawn().unwrap();
        let typing = File::from(ours);
        let output = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (typing.try_clone().unwrap(), Arc::clone(&output));
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(len @ 1..) = from.read(&mut piece) {
                to.lock().unwrap().extend(&piece[..len]);
            }
        });
        let mut shell = Self { shell, typing, terminal, output, seen: 0, _folder: folder };
        shell.wait_for("sh> ");
        shell
    }

    fn type_keys(&mut self, text: &str) {
        self.typing.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for a text; gives what comes before it.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let what = format!("`{text}`");
        let found = self.wait_until(&what, |shell| {
            let output = shell.output.lock().unwrap();
            let rest = &output[shell.seen..];
            rest.windows(text.len()).position(|piece| piece == text.as_bytes()).map(|at| at + text.len())
        });
        let before = self.output.lock().unwrap()[self.seen..self.seen + found - text.len()].to_vec();
        self.seen += found;
        String::from_utf8_lossy(&before).into_owned()
    }

    #[track_caller]
    fn wait_until<T>(&self, what: &str, get: impl Fn(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = get(self) {
                return value;
            }
            let output = || String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned();
            assert!(start.elapsed() < LIMIT, "no {what} after {LIMIT:?}; the terminal shows:\n{}", output());
            thread::sleep(POLL);
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal)
            .unwrap()
            .local_modes
            .intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    #[track_caller]
    fn wait_for_modes(&self, raw: bool) {
        self.wait_until(if raw { "raw terminal" } else { "restored terminal" }, |shell| {
            (shell.is_raw() == raw).then_some(())
        });
    }

    /// The run's process and QEMU's.
    fn run(&self) -> (Process, Process) {
        let hypo = self.wait_until("hypo", |shell| children(shell.shell.id()).into_iter().next());
        let is_qemu = |process: &Process| process.name().is_some_and(|name| name.starts_with("qemu"));
        let qemu = self.wait_until("QEMU", |_| children(hypo.0).into_iter().find(is_qemu));
        (hypo, qemu)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for hypo in children(self.shell.id()) {
            hypo.signal(Signal::KILL);
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[derive(Clone, Copy)]
struct Process(u32);

impl Process {
    fn signal(self, signal: Signal) {
        // It may have ended.
        let _ = kill_process(Pid::from_raw(self.0.cast_signed()).unwrap(), signal);
    }

    fn name(&self) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/comm", self.0)).ok()
    }

    /// As in `ps`: `T` is stopped. A process that nobody has waited for yet has ended.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        (state != 'Z').then_some(state)
    }
}

fn children(parent: u32) -> Vec<Process> {
    let all = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    all.split_whitespace().map(|id| Process(id.parse().unwrap())).collect()
}

#[test]
fn whatever_signal_ends_a_run_the_terminal_is_restored_and_qemu_ends() {
    let mut shell = Shell::start();
    let signals = [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
        Signal::ALARM,
        Signal::ABORT,
        // No program catches this one.
        Signal::KILL,
    ];
    for signal in signals {
        shell.type_keys("$hypo\r");
        shell.wait_for("READY\r");
        shell.wait_for_modes(true);
        let (hypo, qemu) = shell.run();
        hypo.signal(signal);
        shell.wait_until(&format!("end by {signal:?}"), |_| hypo.state().is_none().then_some(()));
        shell.wait_until(&format!("end of QEMU by {signal:?}"), |_| qemu.state().is_none().then_some(()));
        shell.wait_for_modes(false);
        shell.wait_for("sh> ");
    }
}

#[test]
fn a_stopped_run_gives_the_terminal_back_and_takes_it_again_in_the_foreground() {
    let mut shell = Shell::start();
    shell.type_keys("$hypo; echo status-$?\r");
    shell.wait_for("READY\r");
    shell.wait_for_modes(true);
    let (hypo, qemu) = shell.run();
    hypo.signal(Signal::TSTP);
    shell.wait_for("sh> ");
    shell.wait_for_modes(false);
    assert_eq!((hypo.state(), qemu.state()), (Some('T'), Some('T')), "both stand still");
    // Continued, but in the background: the terminal is the shell's.
    hypo.signal(Signal::CONT);
    shell.wait_until("running QEMU", |_| qemu.state().is_some_and(|state| state != 'T').then_some(()));
    thread::sleep(Duration::from_millis(600));
    assert!(!shell.is_raw());
    shell.type_keys("echo still-$((40 + 2))\r");
    shell.wait_for("still-42");
    shell.type_keys("fg\r");
    shell.wait_for_modes(true);
    shell.type_keys("\u{1d}x");
    shell.wait_for("sh> ");
    shell.wait_for_modes(false);
}

#[test]
fn a_run_in_the_background_leaves_the_terminal_alone_until_it_comes_to_the_foreground() {
    let mut shell = Shell::start();
    shell.type_keys("$hypo --expect READY --timeout 80 & wait $!; echo status-$?\r");
    shell.wait_for("status-0");
    shell.type_keys("$hypo &\r");
    shell.wait_for("READY\r");
    assert!(!shell.is_raw());
    shell.type_keys("fg\r");
    shell.wait_for("Ctrl-]");
    shell.wait_for_modes(true);
    shell.type_keys("\u{1d}x");
    shell.wait_for("sh> ");
    shell.wait_for_modes(false);
}

#[test]
fn a_qemu_that_is_killed_gets_one_message_a_status_and_the_terminal_back() {
    let mut shell = Shell::start();
    for run in ["$hypo", "$guest"] {
        shell.type_keys(&format!("{run}; echo status-$?\r"));
        shell.wait_for("\nREADY");
        shell.wait_for_modes(true);
        let (hypo, qemu) = shell.run();
        qemu.signal(Signal::KILL);
        shell.wait_until("end", |_| hypo.state().is_none().then_some(()));
        let said = shell.wait_for("status-1\r");
        assert_eq!(said.matches("hypo: ").count(), 1, "{run}: {said}");
        assert!(said.contains("hypo: QEMU was ended by signal 9\r\n"), "{run}: {said}");
        shell.wait_for_modes(false);
        shell.wait_for("sh> ");
    }
}

#[test]
fn a_reader_that_has_seen_enough_of_a_dry_run_is_no_mistake() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("k"), kernel()).unwrap();
    for ways in [&[][..], &["--native"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_hypo"));
        command.args(["run", "--dry-run", "--kernel", "k", "--memory", "64M"]).args(ways);
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(command);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > LIMIT {
                child.kill().unwrap();
                panic!("it still runs after {LIMIT:?}");
            }
            thread::sleep(POLL);
        };
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((said.as_str(), status.code()), ("", Some(0)), "{ways:?}");
    }
}
