//! Gathers what the machine has of randomness, at the start.

use bundle::Manifest;
use devicetree::{Extension, HostInfo};
use entropy::{Collector, Source};
use hart::Hart;
use hart::virtio::{self, Kind, entropy as device};

use crate::drivers::rtc;
use crate::stage::Stage;

/// Milliseconds that a virtio-rng device has for an answer.
const PATIENCE: u64 = 500;
/// How often the clocks are read, with something between that takes another time at each boot.
const READINGS: usize = 64;

/// Everything that the bundle and the machine give.
pub fn gather(stage: &Stage, hart: &Hart, manifest: &Manifest) -> Collector {
    let machine = &stage.machine;
    let mut collector = Collector::new();
    let bundled = if manifest.host.seed_is_fresh { Source::FreshBundle } else { Source::Bundle };
    collector.add(bundled, &manifest.host.seed);
    collector.add(Source::Firmware, &machine.rng_seed);
    add_processor(machine, &mut collector);
    add_device(stage, &mut collector);
    add_clocks(stage, hart, &mut collector);
    collector
}

fn add_processor(machine: &HostInfo, collector: &mut Collector) {
    let mut bytes = [0; 64];
    if machine.common_isa().extensions.contains(Extension::Zkr) {
        let filled = hart::random::fill_from_processor(&mut bytes);
        collector.add(Source::Processor, bytes.get(..filled).unwrap_or_default());
    }
}

/// The first virtio-rng device that answers.
fn add_device(stage: &Stage, collector: &mut Collector) {
    virtio::set_up(&stage.space);
    let patience = PATIENCE * stage.machine.timebase_frequency / 1000;
    for slot in &stage.machine.virtio {
        let Some(registers) = stage.space.device(slot.registers.start) else { continue };
        if virtio::probe(&registers) != Some(Kind::Entropy) {
            continue;
        }
        let mut bytes = [0; 64];
        let deadline = hart::time::now().saturating_add(patience);
        let filled = device::read(&registers, &mut bytes, deadline).unwrap_or(0);
        if filled > 0 {
            collector.add(Source::Device, bytes.get(..filled).unwrap_or_default());
            return;
        }
    }
}

/// The date, and how long things took until now and take from reading to reading. With `--icount` all of it repeats.
fn add_clocks(stage: &Stage, hart: &Hart, collector: &mut Collector) {
    let counters = hart.features().counters;
    let date = stage.machine.rtc.and_then(|rtc| stage.space.device(rtc)).map_or(0, |rtc| rtc::now(&rtc));
    let mut readings = [date; 2 * READINGS + 1];
    for pair in readings[1..].chunks_exact_mut(2) {
        pair.fill_with(|| if counters { hart::time::cycle() } else { hart::time::now() });
        if let Some(time) = pair.first_mut() {
            *time = hart::time::now();
        }
    }
    let mut bytes = [0; 8 * (2 * READINGS + 1)];
    for (to, reading) in bytes.chunks_exact_mut(8).zip(readings) {
        to.copy_from_slice(&reading.to_le_bytes());
    }
    collector.add(Source::Clocks, &bytes);
}
