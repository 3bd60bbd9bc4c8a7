//! Who has which Ethernet address: those that the manifest gives, and for the rest one that is still free, by position,
//! so that it stays the same from run to run.

use crate::manifest::{Manifest, To, Uplink};
use bundle::Mac;
use hypo_common::error::{Error, Result};
use std::collections::BTreeMap;

/// The addresses of all interfaces.
pub struct Macs {
    uplinks: Vec<Option<Mac>>,
    nets: Vec<Vec<Mac>>,
}

/// Who has an address, as messages call it.
#[derive(Default)]
struct Owners(BTreeMap<Mac, String>);

impl Owners {
    fn take(&mut self, mac: Mac, who: String) -> Result<()> {
        if !mac.is_unicast() {
            return Err(Error::new(format_args!("{who}: {mac} is a group's address, or nobody's"))
                .remedy("take one that starts with 52:54:00"));
        }
        if let Some(first) = self.0.get(&mac) {
            return Err(Error::new(format_args!("{who}: the address {mac} is that of {first}"))
                .remedy("change one; without `mac`, a net gets an address of its own"));
        }
        self.0.insert(mac, who);
        Ok(())
    }

    /// An address that nobody has, of those that QEMU's machines have by custom.
    fn free(&mut self, group: u8, number: usize, part: usize) -> Mac {
        let at = |step: u8| Mac([0x52, 0x54, 0, group.wrapping_add(step), number as u8, part as u8]);
        let mac = (0..=u8::MAX).map(at).find(|mac| !self.0.contains_key(mac)).unwrap_or(at(0));
        self.0.insert(mac, String::new());
        mac
    }
}

impl Macs {
    /// The addresses of `manifest`'s interfaces.
    ///
    /// # Errors
    /// One is used twice, or is a group's; the message has its place in the manifest.
    pub fn of(manifest: &Manifest) -> Result<Self> {
        let mut owners = Owners::default();
        let mut uplinks = Vec::new();
        for (index, switch) in manifest.switches.iter().enumerate() {
            let nic = match switch.uplink {
                Some(Uplink::Nic(nic)) => nic,
                _ => {
                    uplinks.push(None);
                    continue;
                }
            };
            let who = format!("the uplink of switch `{}`", switch.name);
            owners.take(nic, who).map_err(|error| manifest.at(&format!("switch.{index}.uplink"), error))?;
            uplinks.push(Some(nic));
        }
        let mut given = Vec::new();
        for (index, vm) in manifest.vms.iter().enumerate() {
            let mut own = Vec::new();
            for (number, net) in vm.nets.iter().enumerate() {
                let who = format!("guest `{}`, net {}", vm.name, number + 1);
                let nic = match net.to {
                    To::Nic(nic) => Some(nic),
                    To::Switch(_) | To::User(_) => None,
                };
                for (mac, key) in [(nic, "host"), (net.mac.filter(|mac| Some(*mac) != nic), "mac")] {
                    if let Some(mac) = mac {
                        owners
                            .take(mac, who.clone())
                            .map_err(|error| manifest.at(&format!("vm.{index}.net.{number}.{key}"), error))?;
                    }
                }
                // Who is given a NIC goes by its address unless told otherwise.
                own.push(net.mac.or(nic));
            }
            given.push(own);
        }
        let filled = given.into_iter().zip(1..).map(|(own, vm)| {
            own.into_iter()
                .zip(1..)
                .map(|(mac, net)| mac.unwrap_or_else(|| owners.free(0, vm, net)))
                .collect()
        });
        let nets = filled.collect();
        for ((switch, uplink), number) in manifest.switches.iter().zip(&mut uplinks).zip(1..) {
            if let Some(Uplink::User(_)) = switch.uplink {
                *uplink = Some(owners.free(0xff, 0, number));
            }
        }
        Ok(Self { uplinks, nets })
    }

    /// The address of the host's port of a switch.
    pub fn uplink(&self, switch: usize) -> Option<Mac> {
        *self.uplinks.get(switch)?
    }

    /// The addresses of a guest's interfaces.
    pub fn nets(&self, vm: usize) -> &[Mac] {
        self.nets.get(vm).map_or(&[], Vec::as_slice)
    }
}
