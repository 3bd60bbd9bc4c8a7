//! The exit statuses of `hypo run`: a stable interface, documented in the README and in `--help`.

use std::process::ExitCode;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The guest powered off, `--expect` matched, or the operator quit.
    PoweredOff,
    /// Set-up or the hypervisor failed.
    Failed,
    /// Bad usage.
    Usage,
    /// The guest asked for a reset under `--no-reboot`.
    Reset,
    /// The hypervisor stopped the guest and said why.
    Stopped,
    /// The guest reported failure, or `--fail` matched.
    GuestFailed,
    /// The run ended or timed out before `--expect` matched.
    ExpectMissed,
    /// `--timeout` passed.
    TimedOut,
}

/// Every status with its number and meaning, in the order of the numbers.
pub const TABLE: [(Status, u8, &str); 8] = [
    (Status::PoweredOff, 0, "the guest powered off, --expect matched, or the operator quit"),
    (Status::Failed, 1, "set-up or the hypervisor failed"),
    (Status::Usage, 2, "bad usage"),
    (Status::Reset, 32, "the guest asked for a reset under --no-reboot"),
    (Status::Stopped, 33, "the guest was stopped, for the reason printed"),
    (Status::GuestFailed, 34, "the guest reported failure, or --fail matched"),
    (Status::ExpectMissed, 36, "--expect did not match before the end or the time-out"),
    (Status::TimedOut, 124, "time-out (without --expect)"),
];

impl Status {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        TABLE.iter().find(|row| row.0 == self).map_or(1, |row| row.1)
    }

    /// The status with this number; any other number is a failure of set-up.
    pub fn from_code(code: i32) -> Self {
        TABLE.iter().find(|row| i32::from(row.1) == code).map_or(Self::Failed, |row| row.0)
    }

    /// What the status means, in one line.
    pub fn meaning(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("", |row| row.2)
    }

    /// How a run ends whose guest ended with `self`, when it had to print something and did not.
    ///
    /// A failure says more than the missing text, so it stays.
    pub fn without_expected(self) -> Self {
        match self {
            Self::Failed | Self::Usage | Self::GuestFailed => self,
            Self::PoweredOff | Self::Reset | Self::Stopped | Self::ExpectMissed | Self::TimedOut => {
                Self::ExpectMissed
            }
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.code())
    }
}

/// The table as text for `--help`.
pub fn help() -> String {
    let rows: String = TABLE.iter().map(|(_, code, meaning)| format!("  {code:>3}  {meaning}\n")).collect();
    format!("Exit status:\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_documented_ones() {
        let codes = TABLE.map(|row| row.0.code());
        assert_eq!(codes, [0, 1, 2, 32, 33, 34, 36, 124]);
    }

    #[test]
    fn each_number_leads_back_to_its_status() {
        for (status, code, _) in TABLE {
            assert_eq!(Status::from_code(code.into()), status);
        }
        assert_eq!(Status::from_code(77), Status::Failed);
    }

    #[test]
    fn a_missing_text_turns_every_ending_but_failure_into_36() {
        let with = TABLE.map(|row| row.0.without_expected().code());
        assert_eq!(with, [36, 1, 2, 36, 36, 34, 36, 36]);
    }
}
