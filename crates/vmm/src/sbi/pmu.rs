//! Performance Monitoring Unit extension. SBI spec, "Performance Monitoring Unit Extension". What is counted is the
//! business of `crate::pmu`.

use isa::csr::CsrAddr;
use memory::{GuestPhysAddr, PAGE_SIZE};
use trace::ExitKind;

use super::call::{SbiCall, SbiError, SbiResult};
use super::masks::bits;
use crate::machine::Machine;
use crate::pmu::{COUNTERS, CYCLE, Event, FirmwareEvent, INSTRET, Pmu};
use crate::vcpu::Vcpu;

/// `counter_get_info`: the type of a firmware counter, and the width of any counter, less one. Linux goes by the width of
/// firmware counters, too, for which the specification leaves it open.
const INFO_FIRMWARE: u64 = 1 << 63;
const INFO_WIDTH: u64 = 63 << 12;

/// `counter_config_matching`'s flags. The others ask not to count in some modes, which is a hint.
const CONFIG_SKIP_MATCH: u64 = 1 << 0;
const CONFIG_CLEAR_VALUE: u64 = 1 << 1;
const CONFIG_AUTO_START: u64 = 1 << 2;
const CONFIG_FLAGS: u64 = 0xff;
/// `counter_start`'s flags.
const START_SET_VALUE: u64 = 1 << 0;
const START_FROM_SNAPSHOT: u64 = 1 << 1;
/// `counter_stop`'s flags.
const STOP_RESET: u64 = 1 << 0;
const STOP_TAKE_SNAPSHOT: u64 = 1 << 1;

/// Where the counters' values are in the snapshot's page; in front of them is a bit for each that has overflowed, of
/// which none does.
const SNAPSHOT_VALUES: u64 = 8;

pub(super) fn call<H>(call: SbiCall, machine: &Machine, vcpu: &mut Vcpu, _: &mut H) -> SbiResult {
    let [first, second, third, fourth, fifth, _] = call.args;
    match call.function {
        0 => Ok(COUNTERS as u64),
        1 => info(first),
        2 => configure(vcpu, select(first, second)?, third, event(fourth, fifth)),
        3 => start(machine, vcpu, select(first, second)?, third, fourth),
        4 => stop(machine, vcpu, select(first, second)?, third),
        5 => read_firmware(vcpu, first),
        // The upper half of a 64-bit value on a 32-bit hart.
        6 => read_firmware(vcpu, first).map(|_| 0),
        7 => set_snapshot(machine, vcpu, call.args),
        _ => Err(SbiError::NotSupported),
    }
}

/// Counters that a call is for.
#[derive(Clone, Copy)]
struct Selection {
    base: usize,
    mask: u64,
}

impl Selection {
    /// The counters' numbers, each with its place in the snapshot.
    fn counters(self) -> impl Iterator<Item = (usize, usize)> {
        bits(self.mask).map(move |place| (self.base + place, place))
    }
}

/// The counters that a base and a mask select.
///
/// # Errors
/// `InvalidParam` where one of them does not exist.
fn select(base: u64, mask: u64) -> Result<Selection, SbiError> {
    let base = usize::try_from(base).ok().filter(|base| *base < COUNTERS).ok_or(SbiError::InvalidParam)?;
    let selection = Selection { base, mask };
    // A mask may name the counter that is none, as Linux's does when it stops all of them.
    let exist = selection.counters().all(|(counter, _)| counter < COUNTERS);
    exist.then_some(selection).ok_or(SbiError::InvalidParam)
}

fn info(counter: u64) -> SbiResult {
    match usize::try_from(counter) {
        Ok(CYCLE) => Ok(INFO_WIDTH | u64::from(CsrAddr::CYCLE.as_u16())),
        Ok(INSTRET) => Ok(INFO_WIDTH | u64::from(CsrAddr::INSTRET.as_u16())),
        Ok(counter) if Pmu::exists(counter) => Ok(INFO_FIRMWARE | INFO_WIDTH),
        _ => Err(SbiError::InvalidParam),
    }
}

/// The event with this index; `None` where it cannot be counted. SBI spec, "Event Encodings".
fn event(index: u64, data: u64) -> Option<Event> {
    const HARDWARE: u64 = 0;
    const FIRMWARE: u64 = 15;
    const PLATFORM: u64 = 0xffff;
    let (kind, code) = (index >> 16, index & 0xffff);
    match (kind, code) {
        (HARDWARE, 1) => Some(Event::Cycles),
        (HARDWARE, 2) => Some(Event::Instructions),
        (FIRMWARE, PLATFORM) => {
            let kind = usize::try_from(data).ok().and_then(|place| ExitKind::ALL.get(place).copied())?;
            Some(Event::Exits(kind)).filter(|event| event.is_own())
        }
        (FIRMWARE, code) => FirmwareEvent::from_code(code).map(Event::Firmware),
        _ => None,
    }
}

/// Finds a counter for an event, and gives its number.
fn configure(vcpu: &mut Vcpu, selection: Selection, flags: u64, event: Option<Event>) -> SbiResult {
    if flags & !CONFIG_FLAGS != 0 {
        return Err(SbiError::InvalidParam);
    }
    let pmu = &mut vcpu.pmu;
    let mut counters = selection.counters().map(|(counter, _)| counter);
    let counter = if flags & CONFIG_SKIP_MATCH != 0 {
        // The caller knows which counter it has, and what that counts.
        counters.next().filter(|counter| pmu.event(*counter).is_some()).ok_or(SbiError::InvalidParam)?
    } else {
        let event = event.ok_or(SbiError::NotSupported)?;
        let free = |counter: &usize| Pmu::fits(*counter, event) && pmu.event(*counter).is_none();
        let counter = counters.find(free).ok_or(SbiError::NotSupported)?;
        pmu.configure(counter, event);
        counter
    };
    if flags & CONFIG_CLEAR_VALUE != 0 && !pmu.is_running(counter) {
        pmu.set(counter, 0);
    }
    if flags & CONFIG_AUTO_START != 0 && !pmu.is_running(counter) {
        pmu.start(counter, &vcpu.exits);
    }
    vcpu.virtualise_counters();
    Ok(counter as u64)
}

fn start(machine: &Machine, vcpu: &mut Vcpu, selection: Selection, flags: u64, value: u64) -> SbiResult {
    if flags & !(START_SET_VALUE | START_FROM_SNAPSHOT) != 0 {
        return Err(SbiError::InvalidParam);
    }
    let snapshot = match flags & START_FROM_SNAPSHOT {
        0 => None,
        _ => Some(vcpu.pmu_snapshot.ok_or(SbiError::NoSharedMemory)?),
    };
    let mut result = Err(SbiError::InvalidParam);
    // Those without an event are passed over, as by OpenSBI.
    for (counter, place) in selection.counters() {
        if vcpu.pmu.event(counter).is_none() {
            continue;
        }
        if vcpu.pmu.is_running(counter) {
            result = result.or(Err(SbiError::AlreadyStarted));
            continue;
        }
        if let Some(page) = snapshot {
            let kept = machine.ram.read_word(value_in(page, place));
            vcpu.pmu.set(counter, kept.ok_or(SbiError::InvalidAddress)?);
        } else if flags & START_SET_VALUE != 0 {
            vcpu.pmu.set(counter, value);
        }
        vcpu.pmu.start(counter, &vcpu.exits);
        result = Ok(0);
    }
    result
}

fn stop(machine: &Machine, vcpu: &mut Vcpu, selection: Selection, flags: u64) -> SbiResult {
    if flags & !(STOP_RESET | STOP_TAKE_SNAPSHOT) != 0 {
        return Err(SbiError::InvalidParam);
    }
    let snapshot = match flags & STOP_TAKE_SNAPSHOT {
        0 => None,
        _ => Some(vcpu.pmu_snapshot.ok_or(SbiError::NoSharedMemory)?),
    };
    let mut stopped = false;
    for (counter, _) in selection.counters() {
        stopped |= vcpu.pmu.is_running(counter);
        vcpu.pmu.stop(counter, &vcpu.exits);
    }
    if let Some(page) = snapshot {
        machine.ram.write_word(page, 0).map_err(|_| SbiError::InvalidAddress)?;
        for (counter, place) in selection.counters() {
            let value = vcpu.pmu.value(counter, &vcpu.exits).unwrap_or(0);
            machine.ram.write_word(value_in(page, place), value).map_err(|_| SbiError::InvalidAddress)?;
        }
    }
    if flags & STOP_RESET != 0 {
        selection.counters().for_each(|(counter, _)| vcpu.pmu.release(counter));
        vcpu.virtualise_counters();
    }
    if stopped { Ok(0) } else { Err(SbiError::AlreadyStopped) }
}

fn read_firmware(vcpu: &Vcpu, counter: u64) -> SbiResult {
    let counter = usize::try_from(counter).map_err(|_| SbiError::InvalidParam)?;
    let is_firmware = matches!(vcpu.pmu.event(counter), Some(Event::Firmware(_) | Event::Exits(_)));
    let value = vcpu.pmu.value(counter, &vcpu.exits).filter(|_| is_firmware);
    value.ok_or(SbiError::InvalidParam)
}

fn set_snapshot(machine: &Machine, vcpu: &mut Vcpu, args: [u64; 6]) -> SbiResult {
    let [low, high, flags, ..] = args;
    if flags != 0 {
        return Err(SbiError::InvalidParam);
    }
    if (low, high) == (u64::MAX, u64::MAX) {
        vcpu.pmu_snapshot = None;
        return Ok(0);
    }
    let page = GuestPhysAddr(low);
    if !page.is_aligned(PAGE_SIZE) {
        return Err(SbiError::InvalidParam);
    }
    if high != 0 {
        return Err(SbiError::InvalidAddress);
    }
    machine.ram.write(page, &[0; PAGE_SIZE as usize]).map_err(|_| SbiError::InvalidAddress)?;
    vcpu.pmu_snapshot = Some(page);
    Ok(0)
}

/// Where a counter's value is in the snapshot.
fn value_in(page: GuestPhysAddr, place: usize) -> GuestPhysAddr {
    page.wrapping_add(SNAPSHOT_VALUES + 8 * place as u64)
}
