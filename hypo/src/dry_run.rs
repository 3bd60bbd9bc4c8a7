//! `hypo run --dry-run`: what would be run, as text. Starts no guest; QEMU is only asked for its device tree.

use crate::attach::{Devices, Sectors};
use crate::hardware::host_text;
use crate::layout::Region;
use crate::pack::Packed;
use bundle::{Attach, ConsoleConfig, SwitchConfig, VirtioTransport, VmConfig};
use devices::board::MAP;
use devicetree::{HostInfo, to_dts};
use hypo_common::error::{Error, Result};
use hypo_common::qemu::{self, Boot, Machine, as_shell};
use hypo_common::say;
use hypo_common::size::Size;
use isa::paging::Mode;
use std::fmt::Write;
use std::path::Path;

/// Prints memory maps, device trees and QEMU's command line.
///
/// # Errors
/// QEMU refuses the machine, or the text cannot be printed.
pub fn print(packed: &Packed, machine: &Machine, boot: Boot<'_>, scratch: &Path) -> Result<()> {
    let mut parts = Vec::new();
    let guests = packed.manifest.vms.iter().zip(&packed.regions).zip(&packed.attachments.guests);
    for ((config, regions), devices) in guests {
        parts.push(format!("Memory of guest `{}`:\n{}", config.name, memory_map(config, regions)));
        parts.push(format!(
            "Devices of guest `{}`:\n{}",
            config.name,
            slots(config, devices, &packed.manifest.switches)
        ));
    }
    let host = host_text(&packed.attachments.drives, &packed.attachments.nics);
    if !host.is_empty() && matches!(boot, Boot::Hypervisor { .. }) {
        parts.push(format!("The host's disks and NICs:\n{host}"));
    }
    match boot {
        Boot::Native(_) => {
            let tree = machine.device_tree(Some(boot), scratch)?;
            parts.push(format!("Device tree by QEMU:\n{}", as_text(&tree)?));
        }
        Boot::Hypervisor { .. } => {
            let tree = machine.device_tree(None, scratch)?;
            let host = HostInfo::parse(&tree)
                .map_err(|error| Error::new(format_args!("QEMU's device tree cannot be used: {error:?}")))?;
            let claimed = host.harts.iter().map(|hart| hart.mmu_type).min_by_key(|mode| *mode as u8);
            // The hypervisor tries modes, and QEMU's harts had all of them before it was 8.0, whatever the tree says.
            let all = qemu::version(&machine.program)? < (8, 0);
            let mode = offered(if all { Mode::Sv57 } else { claimed.unwrap_or(Mode::Sv39) });
            for config in &packed.manifest.vms {
                // The hypervisor makes the seed; zeros stand for it.
                let tree =
                    vmm::tree::build(config, host.common_isa(), mode, host.timebase_frequency, &[0; 32]);
                parts.push(format!("Device tree of guest `{}`:\n{}", config.name, as_text(&tree)?));
            }
        }
    }
    parts.push(format!("Command line:\n{}", as_shell(&machine.command_line(Some(boot), None))));
    say::print(parts.join("\n"))
}

/// The widest mode that a guest gets: narrower than the host's where the host has more than Sv39.
fn offered(host: Mode) -> Mode {
    match host {
        Mode::Sv57 => Mode::Sv48,
        Mode::Bare | Mode::Sv39 | Mode::Sv48 => Mode::Sv39,
    }
}

fn as_text(tree: &[u8]) -> Result<String> {
    to_dts(tree).ok_or_else(|| Error::new("the device tree cannot be printed"))
}

fn memory_map(config: &VmConfig, regions: &[Region]) -> String {
    let mut lines: Vec<(u64, u64, &str)> =
        MAP.iter().map(|device| (device.base.as_u64(), device.claimed, device.name)).collect();
    lines.extend(regions.iter().map(|region| (region.address, region.len, region.name.as_str())));
    lines.push((bundle::RAM_BASE, config.memory, "RAM"));
    lines.sort_by_key(|(address, len, _)| (*address, std::cmp::Reverse(*len)));
    let mut text = String::new();
    for (address, len, name) in lines {
        let end = address.saturating_add(len).saturating_sub(1);
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {address:#012x} - {end:#012x}  {:>14}  {name}", Size(len).to_string());
    }
    let _ = writeln!(text, "  entered at {:#x} by {} virtual hart(s)", config.entry, config.vcpus);
    text
}

/// What is in a guest's virtio slots.
fn slots(config: &VmConfig, devices: &Devices, switches: &[SwitchConfig]) -> String {
    let disks = devices.disks.iter().map(|disk| {
        let what = match &disk.sectors {
            Sectors::Host { serial, partition: None } => format!("host disk {serial}"),
            Sectors::Host { serial, partition: Some(partition) } => {
                format!("partition {partition} of host disk {serial}")
            }
            Sectors::Image(path) => format!("image {} in memory", path.display()),
        };
        let size = disk.capacity().map(|len| format!(", {}", Size(len))).unwrap_or_default();
        let mode = match (disk.readonly, disk.snapshot) {
            (true, _) => ", read-only",
            (false, true) => ", writes are dropped at the end",
            (false, false) => "",
        };
        format!("disk {}: {what}{size}{mode}", disk.serial)
    });
    let nets = config.nets.iter().map(|net| {
        let to = match net.attach {
            Attach::HostNic(nic) => format!("host NIC {nic}"),
            Attach::Switch(index) => match switches.get(index as usize) {
                Some(SwitchConfig { name, uplink: Some(uplink) }) => {
                    format!("switch {name}, with uplink {uplink}")
                }
                Some(SwitchConfig { name, uplink: None }) => format!("switch {name}"),
                None => "no switch".to_owned(),
            },
        };
        let rate = net.rate.map(|rate| format!(", {} per second", Size(rate))).unwrap_or_default();
        format!("net {}: {to}{rate}", net.mac)
    });
    let console = (config.console == ConsoleConfig::Virtio).then(|| "console".to_owned());
    let all = disks.chain(nets).chain(console).chain(["entropy".to_owned()]).enumerate();
    let version = match config.virtio {
        VirtioTransport::Modern => 2,
        VirtioTransport::Legacy => 1,
    };
    let mut text = format!("  virtio transport: {}, version {version}\n", config.virtio.name());
    text.extend(all.map(|(slot, what)| format!("  slot {slot}  {what}\n")));
    let cap = config.cap.map(|cap| format!(", at most {cap} % of a hart")).unwrap_or_default();
    let start = if config.autostart { "" } else { "; started by the operator" };
    // Writing to a string does not fail.
    let _ = writeln!(text, "  weight {}{cap}{start}", config.weight);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::GuestDisk;
    use block::gpt::Range;
    use bundle::{Mac, NetConfig, Partition};

    #[test]
    fn the_map_shows_devices_and_memory_in_order() {
        let config = VmConfig {
            name: "g".into(),
            memory: 512 << 20,
            entry: 0x8020_0000,
            device_tree: 0x9fe0_0000,
            ..VmConfig::default()
        };
        let kernel = Region { name: "kernel".into(), address: 0x8020_0000, len: 4097 };
        let text = memory_map(&config, &[kernel]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  0x0000100000 - 0x0000100fff              4K  finisher");
        assert!(text.contains("  0x0080200000 - 0x0080201000      4097 bytes  kernel"));
        let at = |name: &str| lines.iter().position(|line| line.ends_with(name)).unwrap();
        assert!(at("uart") < at("RAM") && at("RAM") < at("kernel"));
    }

    #[test]
    fn slots_show_what_is_attached_and_to_what() {
        let nic = Mac([2, 0, 0, 0, 0, 1]);
        let disk = |sectors, readonly, range| GuestDisk {
            sectors,
            readonly,
            snapshot: !readonly,
            serial: "s".into(),
            range,
        };
        let host = Sectors::Host { serial: "d0".into(), partition: Some(Partition::Number(2)) };
        let disks = vec![
            disk(host, true, None),
            disk(Sectors::Image("i".into()), false, Some(Range { first: 0, count: 8 })),
        ];
        let net = |attach| NetConfig { attach, mac: Mac([2, 0, 0, 0, 0, 2]), rate: Some(1 << 20) };
        let config = VmConfig {
            nets: vec![net(Attach::Switch(0)), net(Attach::HostNic(nic))],
            console: ConsoleConfig::Virtio,
            cap: Some(20),
            ..VmConfig::default()
        };
        let switches = [SwitchConfig { name: "lan".into(), uplink: Some(nic) }];
        let text = slots(&config, &Devices { disks, nets: Vec::new() }, &switches);
        let expected = "  virtio transport: modern, version 2
  slot 0  disk s: partition 2 of host disk d0, read-only
  slot 1  disk s: image i in memory, 4K, writes are dropped at the end
  slot 2  net 02:00:00:00:00:02: switch lan, with uplink 02:00:00:00:00:01, 1M per second
  slot 3  net 02:00:00:00:00:02: host NIC 02:00:00:00:00:01, 1M per second
  slot 4  console
  slot 5  entropy
  weight 100, at most 20 % of a hart
";
        assert_eq!(text, expected);
    }
}
