//! What the operator is told of a guest that has ended: how often it left, by kind, and where it stood. Changes nothing but
//! counts.

use alloc::string::String;
use core::fmt::Write;

use super::{Refused, World};
use crate::host::Level;

impl World {
    pub(super) fn tell_of_refusal(&mut self, number: usize, why: Refused) {
        if let Some(guest) = self.guests.get(number) {
            let message = format_args!("guest `{}` does not start again: {why}", guest.vm.name);
            self.host.say(Level::Error, message);
        }
    }

    /// Prints how often a guest left, by kind, and how often what else happened.
    pub(super) fn report_exits(&mut self, number: usize) {
        if self.current == Some(number) {
            self.count_for(number);
        }
        let Some(guest) = self.guests.get(number) else { return };
        let counts = guest.counts;
        for vcpu in &guest.vm.vcpus {
            let mut line = String::new();
            for (kind, count) in vcpu.exits.iter() {
                let _ = write!(line, " {}={count}", kind.name());
            }
            let code = guest.vm.machine.code.counts();
            let _ = write!(line, " shadow-fills={} code-copies={}", vcpu.shadow.fills, code.copies);
            let _ = write!(line, " code-sites={} code-copies-ended={}", code.sites, code.ended);
            let _ = write!(line, " fast-exits={} slow-exits={}", vcpu.frame.fast_exits, counts.runs);
            let _ = write!(line, " site-misses={}", vcpu.site_misses);
            let _ = write!(line, " tlb-flushes-all={}", counts.flushes_all);
            let _ = write!(line, " tlb-flushes-address={}", counts.flushes_address);
            let _ = write!(line, " tlb-flushes-switch={}", vcpu.frame.switch_flushes);
            self.host.say(Level::Counters, format_args!("exits{line}"));
            if self.check_every != 0 {
                let (name, executed, fast) = (&guest.vm.name, guest.executed, vcpu.frame.fast_exits);
                let message = format_args!(
                    "guest `{name}` executed {executed} cycles in {} runs with {fast} exits in assembly",
                    counts.runs
                );
                self.host.say(Level::Counters, message);
            }
        }
    }

    pub(super) fn report_registers(&mut self, number: usize) {
        let Some(guest) = self.guests.get(number) else { return };
        for vcpu in &guest.vm.vcpus {
            let (id, privilege, csr) = (vcpu.id, vcpu.frame.privilege, &vcpu.frame.csr);
            self.host.say(Level::Error, format_args!("hart {id} in {privilege:?} mode\n{}", vcpu.frame));
            self.host.say(Level::Error, format_args!("{csr}"));
        }
    }
}
