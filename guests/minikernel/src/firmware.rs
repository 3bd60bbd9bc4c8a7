//! What the kernel asks of the SBI firmware, with the older way where the newer is missing; and who it is.

use core::fmt;
use guest_rt::{finisher, sbi};

/// The extensions that `cpu` looks for.
pub const EXTENSIONS: [(&str, u64); 9] = [
    ("TIME", sbi::TIME),
    ("IPI", sbi::IPI),
    ("RFENCE", sbi::RFENCE),
    ("HSM", sbi::HSM),
    ("SRST", sbi::SRST),
    ("PMU", 0x50_4d55),
    ("DBCN", sbi::DBCN),
    ("SUSP", 0x5355_5350),
    ("STA", 0x53_5441),
];

/// SRST's types of reset. SBI spec, "System Reset Extension".
const SHUTDOWN: u64 = 0;
const COLD_REBOOT: u64 = 1;

/// Who implements the SBI. SBI spec, "Base Extension".
pub struct Firmware {
    /// The version of the specification, major and minor.
    pub specification: (u64, u64),
    /// The implementation's name, or `None` for a number that this kernel does not know.
    pub name: Option<&'static str>,
    /// The implementation's number.
    pub id: u64,
    /// The implementation's version, in an encoding of its own.
    pub version: u64,
}

impl Firmware {
    /// Asks the firmware.
    pub fn ask() -> Self {
        let base = |function| sbi::call2(sbi::BASE, function, 0, 0).value;
        let (specification, id) = (base(0), base(1));
        const NAMES: [(u64, &str); 7] = [
            (0, "BBL"),
            (1, "OpenSBI"),
            (2, "Xvisor"),
            (3, "KVM"),
            (4, "RustSBI"),
            (5, "Diosix"),
            (8, "PolarFire HSS"),
        ];
        Self {
            specification: (specification >> 24 & 0x7f, specification & 0xff_ffff),
            name: NAMES.iter().find(|entry| entry.0 == id).map(|entry| entry.1),
            id,
            version: base(2),
        }
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            // OpenSBI's version is a major and a minor number in 16 bits each.
            Some(name @ "OpenSBI") => write!(f, "{name} {}.{}", self.version >> 16, self.version & 0xffff)?,
            Some(name) => write!(f, "{name}, version {:#x}", self.version)?,
            None => write!(f, "implementation {:#x}, version {:#x}", self.id, self.version)?,
        }
        write!(f, " (SBI {}.{})", self.specification.0, self.specification.1)
    }
}

/// Sets the deadline of the timer interrupt.
pub fn set_timer(deadline: u64) {
    if sbi::set_timer(deadline).error == sbi::NOT_SUPPORTED {
        sbi::call2(sbi::LEGACY_SET_TIMER, 0, deadline, 0);
    }
}

/// Turns the machine off. What cannot fail comes last.
pub fn power_off() -> ! {
    sbi::system_reset(SHUTDOWN, 0);
    sbi::call2(sbi::LEGACY_SHUTDOWN, 0, 0, 0);
    finisher::pass()
}

/// Restarts the machine. Returns only where the firmware cannot.
pub fn reboot() {
    sbi::system_reset(COLD_REBOOT, 0);
}
