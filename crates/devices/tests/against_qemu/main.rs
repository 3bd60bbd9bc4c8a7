//! The same accesses to our board and to QEMU's `virt`, which is driven through its test protocol: no guest
//! runs, and time stands still.
//!
//! Left out, because we differ on purpose: what the PLIC does at completion, and the version of an empty
//! virtio slot. Time-outs, alarms and which accesses fault do not show in this way; the unit tests hold those.
//! Virtio devices are in `virtio`.
//!
//! Built with the feature `qemu` only, as `cargo xtask test` does once QEMU is there. By themselves:
//! `cargo test -p devices --features qemu --test against_qemu`.

mod virtio;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use devices::{Board, BoardTime};
use isa::Width;
use memory::GuestPhysAddr;
use proptest::prelude::*;

const UART: u64 = 0x1000_0000;
const PLIC: u64 = 0x0c00_0000;
const RTC: u64 = 0x0010_1000;
const CLAIM: u64 = PLIC + 0x20_1004;

/// What both clocks show: 2023-11-14T22:13:20.
const WALL: u64 = 1_700_000_000_000_000_000;

/// A QEMU that waits for commands. It kills itself after a minute.
struct Qemu {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Qemu {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(arguments: &[&str]) -> Self {
        let mut child = Command::new("timeout")
            .args(["60", "qemu-system-riscv64", "-machine", "virt", "-S", "-qtest", "stdio"])
            .args(["-rtc", "base=2023-11-14T22:13:20,clock=vm"])
            .args(["-bios", "none", "-nodefaults", "-display", "none", "-serial", "null"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("qemu-system-riscv64 and timeout are installed");
        let commands = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, commands, answers }
    }

    /// Sends one command and gives back what follows the answer's `OK`.
    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").expect("QEMU is listening");
        let mut line = String::new();
        assert_ne!(self.answers.read_line(&mut line).expect("QEMU answers"), 0, "QEMU is gone");
        let answer = line.strip_prefix("OK").unwrap_or_else(|| panic!("{command}: {line}"));
        answer.trim().to_owned()
    }

    fn read(&mut self, address: u64, width: Width) -> u64 {
        let answer = self.ask(&format!("read{} {address:#x}", letter(width)));
        let digits = answer.strip_prefix("0x").expect("a hexadecimal number");
        u64::from_str_radix(digits, 16).expect("a hexadecimal number")
    }

    fn write(&mut self, address: u64, width: Width, value: u64) {
        self.ask(&format!("write{} {address:#x} {value:#x}", letter(width)));
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // `timeout` passes this on; killed outright, it would leave QEMU behind. It may be gone already.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

const fn letter(width: Width) -> char {
    match width {
        Width::Byte => 'b',
        Width::Half => 'w',
        Width::Word => 'l',
        Width::Double => 'q',
    }
}

/// One thing done to both.
#[derive(Clone, Debug)]
enum Step {
    Read(u64, Width),
    Write(u64, Width, u64),
}

/// Runs `steps` on both; every read must agree.
fn compare(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut qemu = Qemu::start();
    let mut board = Board::new(1, WALL, Vec::new());
    let now = BoardTime(0);
    for (index, step) in steps.iter().enumerate() {
        match *step {
            Step::Read(address, width) => {
                let ours = board.read(GuestPhysAddr(address), width, now).map(|loaded| loaded.value);
                let theirs = qemu.read(address, width);
                prop_assert_eq!(ours, Ok(theirs), "step {}: {:?}", index, step);
            }
            Step::Write(address, width, value) => {
                let ours = board.write(GuestPhysAddr(address), width, value, now);
                prop_assert_eq!(ours, Ok(None), "step {}: {:?}", index, step);
                board.uart_transmitted(usize::MAX);
                qemu.write(address, width, value);
            }
        }
    }
    Ok(())
}

fn write_uart(offset: u64, value: impl Strategy<Value = u64>) -> impl Strategy<Value = Step> {
    value.prop_map(move |value| Step::Write(UART + offset, Width::Byte, value))
}

fn uart_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..8u64).prop_map(|offset| Step::Read(UART + offset, Width::Byte)),
        1 => Just(Step::Read(UART + 4, Width::Word)),
        6 => write_uart(0, 0..256u64),
        3 => write_uart(1, 0..16u64),
        2 => write_uart(2, prop::sample::select(vec![0, 1, 0x41, 0x81, 0xc1, 0x83, 0x85, 0x87, 0xff])),
        1 => write_uart(3, prop::sample::select(vec![0x03, 0x03, 0x1f, 0x83])),
        2 => write_uart(4, prop::sample::select(vec![0x10, 0x1a, 0x1f, 0x0b])),
        1 => (5..8u64, 0..256u64).prop_map(|(offset, v)| Step::Write(UART + offset, Width::Byte, v)),
    ]
}

fn rtc_step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![Just(WALL >> 32), any::<u32>().prop_map(u64::from), 0..2u64];
    prop_oneof![
        4 => (0..9u64).prop_map(|word| Step::Read(RTC + 4 * word, Width::Word)),
        1 => (0..4u64).prop_map(|double| Step::Read(RTC + 8 * double, Width::Double)),
        3 => (0..9u64, value).prop_map(|(word, value)| Step::Write(RTC + 4 * word, Width::Word, value)),
        1 => (0..4u64, 0..WALL).prop_map(|(double, v)| Step::Write(RTC + 8 * double, Width::Double, v)),
    ]
}

/// The PLIC's registers, apart from claims, completions and the enable bits of a source that QEMU 7.2 has no
/// room for.
fn plic_step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![
        0..0x200u64,
        0x1000..0x1020u64,
        (0..4u64, 0..12u64).prop_map(|(context, byte)| 0x2000 + 0x80 * context + byte),
        (0..4u64).prop_map(|context| 0x20_0000 + 0x1000 * context),
        0x20_0008..0x60_0000u64,
    ];
    let offset =
        offset.prop_map(|offset| offset & !3).prop_filter("claims", |o| *o < 0x20_0000 || o % 0x1000 != 4);
    (offset, prop::option::of(any::<u32>())).prop_map(|(offset, value)| match value {
        Some(value) => Step::Write(PLIC + offset, Width::Word, value.into()),
        None => Step::Read(PLIC + offset, Width::Word),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn the_uart_reads_as_on_qemu(steps in prop::collection::vec(uart_step(), 300)) {
        compare(&steps)?;
    }

    #[test]
    fn the_rtc_reads_as_on_qemu(steps in prop::collection::vec(rtc_step(), 200)) {
        compare(&steps)?;
    }

    #[test]
    fn the_plic_registers_read_as_on_qemu(steps in prop::collection::vec(plic_step(), 300)) {
        compare(&steps)?;
    }
}

/// Reads of the PLIC and the UART while interrupts of the UART come, are claimed and completed.
#[test]
fn an_interrupt_goes_its_way_as_on_qemu() {
    use Step::{Read, Write};
    let write_byte = |offset, value| Write(UART + offset, Width::Byte, value);
    let pending = Read(PLIC + 0x1000, Width::Word);
    let claim = Read(CLAIM, Width::Word);
    let complete = Write(CLAIM, Width::Word, 10);
    let steps = [
        // Priority 3, enabled, FIFOs with a trigger of 8, loopback, all interrupts.
        Write(PLIC + 40, Width::Word, 3),
        Write(PLIC + 0x2080, Width::Word, 1 << 10),
        write_byte(2, 0x81),
        write_byte(4, 0x10),
        pending.clone(),
        write_byte(1, 0x0f),
        // The transmit interrupt, which pends although IIR has been read.
        pending.clone(),
        Read(UART + 2, Width::Byte),
        pending.clone(),
        claim.clone(),
        claim.clone(),
        pending.clone(),
        complete.clone(),
        pending.clone(),
        // A byte comes round; the transmitter is empty again.
        write_byte(0, 0x41),
        pending.clone(),
        claim.clone(),
        Read(UART + 2, Width::Byte),
        Read(UART + 2, Width::Byte),
        complete.clone(),
        pending.clone(),
        Read(UART, Width::Byte),
        complete,
        pending,
        claim,
    ];
    if let Err(error) = compare(&steps) {
        panic!("{error}");
    }
}
