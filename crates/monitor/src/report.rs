//! What the monitor's commands answer, made of plain data. Each row fits into 80 columns where names are short.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use isa::{Exception, Interrupt};
use memory::GuestPhysAddr;
use trace::Event;

use crate::command::{COMMANDS, Entry};
use crate::control::{Disk, Exits, Guest, HostFacts, Switch};
use crate::text::{Side, Table, duration, grouped, rate, share, size};

/// What cannot be said yet.
const NOTHING: &str = "-";

/// The answer to `help`.
pub fn help(entry: Option<&Entry>) -> String {
    if let Some(entry) = entry {
        return format!("{}: {}\n", entry.usage(), entry.help);
    }
    let mut table = Table::new(&[("COMMAND", Side::Left), ("WHAT IT DOES", Side::Left)]);
    COMMANDS.iter().for_each(|entry| table.row([entry.usage(), entry.help.to_string()]));
    format!(
        "{table}The beginning of a command or a NAME is enough where it is unambiguous.\n\
         A [NAME] that is left out is the guest shown last. Tab completes; Ctrl-] and ?\n\
         tell the keys that lead to the guests' consoles.\n"
    )
}

/// The answer to `vms`. `rates` has each guest's exits per second.
pub fn vms(guests: &[Guest], shown: usize, rates: &[Option<u64>]) -> String {
    let mut table = Table::new(&[
        ("#", Side::Right),
        ("NAME", Side::Left),
        ("STATE", Side::Left),
        ("VCPUS", Side::Right),
        ("VCPU TIME", Side::Right),
        ("MEMORY", Side::Right),
        ("RESTARTS", Side::Right),
        ("EXITS/S", Side::Right),
    ]);
    for (n, (guest, rate)) in guests.iter().zip(rates).enumerate() {
        let mark = if n == shown { "*" } else { "" };
        table.row([
            format!("{mark}{}", n + 1),
            guest.name.clone(),
            guest.state.name().to_string(),
            guest.vcpus.to_string(),
            duration(guest.vcpu_time),
            size(guest.memory),
            grouped(guest.restarts),
            rate.map_or(NOTHING.to_string(), grouped),
        ]);
    }
    table.to_string()
}

/// The answer to `stat`. `before` has the counts of the last time, `elapsed` nanoseconds ago.
pub fn stat(name: &str, exits: &Exits, before: &[(&'static str, u64)], elapsed: u64) -> String {
    let count: u64 = exits.kinds.iter().map(|kind| kind.count).fold(0, u64::saturating_add);
    let cost: u64 = exits.kinds.iter().map(|kind| kind.cost).fold(0, u64::saturating_add);
    let mut kinds: Vec<_> = exits.kinds.iter().filter(|kind| kind.count > 0).collect();
    kinds.sort_by_key(|kind| core::cmp::Reverse((kind.cost, kind.count)));
    let mut table = Table::new(&[
        ("EXIT", Side::Left),
        ("COUNT", Side::Right),
        ("SHARE", Side::Right),
        ("PER SECOND", Side::Right),
        ("COST EACH", Side::Right),
        ("OF ALL COST", Side::Right),
    ]);
    let costs = |text: String| if exits.unit.is_empty() { NOTHING.to_string() } else { text };
    for kind in kinds {
        let old = before.iter().find(|(name, _)| *name == kind.name).map_or(0, |(_, count)| *count);
        let new = kind.count.saturating_sub(old);
        table.row([
            kind.name.to_string(),
            grouped(kind.count),
            share(kind.count, count),
            rate(new, elapsed).map_or(NOTHING.to_string(), grouped),
            costs(grouped(kind.cost.checked_div(kind.count).unwrap_or(0))),
            costs(share(kind.cost, cost)),
        ]);
    }
    let took =
        if exits.unit.is_empty() { String::new() } else { format!(" in {} {}", grouped(cost), exits.unit) };
    let fast = grouped(exits.fast);
    let mut text = format!("{name}: {} exits{took}, and {fast} served in assembly\n{table}", grouped(count));
    let others: Vec<_> =
        exits.others.iter().map(|(name, count)| format!("{name} {}", grouped(*count))).collect();
    let _ = writeln!(text, "Beside them: {}", others.join(", "));
    text
}

/// The answer to `trace`.
pub fn trace(name: &str, events: &[Event]) -> String {
    if events.is_empty() {
        return format!("{name} has not left yet\n");
    }
    let mut table = Table::new(&[("PC", Side::Left), ("STVAL", Side::Left), ("CAUSE", Side::Left)]);
    for event in events {
        table.row([format!("{:#018x}", event.pc), format!("{:#018x}", event.value), cause(event.cause)]);
    }
    format!("{name}: the last exits that Rust has served, the latest last\n{table}")
}

/// scause, in words.
fn cause(scause: u64) -> String {
    if scause & Interrupt::CAUSE_BIT != 0 {
        let interrupt = Interrupt::BY_PRIORITY.into_iter().find(|interrupt| interrupt.cause() == scause);
        return match interrupt {
            Some(Interrupt::Timer) => "timer interrupt".to_string(),
            Some(Interrupt::External) => "external interrupt".to_string(),
            Some(Interrupt::Software) => "software interrupt".to_string(),
            None => format!("interrupt {}", scause & !Interrupt::CAUSE_BIT),
        };
    }
    let name = match Exception::from_code(scause) {
        Some(Exception::InstructionAddressMisaligned) => "instruction address misaligned",
        Some(Exception::InstructionAccessFault) => "instruction access fault",
        Some(Exception::IllegalInstruction) => "illegal instruction",
        Some(Exception::Breakpoint) => "breakpoint",
        Some(Exception::LoadAddressMisaligned) => "load address misaligned",
        Some(Exception::LoadAccessFault) => "load access fault",
        Some(Exception::StoreAddressMisaligned) => "store address misaligned",
        Some(Exception::StoreAccessFault) => "store access fault",
        // All guests run in the real U-mode.
        Some(Exception::EcallFromUser) => "ecall",
        Some(Exception::EcallFromSupervisor) => "ecall from S-mode",
        Some(Exception::InstructionPageFault) => "instruction page fault",
        Some(Exception::LoadPageFault) => "load page fault",
        Some(Exception::StorePageFault) => "store page fault",
        None => return format!("exception {scause}"),
    };
    name.to_string()
}

/// The answer to `mem`: 16 bytes a line, and what of them is printable.
pub fn memory(address: GuestPhysAddr, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (n, line) in bytes.chunks(16).enumerate() {
        let _ = write!(text, "{:#012x} ", address.0.wrapping_add(16 * n as u64));
        for place in 0..16 {
            let gap = if place == 8 { " " } else { "" };
            let _ = match line.get(place) {
                Some(byte) => write!(text, "{gap} {byte:02x}"),
                None => write!(text, "{gap}   "),
            };
        }
        text.push_str("  ");
        let is_shown = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        text.extend(line.iter().map(|byte| if is_shown(*byte) { char::from(*byte) } else { '.' }));
        text.push('\n');
    }
    text
}

/// The answer to `net`.
pub fn net(switches: &[Switch]) -> String {
    if switches.is_empty() {
        return "there are no switches; the manifest makes them with [[switch]]\n".to_string();
    }
    let mut table = Table::new(&[
        ("SWITCH", Side::Left),
        ("PORT", Side::Left),
        ("MAC", Side::Left),
        ("SENT", Side::Right),
        ("BYTES", Side::Right),
        ("RECEIVED", Side::Right),
        ("BYTES", Side::Right),
        ("DROPPED", Side::Right),
    ]);
    for switch in switches {
        for port in &switch.ports {
            let mac = port.mac.map(|byte| format!("{byte:02x}")).join(":");
            table.row([switch.name.clone(), port.owner.clone(), mac].into_iter().chain(
                [port.sent, port.sent_bytes, port.received, port.received_bytes, port.dropped].map(grouped),
            ));
        }
    }
    table.to_string()
}

/// The answer to `disk`.
pub fn disk(disks: &[Disk]) -> String {
    if disks.is_empty() {
        return "there are no disks; the manifest gives them to guests with [[vm.disk]]\n".to_string();
    }
    let mut table = Table::new(&[
        ("GUEST", Side::Left),
        ("DISK", Side::Left),
        ("SIZE", Side::Right),
        ("MODE", Side::Left),
        ("READ", Side::Right),
        ("WRITTEN", Side::Right),
        ("FLUSHES", Side::Right),
        ("ERRORS", Side::Right),
    ]);
    for disk in disks {
        let (source, mode) = (disk.source.clone(), disk.mode.to_string());
        let [read, written, flushes, errors] =
            [disk.read, disk.written, disk.flushes, disk.errors].map(grouped);
        table.row([disk.guest.clone(), source, size(disk.size), mode, read, written, flushes, errors]);
    }
    table.to_string()
}

/// The answer to `host`, `now` nanoseconds after the start.
pub fn host(host: &HostFacts, now: u64) -> String {
    let rest = now.saturating_sub(host.guest_time).saturating_sub(host.idle_time);
    let time = format!(
        "{}: guests {}, idle {}, hypervisor {}",
        duration(now),
        share(host.guest_time, now),
        share(host.idle_time, now),
        share(rest, now)
    );
    let facts = host.facts.iter().map(|(name, fact)| (*name, fact.as_str())).chain([("time", time.as_str())]);
    let width = facts.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts.fold(String::new(), |mut text, (name, fact)| {
        let _ = writeln!(text, "{name:<width$}  {fact}");
        text
    })
}

#[cfg(test)]
mod tests;
