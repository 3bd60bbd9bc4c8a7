//! The settings in which cases are run: on which firmware, and with which switches.

use crate::launch::Hypo;

/// The firmware that all cases run on unless told otherwise.
pub const DEFAULT_FIRMWARE: &str = "default";

/// How cases are run.
pub struct Setting {
    /// The program, with the switches that each run gets.
    pub hypo: Hypo,
    /// The firmware that all cases run on.
    pub firmware: String,
    /// Whether, with the default one, cases also run on those that the tables list for them.
    pub listed: bool,
    /// Whether cases also run on QEMU alone, where the switches change nothing.
    pub native: bool,
    /// What cases' names begin with.
    pub prefix: String,
}

impl Setting {
    /// The default firmware, and those that the tables list.
    pub fn plain(hypo: Hypo) -> Self {
        Self { hypo, firmware: DEFAULT_FIRMWARE.into(), listed: true, native: true, prefix: String::new() }
    }

    /// The firmwares that a case runs on. Each has the part of the case's name that tells it.
    pub fn firmwares<'a>(&'a self, listed: &'a [String]) -> Vec<(&'a str, String)> {
        let mut all = vec![(self.firmware.as_str(), String::new())];
        if self.listed && self.firmware == DEFAULT_FIRMWARE {
            all.extend(listed.iter().map(|name| (name.as_str(), format!("/{name}"))));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Setting {
        Setting::plain(Hypo::new("hypo".as_ref(), Vec::new()))
    }

    #[test]
    fn listed_firmwares_come_with_the_default_one_only() {
        let listed = ["rustsbi".to_owned()];
        let both = [("default", String::new()), ("rustsbi", "/rustsbi".to_owned())];
        assert_eq!(plain().firmwares(&listed), both);
        let other = Setting { firmware: "opensbi-1.6".into(), ..plain() };
        assert_eq!(other.firmwares(&listed), [("opensbi-1.6", String::new())]);
    }
}
