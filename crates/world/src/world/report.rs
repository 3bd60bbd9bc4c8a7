//! What the operator is told of a guest: how it ended, how often it left, by kind, and where it stood. Changes nothing but
//! counts. How much is said about a guest that ends again and again is bounded; what is left out is counted, and told.

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};

use lifecycle::End;
use vmm::complaints::PER_SECOND;
use vmm::{Host, StopReason};

use super::World;
use super::lives::NotChanged;
use crate::hart::Hart;
use crate::host::Level;
use crate::port::Platform;

impl<P: Platform> World<P> {
    /// Tells the operator something about a guest, where the log level lets it, unless too much was said about it already.
    pub(super) fn say_about(&mut self, number: usize, level: Level, message: fmt::Arguments) {
        if level as u8 > self.host.log_level() {
            return;
        }
        let text = format!("{message}");
        let (lines, now) = (text.lines().count() as u64, self.host.now());
        let Some(guest) = self.guests.get_mut(number) else { return };
        if !guest.is_last {
            if !self.host.console.has_room() {
                return guest.allowance.leave_out(lines, now);
            }
            if !guest.allowance.take(lines, now) {
                return;
            }
        }
        self.tell_what_was_left_out(number);
        self.host.say(level, format_args!("{text}"));
    }

    /// Tells what was left out about a guest, if it is time.
    pub(super) fn tell_what_is_due(&mut self, number: usize) {
        let (now, has_room) = (self.host.now(), self.host.console.has_room());
        let Some(guest) = self.guests.get_mut(number) else { return };
        if guest.allowance.deadline() > now {
            return;
        }
        if has_room {
            self.tell_what_was_left_out(number);
        } else {
            guest.allowance.postpone(now);
        }
    }

    /// Tells what was left out about a guest.
    pub fn tell_what_was_left_out(&mut self, number: usize) {
        let Some(guest) = self.guests.get_mut(number) else { return };
        let count = guest.allowance.take_left_out();
        if count > 0 {
            let name = &guest.vm.name;
            self.host.say(Level::Error, format_args!("{count} more lines about guest `{name}` left out"));
        }
    }

    /// Tells how a guest ended, if it did so by itself and that was not told.
    pub(super) fn tell_end(&mut self, hart: &mut Hart<P>, number: usize) {
        let Some(guest) = self.guests.get_mut(number) else { return };
        let Some(reason) = guest.ended.filter(|_| !core::mem::replace(&mut guest.is_told, true)) else {
            return;
        };
        guest.status = guest.status_after(reason);
        self.report_exits(hart, number);
        let Some(guest) = self.guests.get(number) else { return };
        let name = guest.vm.name.clone();
        if matches!(reason, StopReason::Fatal(_)) {
            self.say_about(number, Level::Error, format_args!("guest `{name}` was stopped: {reason}"));
            self.report_registers(number);
        } else {
            self.say_about(number, Level::Info, format_args!("guest `{name}` {reason}"));
        }
    }

    /// Tells that a guest was held back for what it makes the firmware print, if it was just now.
    pub fn tell_of_complaints(&mut self, number: usize) {
        let Some(guest) = self.guests.get(number) else { return };
        if !guest.vm.machine.complaints.take_news() {
            return;
        }
        let name = guest.vm.name.clone();
        self.say_about(
            number,
            Level::Warning,
            format_args!(
                "guest `{name}` executes instructions for which the firmware prints a line each; \
                 it is held back to {PER_SECOND} of them a second"
            ),
        );
    }

    pub(super) fn tell_of_refusal(&mut self, number: usize, why: NotChanged) {
        if let Some(guest) = self.guests.get(number) {
            let name = guest.vm.name.clone();
            self.say_about(number, Level::Error, format_args!("guest `{name}` does not start again: {why}"));
        }
    }

    pub(super) fn tell_of_busy_disk(&mut self, number: usize, end: End) {
        let Some(guest) = self.guests.get(number) else { return };
        let name = guest.vm.name.clone();
        let what = if end == End::Stuck { "does not start again" } else { "is stopped" };
        let message = format_args!(
            "guest `{name}` {what}: a disk of the host's does not answer, and may still write to its memory"
        );
        self.say_about(number, Level::Error, message);
    }

    /// Keeps what the console has not taken of a guest's last output, as far as it is at hand, and tells that.
    pub(super) fn keep_output(&mut self, number: usize) {
        let Some(guest) = self.guests.get(number) else { return };
        let name = guest.vm.name.clone();
        let count = guest.vm.machine.with_board(|board| {
            let pending = board.uart_transmit_pending();
            let count = pending.len();
            self.host.console.keep(number, pending);
            board.uart_transmitted(count);
            count
        });
        let message = format_args!(
            "guest `{name}`: the console took no more; {count} bytes were kept, what its virtio console had is lost"
        );
        self.say_about(number, Level::Error, message);
    }

    /// Prints how often a guest left, by kind, and how often what else happened.
    fn report_exits(&mut self, hart: &mut Hart<P>, number: usize) {
        if hart.current == Some(number) {
            self.count_for(hart, number);
        }
        let Some(guest) = self.guests.get(number) else { return };
        if (Level::Counters as u8) > self.host.log_level() {
            return;
        }
        let counts = guest.counts;
        let mut text = String::new();
        for vcpu in &guest.vm.vcpus {
            text.push_str("exits");
            for (kind, count) in vcpu.exits.iter() {
                let _ = write!(text, " {}={count}", kind.name());
            }
            let code = guest.vm.machine.code.lock().counts();
            let _ = write!(text, " shadow-fills={} code-copies={}", vcpu.caches.shadow.fills, code.copies);
            let _ = write!(text, " code-sites={} code-copies-ended={}", code.sites, code.ended);
            let _ = write!(text, " fast-exits={} slow-exits={}", vcpu.frame.fast_exits, counts.runs);
            let _ = write!(text, " site-misses={}", vcpu.site_misses);
            let _ = write!(text, " tlb-flushes-all={}", counts.flushes_all);
            let _ = write!(text, " tlb-flushes-address={}", counts.flushes_address);
            let _ = write!(text, " tlb-flushes-switch={}", vcpu.frame.switch_flushes);
            if self.probes.are_on() {
                let (name, executed, fast) = (&guest.vm.name, guest.executed, vcpu.frame.fast_exits);
                let _ = write!(
                    text,
                    "\nhypocaust: guest `{name}` executed {executed} cycles in {} runs with {fast} exits in assembly",
                    counts.runs
                );
            }
        }
        self.say_about(number, Level::Counters, format_args!("{text}"));
    }

    fn report_registers(&mut self, number: usize) {
        let Some(guest) = self.guests.get(number) else { return };
        let mut text = String::new();
        for vcpu in &guest.vm.vcpus {
            let (id, privilege, csr) = (vcpu.id, vcpu.frame.privilege, &vcpu.frame.csr);
            let start = if text.is_empty() { "" } else { "\nhypocaust: " };
            let _ = write!(text, "{start}hart {id} in {privilege:?} mode\n{}\nhypocaust: {csr}", vcpu.frame);
        }
        self.say_about(number, Level::Error, format_args!("{text}"));
    }
}
