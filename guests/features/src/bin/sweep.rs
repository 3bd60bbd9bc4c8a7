//! Everything that a kernel can try of a machine, printed line by line for comparing: all CSR addresses, all of the
//! physical address space below RAM, all SBI extensions and their functions.
//!
//! What is refused in the usual way (an illegal instruction, "not supported") is not printed. The guest judges nothing:
//! `cargo xtask test` runs it natively and here, and `tests/sweep.toml` names the lines that may differ.
#![no_std]
#![no_main]

use core::arch::asm;
use core::fmt::{self, Display};
use features::exec;
use features::insn::{A0, A1, ECALL, RET, ZERO, csrrs, csrrw};
use guest_rt::isa::Interrupt::Software;
use guest_rt::isa::csr::{CsrAddr, sstatus};
use guest_rt::isa::{Exception, Width};
use guest_rt::mmio::{PLIC, RTC, UART, VIRTIO, write32};
use guest_rt::sbi::{self, NOT_SUPPORTED};
use guest_rt::trap::{Trap, catch};
use guest_rt::{access, csr_clear, csr_set, csr_write, finisher, paging, println, user};

guest_rt::entry!(main);

fn main(_hart: u64, _device_tree: u64) {
    println!("sweep begins on firmware {:#x}", sbi::call2(sbi::BASE, 2, 0, 0).value);
    registers();
    addresses();
    calls();
    println!("sweep ends");
}

/// All CSR addresses, whatever privilege they want.
const CSRS: u64 = 4096;
/// What is written to each CSR, one after the other.
const PATTERNS: [u64; 4] = [0, u64::MAX, 0xaaaa_aaaa_aaaa_aaaa, 0x5555_5555_5555_5555];

/// Which CSRs can be read, which in user mode, and what they hold of the patterns. Each piece of code is written once:
/// changing it would cost much more than running it.
fn registers() {
    csr_set!(SSTATUS, sstatus::FS | sstatus::VS);
    csr_write!(SCOUNTEREN, 7);
    let (reads, swaps, users) = (paging::frames(8), paging::frames(16), paging::frames(8));
    for csr in 0..CSRS {
        let number = csr as u32;
        exec::write(reads + 8 * csr, &[csrrs(A0, number, ZERO), RET]);
        exec::write(swaps + 16 * csr, &[csrrw(A1, number, A0), csrrw(A0, number, A1), RET]);
        exec::write(users + 8 * csr, &[csrrs(A0, number, ZERO), ECALL]);
    }
    for csr in 0..CSRS {
        let can_read = access::call(reads + 8 * csr, 0).is_ok();
        if user::call(users + 8 * csr, 0, 0).is(Exception::EcallFromUser) {
            println!("csr {csr:#x}: read in user mode");
        }
        // Half of the patterns would be another translation.
        if csr == u64::from(CsrAddr::SATP.as_u16()) {
            continue;
        }
        // What the register held is put back by the next instruction.
        let held = PATTERNS.map(|pattern| access::call(swaps + 16 * csr, pattern));
        match held {
            [Ok(zero), Ok(ones), Ok(tens), Ok(fives)] => {
                println!("csr {csr:#x}: holds {zero:#x} {ones:#x} {tens:#x} {fives:#x}");
            }
            _ if can_read => println!("csr {csr:#x}: read-only"),
            _ => {}
        }
    }
}

/// A part of the address space: from, up to, how far accesses are from each other, and where in each such step a load or a
/// store of a zero does no harm.
struct Part(u64, u64, u64, u64);

const PAGE: u64 = 0x1000;
const MIB: u64 = 1 << 20;

/// QEMU's map of `virt`, with what is between.
const PARTS: [Part; 24] = [
    Part(0, 0x1000, PAGE, 0),
    // The boot ROM.
    Part(0x1000, 0x1_0000, PAGE, 0),
    Part(0x1_0000, finisher::ADDRESS, 0x1_0000, 0),
    Part(finisher::ADDRESS, RTC, PAGE, 0),
    // CLEAR_INTERRUPT.
    Part(RTC, RTC + PAGE, PAGE, 0x1c),
    Part(RTC + PAGE, 0x11_0000, PAGE, 0),
    Part(0x11_0000, 0x200_0000, 0x1_0000, 0),
    // The CLINT, which firmware keeps for itself.
    Part(0x200_0000, 0x201_0000, PAGE, 0),
    Part(0x201_0000, 0x300_0000, 0x1_0000, 0),
    // PCI's ports.
    Part(0x300_0000, 0x301_0000, PAGE, 0),
    Part(0x301_0000, 0x400_0000, 0x1_0000, 0),
    // The platform bus.
    Part(0x400_0000, 0x600_0000, 0x1_0000, 0),
    Part(0x600_0000, PLIC, 0x1_0000, 0),
    Part(PLIC, PLIC + 0x60_0000, 0x1_0000, 0),
    Part(PLIC + 0x60_0000, UART, 0x1_0000, 0),
    // The last word of the registers.
    Part(UART, UART + PAGE, PAGE, 4),
    Part(VIRTIO, VIRTIO + 8 * PAGE, PAGE, 0),
    Part(VIRTIO + 8 * PAGE, 0x1010_0000, PAGE, 0),
    // fw_cfg.
    Part(0x1010_0000, 0x1010_1000, PAGE, 0),
    Part(0x1010_1000, 0x2000_0000, MIB, 0),
    // Flash.
    Part(0x2000_0000, 0x2400_0000, MIB, 0),
    Part(0x2400_0000, 0x3000_0000, MIB, 0),
    // PCI's configuration: the end of a function's that is not there.
    Part(0x3000_0000, 0x4000_0000, MIB, 0x8ffc),
    // PCI's memory.
    Part(0x4000_0000, 0x8000_0000, 16 * MIB, 0),
];

/// What accesses to a part came to: causes of exceptions as bits, and the highest bit for success.
#[derive(Clone, Copy, Default)]
struct Causes(u64);

impl Causes {
    const SUCCESS: u64 = 1 << 63;

    fn add(&mut self, trap: Option<Trap>) {
        self.0 |= trap.map_or(Self::SUCCESS, |trap| 1 << (trap.cause & 31));
    }
}

impl Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for cause in (0..32).filter(|cause| self.0 & 1 << cause != 0) {
            write!(f, "{separator}{cause}")?;
            separator = "/";
        }
        if self.0 & Self::SUCCESS != 0 {
            write!(f, "{separator}ok")?;
        }
        Ok(())
    }
}

/// What each kind of access comes to in each part. Fetches are made in user mode, which the first trap ends.
fn addresses() {
    let thresholds = [0, 1].map(|context| PLIC + 0x20_0000 + 0x1000 * context);
    for Part(from, to, step, offset) in PARTS {
        let [mut load, mut store, mut amo, mut lr, mut fetch] = [Causes::default(); 5];
        for start in (from..to).step_by(step as usize) {
            let address = start + offset;
            load.add(access::load(Width::Word, address).err());
            store.add(access::store(Width::Word, address, 0).err());
            amo.add(amo_or_0(address));
            lr.add(load_reserved(address));
            fetch.add(Some(user::call(start, 0, 0)));
        }
        println!(
            "map {from:#x} to {:#x}: load {load}, store {store}, amo {amo}, lr {lr}, fetch {fetch}",
            to - 1
        );
    }
    // A zero was stored there, and interrupts must stay masked.
    thresholds.iter().for_each(|threshold| write32(*threshold, 7));
}

/// AMOOR.W of 0, which changes nothing.
fn amo_or_0(address: u64) -> Option<Trap> {
    // SAFETY: a register or nothing, at an address where it does no harm; no object of Rust's lies there.
    catch(|| unsafe { asm!("amoor.w zero, zero, ({})", in(reg) address, options(nostack)) })
}

/// LR.W.
fn load_reserved(address: u64) -> Option<Trap> {
    // SAFETY: as above.
    catch(|| unsafe { asm!("lr.w {0}, ({1})", out(reg) _, in(reg) address, options(nostack)) })
}

/// Extensions that the SBI specification, or OpenSBI, knows beside the legacy ones, and the first of each range.
const EXTENSIONS: [u64; 21] = [
    sbi::BASE,
    sbi::TIME,
    sbi::IPI,
    sbi::RFENCE,
    sbi::HSM,
    sbi::SRST,
    sbi::DBCN,
    sbi::STA,
    // PMU, SUSP, NACL, CPPC, SSE, FWFT, DBTR, MPXY.
    0x50_4d55,
    0x5355_5350,
    0x4e41_434c,
    0x4350_5043,
    0x53_5345,
    0x4657_4654,
    0x4442_5452,
    0x4d50_5859,
    // Experimental, vendors', the firmware's own.
    0x0800_0000,
    0x0900_0000,
    0x0a00_0000,
    0x0a00_0001,
    u64::MAX,
];
/// Suspend types that nobody has, at the borders of their ranges.
const SUSPEND_TYPES: [u64; 7] =
    [1, 0x0fff_ffff, 0x1000_0000, 0x7fff_ffff, 0x8000_0001, 0x9000_0000, 0xffff_ffff];
/// Reset types that nobody has, and one that there is for a reason that there is not.
const RESETS: [(u64, u64); 5] = [(3, 0), (0xefff_ffff, 0), (0xf000_0000, 0), (0xffff_ffff, 0), (0, 2)];

/// Errors of all functions, with arguments that do no harm.
fn calls() {
    // The legacy ones have no functions, and 0 to 8 are known. 8 ends the machine.
    for extension in (0..16).filter(|extension| *extension != 8) {
        let argument = match extension {
            0 => u64::MAX,
            1 => b'\n'.into(),
            _ => 0,
        };
        answer(format_args!("legacy {extension}"), sbi::call2(extension, 0, argument, 0).error);
    }
    for extension in EXTENSIONS.iter().flat_map(|id| [id.wrapping_sub(1), *id, id.wrapping_add(1)]) {
        if extension < 16 {
            continue;
        }
        if sbi::call2(sbi::BASE, 3, extension, 0).value != 0 {
            println!("sbi {extension:#x}: there");
        }
        for function in 0..32 {
            let argument = match (extension, function) {
                // hart_stop does not return; hart_suspend is tried below.
                (sbi::HSM, 1 | 3) => continue,
                // Prints.
                (sbi::DBCN, 2) => b'\n'.into(),
                _ => u64::MAX,
            };
            let error = sbi::call(extension, function, [argument; 6]).error;
            answer(format_args!("{extension:#x} function {function}"), error);
        }
    }
    for kind in SUSPEND_TYPES {
        let error = sbi::call2(sbi::HSM, 3, kind, 0).error;
        println!("sbi suspend type {kind:#x}: {error}");
    }
    for (kind, reason) in RESETS {
        let error = sbi::system_reset(kind, reason).error;
        println!("sbi reset type {kind:#x}, reason {reason:#x}: {error}");
    }
    // One went to this hart.
    csr_clear!(SIP, Software.mask());
}

fn answer(name: impl Display, error: i64) {
    if error != NOT_SUPPORTED {
        println!("sbi {name}: {error}");
    }
}
