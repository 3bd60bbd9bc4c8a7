//! QEMU's command line and version. Starts nothing that runs a guest: `session` does.

use crate::error::{Error, Result};
use crate::size::{Address, Size};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest QEMU that is known to work.
const OLDEST: (u32, u32) = (7, 2);
/// The file that QEMU looks for when it is told `-bios default`.
const DEFAULT_FIRMWARE: &str = "opensbi-riscv64-generic-fw_dynamic.bin";
/// The machine whose map guests see, and which has a test finisher.
pub const VIRT: &str = "virt";

/// The machine that QEMU emulates.
#[derive(Clone, Debug)]
pub struct Machine {
    /// QEMU's program.
    pub program: PathBuf,
    /// QEMU's machine model.
    pub model: String,
    /// QEMU's CPU model; `None` takes the machine's own.
    pub cpu: Option<String>,
    /// Harts; `None` takes the machine's own number.
    pub harts: Option<u32>,
    /// RAM.
    pub memory: Size,
    /// `default` or a file.
    pub firmware: PathBuf,
    /// Whether one instruction takes one nanosecond of the guest's time.
    pub icount: bool,
    /// Disks and NICs.
    pub devices: Words,
    /// More arguments, as they are.
    pub extra: Vec<String>,
}

/// QEMU's words for devices.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// The words.
    pub words: Vec<OsString>,
    /// The files of its drives, by number.
    pub drives: Vec<PathBuf>,
}

/// A guest that QEMU boots itself.
#[derive(Clone, Debug)]
pub struct NativeGuest {
    /// Its kernel, not compressed.
    pub kernel: PathBuf,
    /// Its initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Its kernel's command line.
    pub append: String,
    /// More files, and where in its memory they go.
    pub loads: Vec<(PathBuf, Address)>,
    /// Whether its reset ends the machine.
    pub reset_ends: bool,
}

/// What the machine boots.
#[derive(Clone, Copy, Debug)]
pub enum Boot<'a> {
    /// The hypervisor with a bundle.
    Hypervisor {
        /// The flat image.
        image: &'a Path,
        /// The bundle.
        bundle: &'a Path,
    },
    /// A guest, without the hypervisor.
    Native(&'a NativeGuest),
}

impl Machine {
    /// The whole command line, the program first. `control` is the socket over which QEMU tells what happens.
    pub fn command_line(&self, boot: Option<Boot<'_>>, control: Option<&Path>) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec![self.program.clone().into()];
        let mut add =
            |words: &[&dyn AsRef<std::ffi::OsStr>]| line.extend(words.iter().map(|w| w.as_ref().to_owned()));
        add(&[&"-machine", &self.model]);
        if let Some(cpu) = &self.cpu {
            add(&[&"-cpu", cpu]);
        }
        if let Some(harts) = self.harts {
            add(&[&"-smp", &harts.to_string()]);
        }
        add(&[&"-m", &qemu_size(self.memory), &"-bios", &self.firmware]);
        add(&[&"-display", &"none", &"-serial", &"stdio", &"-monitor", &"none"]);
        if self.icount {
            // Nothing that differs from run to run: neither the time of day nor the firmware's random seed.
            add(&[&"-icount", &"shift=0,sleep=off", &"-seed", &"1"]);
            add(&[&"-rtc", &"base=2026-01-01T00:00:00,clock=vm"]);
        }
        match boot {
            None => {}
            Some(Boot::Hypervisor { image, bundle }) => add(&[&"-kernel", &image, &"-initrd", &bundle]),
            Some(Boot::Native(guest)) => {
                add(&[&"-kernel", &guest.kernel]);
                if let Some(initrd) = &guest.initrd {
                    add(&[&"-initrd", initrd]);
                }
                if !guest.append.is_empty() {
                    add(&[&"-append", &guest.append]);
                }
                for (file, address) in &guest.loads {
                    let mut device = OsString::from("loader,file=");
                    device.push(escaped(file));
                    device.push(format!(",addr={address},force-raw=on"));
                    add(&[&"-device", &device]);
                }
                if guest.reset_ends {
                    add(&[&"-no-reboot"]);
                }
            }
        }
        line.extend(self.devices.words.iter().cloned());
        if let Some(socket) = control {
            let mut channel = OsString::from("unix:");
            channel.push(escaped(socket));
            // Who listens at the socket starts the machine.
            line.extend(["-qmp".into(), channel, "-S".into()]);
        }
        line.extend(self.extra.iter().map(OsString::from));
        line
    }

    /// Whether a guest's or the hypervisor's status becomes QEMU's own exit status.
    pub fn has_finisher(&self) -> bool {
        self.model.split(',').next() == Some(VIRT)
    }

    /// The device tree that QEMU makes for this machine. `scratch` is a folder for its file.
    ///
    /// # Errors
    /// QEMU does not start or refuses the machine.
    pub fn device_tree(&self, boot: Option<Boot<'_>>, scratch: &Path) -> Result<Vec<u8>> {
        let file = scratch.join("machine.dtb");
        let model = format!("{},dumpdtb={}", self.model, file.display().to_string().replace(',', ",,"));
        // Whatever is attached, the tree is the same; and the files may be in use or yet to be made.
        let line = Self { model, devices: Words::default(), ..self.clone() }.command_line(boot, None);
        let (program, arguments) = line.split_first().ok_or_else(|| Error::new("no command to run"))?;
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|error| not_started(&self.program, &error))?;
        let mut tree = std::fs::read(&file).map_err(|_| {
            Error::new(format_args!(
                "QEMU refuses the machine: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ))
            .remedy("check --machine, --cpu, --harts and --host-memory")
        })?;
        // QEMU writes its whole buffer; the tree's header says how much of it is the tree.
        if let Some(size) = tree.get(4..).and_then(|rest| rest.first_chunk::<4>()) {
            tree.truncate(u32::from_be_bytes(*size) as usize);
        }
        Ok(tree)
    }
}

/// The version of the QEMU at `program`.
///
/// # Errors
/// It does not start or says something else than a version.
pub fn version(program: &Path) -> Result<(u32, u32)> {
    let output =
        Command::new(program).arg("--version").output().map_err(|error| not_started(program, &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| {
        Error::new(format_args!("`{}` does not say which version of QEMU it is", program.display()))
            .remedy("give the path of qemu-system-riscv64 with --qemu")
    })
}

/// Checks that the QEMU at `program` is not too old.
///
/// # Errors
/// It is, or it does not start.
pub fn check_version(program: &Path) -> Result<()> {
    let (major, minor) = version(program)?;
    if (major, minor) < OLDEST {
        let (oldest, point) = OLDEST;
        return Err(Error::new(format_args!("QEMU {major}.{minor} is too old"))
            .remedy(format_args!("install QEMU {oldest}.{point} or later and give its path with --qemu")));
    }
    Ok(())
}

/// Whether the QEMU at `program` finds the firmware that `-bios default` names.
pub fn has_default_firmware(program: &Path) -> bool {
    let Ok(output) = Command::new(program).args(["-L", "help"]).output() else { return false };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .any(|folder| Path::new(folder).join(DEFAULT_FIRMWARE).is_file())
}

/// The error for a QEMU that cannot be started.
pub fn not_started(program: &Path, error: &std::io::Error) -> Error {
    Error::new(format_args!("cannot start `{}`: {error}", program.display()))
        .remedy("`cargo hypo doctor` says what to install; or give the path with --qemu")
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("QEMU emulator version ")?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whole mebibytes: QEMU's machines take no less.
fn qemu_size(size: Size) -> String {
    format!("{}M", size.0.div_ceil(1 << 20))
}

/// In QEMU's lists of options a comma in a value is written twice.
pub fn escaped(path: &Path) -> OsString {
    match path.to_str() {
        Some(text) => text.replace(',', ",,").into(),
        None => path.into(),
    }
}

/// The command line as a shell takes it.
pub fn as_shell(line: &[OsString]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@+%".contains(c);
    let words = line.iter().map(|word| match word.to_string_lossy() {
        word if !word.is_empty() && word.chars().all(plain) => word.into_owned(),
        word => format!("'{}'", word.replace('\'', r"'\''")),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            program: "qemu-system-riscv64".into(),
            model: VIRT.into(),
            cpu: Some("rv64,h=off".into()),
            harts: Some(2),
            memory: Size(768 << 20),
            firmware: "default".into(),
            icount: false,
            devices: Words::default(),
            extra: Vec::new(),
        }
    }

    #[test]
    fn the_hypervisor_gets_its_bundle_as_the_ram_disk() {
        let boot = Boot::Hypervisor { image: Path::new("hypocaust.bin"), bundle: Path::new("b") };
        assert_eq!(
            as_shell(&machine().command_line(Some(boot), None)),
            "qemu-system-riscv64 -machine virt -cpu rv64,h=off -smp 2 -m 768M -bios default \
             -display none -serial stdio -monitor none -kernel hypocaust.bin -initrd b"
        );
    }

    #[test]
    fn a_native_guest_gets_the_same_words() {
        let guest = NativeGuest {
            kernel: "k".into(),
            initrd: Some("rd".into()),
            append: "console=ttyS0 it's".into(),
            loads: vec![("a,b".into(), Address(0x8400_0000))],
            reset_ends: true,
        };
        let mut machine = machine();
        machine.icount = true;
        machine.extra = vec!["-s".into()];
        let line = as_shell(&machine.command_line(Some(Boot::Native(&guest)), None));
        assert!(
            line.ends_with(
                "-icount shift=0,sleep=off -seed 1 \
                 -rtc base=2026-01-01T00:00:00,clock=vm -kernel k -initrd rd -append 'console=ttyS0 it'\\''s' \
                 -device loader,file=a,,b,addr=0x84000000,force-raw=on -no-reboot -s"
            ),
            "{line}"
        );
    }

    #[test]
    fn a_machine_that_is_watched_waits_for_the_watcher() {
        let line = as_shell(&machine().command_line(None, Some(Path::new("/s"))));
        assert!(line.ends_with("-qmp unix:/s -S"), "{line}");
    }

    #[test]
    fn versions_of_distributions_and_of_releases_are_read() {
        assert_eq!(parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n"), Some((7, 2)));
        assert_eq!(parse_version("QEMU emulator version 10.0.0\n"), Some((10, 0)));
        assert_eq!(parse_version("bash: no"), None);
    }

    #[test]
    fn only_virt_has_a_finisher() {
        let with = |model: &str| Machine { model: model.into(), ..machine() }.has_finisher();
        assert!(with("virt") && with("virt,aclint=on") && !with("sifive_u"));
    }
}
