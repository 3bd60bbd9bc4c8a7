//! Network interfaces and switches as users describe them, in a manifest or on the command line.

use crate::text::{nearest, quoted};
use bundle::Mac;
use hypo_common::error::{Error, Result};
use hypo_common::size::Size;
use serde::de::{self, Deserialize, Deserializer};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The name of QEMU's user network.
const USER: &str = "user";

/// A guest's network interface.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "NetTable")]
pub struct Net {
    /// What it is connected to.
    pub to: To,
    /// Its address; `None` takes one that nobody else has.
    pub mac: Option<Mac>,
    /// The most that the guest may send in a second.
    pub rate: Option<Size>,
}

/// What an interface is connected to.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    /// The switch of this name.
    Switch(String),
    /// A NIC of its own at QEMU's user network.
    User(Vec<Forward>),
    /// The NIC that the host has under this address.
    Nic(Mac),
}

/// `[[vm.net]]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct NetTable {
    switch: Option<String>,
    host: Option<Uplink>,
    #[serde(default, deserialize_with = "mac")]
    mac: Option<Mac>,
    rate: Option<Size>,
    #[serde(default)]
    forward: Vec<Forward>,
}

impl TryFrom<NetTable> for Net {
    type Error = &'static str;

    fn try_from(table: NetTable) -> std::result::Result<Self, &'static str> {
        let NetTable { switch, host, mac, rate, forward } = table;
        let to = match (switch, host) {
            (Some(_), None) if !forward.is_empty() => {
                return Err(
                    "`forward` is for QEMU's user network; put it into the [[switch]] that has the uplink",
                );
            }
            (Some(switch), None) => To::Switch(switch),
            (None, Some(Uplink::User(_))) => To::User(forward),
            (None, Some(Uplink::Nic(_))) if !forward.is_empty() => return Err(FORWARD),
            (None, Some(Uplink::Nic(mac))) => To::Nic(mac),
            (None, None) => {
                return Err("a net is connected to nothing; add `switch = \"NAME\"` or `host = \"user\"`");
            }
            _ => return Err("a net is connected twice; keep one of `switch` and `host`"),
        };
        Ok(Self { to, mac, rate })
    }
}

const FORWARD: &str = "`forward` is for QEMU's user network; write \"user\", or leave `forward` out";

/// `user[,mac=MAC][,rate=SIZE][,forward=PROTOCOL:PORT:PORT]...`
impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut options = text.split(',');
        if options.next() != Some(USER) {
            return Err(format!("`{text}` is no network; write user, or user,forward=tcp:2222:22"));
        }
        let (mut mac, mut rate, mut forwards) = (None, None, Vec::new());
        for option in options {
            match option.split_once('=') {
                Some(("mac", value)) => mac = Some(parsed_mac(value)?),
                Some(("rate", value)) => rate = Some(value.parse()?),
                Some(("forward", value)) => forwards.push(value.parse()?),
                _ => return Err(format!("there is no option `{option}`; use mac=, rate= or forward=")),
            }
        }
        Ok(Self { to: To::User(forwards), mac, rate })
    }
}

/// A switch between guests.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "SwitchTable")]
pub struct Switch {
    /// Its name.
    pub name: String,
    /// The host's port of it.
    pub uplink: Option<Uplink>,
}

/// A NIC of the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Uplink {
    /// One that QEMU connects to its user network.
    User(Vec<Forward>),
    /// One that the host has, by its address.
    Nic(Mac),
}

/// `[[switch]]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SwitchTable {
    name: String,
    uplink: Option<Uplink>,
    #[serde(default)]
    forward: Vec<Forward>,
}

impl TryFrom<SwitchTable> for Switch {
    type Error = &'static str;

    fn try_from(table: SwitchTable) -> std::result::Result<Self, &'static str> {
        let SwitchTable { name, uplink, forward } = table;
        let uplink = match uplink {
            Some(Uplink::User(_)) => Some(Uplink::User(forward)),
            _ if !forward.is_empty() => return Err(FORWARD),
            other => other,
        };
        Ok(Self { name, uplink })
    }
}

/// A port of this machine that leads to one of a guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Whether it is UDP and not TCP.
    pub udp: bool,
    /// The port on this machine, at 127.0.0.1.
    pub port: u16,
    /// The guest's address; `None` is the first that QEMU gives out.
    pub guest: Option<Ipv4Addr>,
    /// The guest's port.
    pub guest_port: u16,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no forwarded port; write for example tcp:2222:22 or tcp:2222:10.0.2.16:22")
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (protocol, port, guest, guest_port) = match parts.as_slice() {
            [protocol, port, guest_port] => (*protocol, *port, None, *guest_port),
            [protocol, port, guest, guest_port] => (*protocol, *port, Some(*guest), *guest_port),
            _ => return Err(wrong()),
        };
        let udp = match protocol {
            "tcp" => false,
            "udp" => true,
            _ => return Err(wrong()),
        };
        let port_of = |digits: &str| digits.parse().ok().filter(|port| *port != 0).ok_or_else(wrong);
        Ok(Self {
            udp,
            port: port_of(port)?,
            guest: guest.map(|address| address.parse().map_err(|_| wrong())).transpose()?,
            guest_port: port_of(guest_port)?,
        })
    }
}

/// In QEMU's words.
impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.udp { "udp" } else { "tcp" };
        let guest = self.guest.map(|address| address.to_string()).unwrap_or_default();
        write!(f, "{protocol}:127.0.0.1:{}-{guest}:{}", self.port, self.guest_port)
    }
}

impl<'de> Deserialize<'de> for Forward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Uplink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == USER {
            return Ok(Self::User(Vec::new()));
        }
        let nic = text.parse().map_err(|_| {
            de::Error::custom(format_args!(
                "`{text}` is no NIC of the host; write \"user\", or a NIC's address such as \"52:54:00:12:34:56\""
            ))
        });
        nic.map(Self::Nic)
    }
}

fn parsed_mac(text: &str) -> std::result::Result<Mac, String> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is no Ethernet address; write six pairs of hexadecimal digits, as in 52:54:00:12:34:56"
        )
    })
}

fn mac<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Mac>, D::Error> {
    parsed_mac(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

/// The index of the switch of this name.
///
/// # Errors
/// There is none.
pub fn switch_index(switches: &[Switch], name: &str) -> Result<usize> {
    switches.iter().position(|switch| switch.name == name).ok_or_else(|| {
        let names: Vec<&str> = switches.iter().map(|switch| switch.name.as_str()).collect();
        let error = Error::new(format_args!("there is no switch `{name}`"));
        match nearest(name, &names) {
            Some(near) => error.remedy(format_args!("write \"{near}\"")),
            None if names.is_empty() => {
                error.remedy(format_args!("add `[[switch]]` with `name = \"{name}\"`"))
            }
            None => error.remedy(format_args!("the switches are {}; or add one", quoted(&names))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_net_on_the_command_line_is_qemus_user_network() {
        let net: Net = "user,mac=52:54:00:00:00:09,rate=1M,forward=tcp:2222:22".parse().unwrap();
        let forward = Forward { udp: false, port: 2222, guest: None, guest_port: 22 };
        assert_eq!(net.to, To::User(vec![forward]));
        assert_eq!((net.mac, net.rate), (Some(Mac([0x52, 0x54, 0, 0, 0, 9])), Some(Size(1 << 20))));
        for text in ["lan", "user,mac=1", "user,speed=3", "user,forward=80"] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_forwarded_port_is_this_machines_alone() {
        let text = |text: &str| text.parse::<Forward>().unwrap().to_string();
        assert_eq!(text("tcp:2222:22"), "tcp:127.0.0.1:2222-:22");
        assert_eq!(text("udp:53:10.0.2.16:5353"), "udp:127.0.0.1:53-10.0.2.16:5353");
        for wrong in
            ["", "tcp:1", "tcp:0:22", "tcp:70000:22", "icmp:1:1", "tcp:1:host:2", "tcp:1:10.0.2.15:2:3"]
        {
            assert!(wrong.parse::<Forward>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_switch_that_is_not_there_is_guessed_or_listed() {
        let switch = |name: &str| Switch { name: name.into(), uplink: None };
        let message =
            |name| switch_index(&[switch("lan"), switch("backbone")], name).unwrap_err().to_string();
        assert!(message("backbon").ends_with("write \"backbone\""), "{}", message("backbon"));
        assert!(message("wifi").ends_with("the switches are `lan`, `backbone`; or add one"));
        assert!(switch_index(&[], "lan").unwrap_err().to_string().contains("add `[[switch]]`"));
    }
}
