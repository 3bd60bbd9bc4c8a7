//! What kernels are given in unusual ways: as U-Boot's images, a RAM disk of a good part of their memory, bytes of all values
//! on standard input. `guests/features`' `inputs` says what it has got, natively and as a guest, and that must be what the
//! case has made.

use super::runner::{Case, silent};
use crate::expect::Input;
use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, anyhow, ensure};
use flate2::write::GzEncoder;
use flate2::{Compression, Crc};
use hypo::kernel::Kernel;
use regex::bytes::Regex;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the guest is told, and what it has to say.
struct Given {
    kernel: PathBuf,
    role: &'static str,
    /// More arguments of `hypo run`.
    arguments: Vec<String>,
    typed: Vec<u8>,
    /// The lines that it says; `None` for those that the kernel itself says natively.
    said: Option<String>,
}

struct Kind {
    name: &'static str,
    about: &'static str,
    /// Makes it of our kernel, in this folder.
    make: fn(&Path, &Path) -> Result<Given>,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "flat",
        about: "a flat binary runs as natively",
        make: |kernel, to| packed(kernel, to, flat),
    },
    Kind {
        name: "uimage",
        about: "a kernel in a U-Boot image runs as natively",
        make: |kernel, to| packed(kernel, to, |kernel| Ok(uimage(KERNEL, NONE, &flat(kernel)?))),
    },
    Kind {
        name: "uimage-gzip",
        about: "a packed kernel in a U-Boot image runs as natively",
        make: |kernel, to| packed(kernel, to, |kernel| Ok(uimage(KERNEL, GZIP, &gzip(&flat(kernel)?)?))),
    },
    Kind {
        name: "uimage-ramdisk",
        about: "of a RAM disk in a U-Boot image the guest gets the contents",
        make: uimage_ramdisk,
    },
    Kind {
        name: "huge-ramdisk",
        about: "a RAM disk of 150 MiB arrives, for a guest of 1400 MiB",
        make: huge_ramdisk,
    },
    Kind { name: "binary", about: "bytes of all values on standard input arrive as they are", make: binary },
];

/// Each run takes seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// U-Boot, include/image.h: types and compressions of images, Linux and RISC-V, and the length of the header.
const KERNEL: u8 = 2;
const RAM_DISK: u8 = 3;
const NONE: u8 = 0;
const GZIP: u8 = 1;
const LINUX: u8 = 5;
const RISCV: u8 = 26;
const HEADER: usize = 64;
/// Where our kernels lie and begin.
const LOAD: u32 = 0x8020_0000;

/// The byte of the operator's escape key, which is none on a pipe.
const ESCAPE: u8 = 0x1d;

const PAGE: u64 = 4096;
const HUGE: u64 = 150 << 20;
const EDGE: usize = 8;

/// The cases.
pub fn cases(project: &Project, hypo: &Hypo, firmware: &str) -> Vec<Case> {
    let case = |kind: &'static Kind| {
        let (kernel, hypo, firmware) = (project.bare_program("inputs"), hypo.clone(), firmware.to_owned());
        Case {
            name: format!("inputs/{}", kind.name),
            about: kind.about.into(),
            long: false,
            run: silent(move |log| run(kind, &kernel, &hypo, &firmware, log)),
        }
    };
    KINDS.iter().map(case).collect()
}

fn run(kind: &Kind, kernel: &Path, hypo: &Hypo, firmware: &str, log: &mut Vec<u8>) -> Result<()> {
    let folder = tempfile::tempdir().context("no place for files")?;
    let given = (kind.make)(kernel, folder.path())?;
    let arguments = |kernel: &Path, more: &[&str]| {
        let kernel = kernel.display().to_string();
        let append = format!("inputs={}", given.role);
        let all = ["run", "--kernel", &kernel, "--append", &append, "--firmware", firmware];
        all.iter().chain(more).map(|word| (*word).to_owned()).chain(given.arguments.iter().cloned()).collect()
    };
    let mut play = |arguments: Vec<String>| play(&arguments, &given.typed, hypo, log);
    let said = match &given.said {
        Some(said) => said.clone(),
        None => play(arguments(kernel, &["--native"]))?,
    };
    ensure!(!said.is_empty(), "the kernel itself says nothing");
    for (way, more) in [("natively", &["--native"][..]), ("as a guest", &[])] {
        let got = play(arguments(&given.kernel, more))?;
        ensure!(got == said, "{way} it said\n{got}and not\n{said}");
    }
    Ok(())
}

/// Runs it to its end; gives the lines that it says of what it has got.
fn play(arguments: &[String], typed: &[u8], hypo: &Hypo, log: &mut Vec<u8>) -> Result<String> {
    let limit = hypo.limit(LIMIT);
    let mut run = launch::start(hypo, arguments, Input::Pipe, limit)?;
    let begin = log.len();
    log.extend(format!("$ {}\n", run.shown).bytes());
    if !typed.is_empty() {
        if run.session.expect(&Regex::new("inputs: type .*")?, limit).is_err() {
            log.extend(run.session.abandon());
            return Err(anyhow!("it did not ask for typing"));
        }
        run.session.send(typed)?;
    }
    let status = run.finish(log)?;
    ensure!(status == 0, "exit status {status}");
    Ok(said(&String::from_utf8_lossy(&log[begin..])))
}

/// The lines of a guest that say what it has got.
fn said(text: &str) -> String {
    let lines = text.lines().filter(|line| line.starts_with("inputs: ") && !line.contains(": type "));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Our kernel in another form.
fn packed(kernel: &Path, to: &Path, pack: fn(&Path) -> Result<Vec<u8>>) -> Result<Given> {
    let path = to.join("kernel");
    fs::write(&path, pack(kernel)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Given { kernel: path, role: "code", arguments: Vec::new(), typed: Vec::new(), said: None })
}

fn flat(kernel: &Path) -> Result<Vec<u8>> {
    let elf = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    let kernel = Kernel::parse(elf, 1 << 30)?;
    let load = u64::from(LOAD);
    ensure!(kernel.base() == load && kernel.entry == load, "it lies elsewhere than its header says");
    Ok(kernel.flatten())
}

fn gzip(data: &[u8]) -> Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(data)?;
    Ok(packed.finish()?)
}

/// What `mkimage` writes: "Legacy format image header" and the data. All numbers are big-endian.
fn uimage(kind: u8, compression: u8, data: &[u8]) -> Vec<u8> {
    let mut header = vec![0; HEADER];
    let mut put = |at: usize, number: u32| header[at..at + 4].copy_from_slice(&number.to_be_bytes());
    put(0, 0x2705_1956);
    put(12, data.len() as u32);
    let place = if kind == KERNEL { LOAD } else { 0 };
    put(16, place);
    put(20, place);
    put(24, crc(data));
    header[28..32].copy_from_slice(&[LINUX, RISCV, kind, compression]);
    header[32..36].copy_from_slice(b"test");
    // Over the header with zeros in its place.
    let sum = crc(&header);
    header[4..8].copy_from_slice(&sum.to_be_bytes());
    [header.as_slice(), data].concat()
}

fn crc(data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(data);
    crc.sum()
}

fn uimage_ramdisk(kernel: &Path, to: &Path) -> Result<Given> {
    let data: Vec<u8> = (0..5 * PAGE + 77).map(|at| (at * at / 128) as u8).collect();
    let path = to.join("ramdisk");
    fs::write(&path, uimage(RAM_DISK, NONE, &data))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let (first, last) = (&data[..EDGE], &data[data.len() - EDGE..]);
    let pages = data.iter().step_by(PAGE as usize).copied();
    Ok(with_ramdisk(kernel, &path, disk_said(data.len() as u64, first, last, pages)))
}

fn huge_ramdisk(kernel: &Path, to: &Path) -> Result<Given> {
    let path = to.join("ramdisk");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    // Holes but for the first byte of each 64th page, and both ends.
    file.set_len(HUGE)?;
    let page = |number: u64| if number.is_multiple_of(64) { number as u8 / 64 + 1 } else { 0 };
    for number in (0..HUGE / PAGE).step_by(64) {
        file.write_all_at(&[page(number)], number * PAGE)?;
    }
    let (first, last) = (*b"\x01is here", *b"the end!");
    file.write_all_at(&first, 0)?;
    file.write_all_at(&last, HUGE - EDGE as u64)?;
    let said = disk_said(HUGE, &first, &last, (0..HUGE / PAGE).map(page));
    let mut given = with_ramdisk(kernel, &path, said);
    given.arguments.extend(["--memory", "1400M"].map(String::from));
    Ok(given)
}

fn with_ramdisk(kernel: &Path, ramdisk: &Path, said: String) -> Given {
    let arguments = vec!["--initrd".to_owned(), ramdisk.display().to_string()];
    Given { kernel: kernel.into(), role: "disk", arguments, typed: Vec::new(), said: Some(said) }
}

fn disk_said(len: u64, first: &[u8], last: &[u8], pages: impl Iterator<Item = u8>) -> String {
    format!(
        "inputs: {len} bytes, first {first:02x?}, last {last:02x?}\ninputs: sum of pages {:016x}\n",
        sum(pages)
    )
}

/// Sixteen of each value, in changing order, and the escape key alone, doubled, and before keys of the operator's.
fn binary(kernel: &Path, _: &Path) -> Result<Given> {
    let mut typed: Vec<u8> = (0..4096u32).map(|at| (at * 5 + at / 256 * 7) as u8).collect();
    let keys = [ESCAPE, ESCAPE, ESCAPE, b'x', ESCAPE, b'm', ESCAPE, b'?', ESCAPE, b'1'];
    typed[1000..1000 + keys.len()].copy_from_slice(&keys);
    let escapes = typed.iter().filter(|byte| **byte == ESCAPE).count();
    let said = format!(
        "inputs: {} bytes, {escapes} of them {ESCAPE:#x}, sum {:016x}\n",
        typed.len(),
        sum(typed.iter().copied())
    );
    Ok(Given { kernel: kernel.into(), role: "typed", arguments: Vec::new(), typed, said: Some(said) })
}

/// FNV-1a, as the guest computes it.
fn sum(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_what_mkimage_writes() {
        // mkimage -A riscv -O linux -T kernel -C none -a 0x80200000 -e 0x80200000 -n test, with SOURCE_DATE_EPOCH=0.
        let image = uimage(KERNEL, NONE, b"data");
        assert_eq!(image.len(), HEADER + 4);
        assert_eq!(image[..4], [0x27, 5, 0x19, 0x56]);
        assert_eq!(image[24..28], 0xadf3_f363_u32.to_be_bytes(), "CRC-32 of `data`");
        assert_eq!(image[28..32], [5, 26, 2, 0]);
        let mut header = image[..HEADER].to_vec();
        header[4..8].fill(0);
        assert_eq!(image[4..8], crc(&header).to_be_bytes());
    }

    #[test]
    fn only_what_was_got_is_compared() {
        let text = "$ hypo run --append inputs=typed\ninputs: type 4 bytes\nhypocaust: x\ninputs: 4 bytes\n";
        assert_eq!(said(text), "inputs: 4 bytes\n");
    }
}
