//! Signals: which of them end a run, which are left alone, and what may be done to the terminal from the background.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP, SIGUSR1,
    SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::thread;

/// What ends a program that does nothing about it, and can be caught: all but faults of the program's own.
const ENDING: &[i32] = &[
    SIGABRT, SIGALRM, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGSYS, SIGTERM, SIGTRAP, SIGUSR1, SIGUSR2,
    SIGVTALRM, SIGXCPU, SIGXFSZ,
];

/// Hands signals that end a run, SIGTSTP and SIGCONT to `take`, which says whether it wants more. What was ignored when
/// the program started stays so: `nohup` means it, and so does a shell that starts something in the background.
///
/// # Errors
/// The system refuses.
pub fn catch(mut take: impl FnMut(i32) -> bool + Send + 'static) -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    let wanted = ENDING.iter().chain(&[SIGTSTP, SIGCONT]).filter(|number| ignored >> (*number - 1) & 1 == 0);
    let mut signals = Signals::new(wanted)?;
    thread::spawn(move || signals.forever().all(&mut take));
    Ok(())
}

/// The ignored signals in the text of `/proc/self/status`; bit 0 is signal 1.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// What a signal is called.
pub fn name(number: i32) -> String {
    signal_hook::low_level::signal_name(number).map_or_else(|| format!("signal {number}"), str::to_owned)
}

/// Stops this process as SIGTSTP would. Returns when it goes on.
pub fn stop() {
    // Stopping oneself is always allowed.
    let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
}

/// Lets this process outlive the signals that can be caught.
///
/// # Errors
/// The system refuses.
pub fn outlive() -> io::Result<()> {
    let seen = Arc::default();
    ENDING.iter().try_for_each(|number| flag::register(*number, Arc::clone(&seen)).map(drop))
}

/// Does something to the terminal that would stop a process in the background. There, setting modes succeeds and reading
/// fails.
pub fn in_any_case<T>(act: impl FnOnce() -> T) -> T {
    let background: SigSet = [Signal::SIGTTIN, Signal::SIGTTOU].into_iter().collect();
    let before = background.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let done = act();
    if let Ok(before) = before {
        // It was accepted before.
        let _ = before.thread_set_mask();
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        // SIGHUP and SIGPIPE.
        assert_eq!(ignored("Name:\thypo\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n"), 0x1001);
        assert_eq!(ignored("SigIgn:\n"), 0);
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(name(SIGQUIT), "SIGQUIT");
        assert_eq!(name(99), "signal 99");
    }
}
