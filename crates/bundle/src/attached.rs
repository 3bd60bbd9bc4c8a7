//! What is attached to guests: disks, network interfaces and the switches between them, consoles.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

/// A host NIC goes by its Ethernet address.
pub type NicId = Mac;

impl Mac {
    /// Whether it can be an interface's own: neither a group's nor all zeros.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is no Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an Ethernet address is six pairs of hexadecimal digits, for example 52:54:00:12:34:56")]
pub struct NoMac;

impl FromStr for Mac {
    type Err = NoMac;

    fn from_str(text: &str) -> Result<Self, NoMac> {
        let mut parts = text.split(':');
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let part = parts.next().unwrap_or_default();
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NoMac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| NoMac)?;
        }
        if parts.next().is_none() { Ok(Self(bytes)) } else { Err(NoMac) }
    }
}

/// A layer-2 switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchConfig {
    /// Its name, unique among switches.
    pub name: String,
    /// The host NIC that is one of its ports.
    pub uplink: Option<NicId>,
}

/// A guest's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// Where its sectors are.
    pub source: DiskSource,
    /// Whether the guest is told that it cannot write.
    pub readonly: bool,
    /// Whether what the guest writes is kept in memory and dropped at the end; the source is not written.
    pub snapshot: bool,
    /// What the guest is told as its serial number; at most 20 printable ASCII characters.
    pub serial: String,
}

impl DiskConfig {
    /// Whether the guest's writes reach the source.
    pub fn writes(&self) -> bool {
        !self.readonly && !self.snapshot
    }
}

/// Where a disk's sectors are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskSource {
    /// On a host disk.
    Host {
        /// The serial number that the host disk tells; 1 to 20 printable ASCII characters.
        serial: String,
        /// The part of it; `None` is the whole.
        partition: Option<Partition>,
    },
    /// In the bundle's payload, which is the host's RAM: what is written is gone at the end.
    Image {
        /// Offset in the payload; a multiple of 4096.
        offset: u64,
        /// Bytes; a multiple of 512.
        len: u64,
    },
}

/// A partition of a GPT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partition {
    /// The table's entry, counted from 1 as Linux does.
    Number(u32),
    /// The partition's name; 1 to 36 UTF-16 units.
    Name(String),
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "`{name}`"),
        }
    }
}

/// A guest's network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetConfig {
    /// What it is connected to.
    pub attach: Attach,
    /// Its address, which no other interface has. Frames from another source address do not leave the guest.
    pub mac: Mac,
    /// The most that the guest may send; bytes per second.
    pub rate: Option<u64>,
}

/// What a network interface is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attach {
    /// The switch with this index in the manifest.
    Switch(u32),
    /// A host NIC, which is given to the guest whole.
    HostNic(NicId),
}

/// A guest's consoles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleConfig {
    /// The UART.
    #[default]
    Uart,
    /// A virtio console beside the UART; both are shown as one.
    Virtio,
}

impl ConsoleConfig {
    /// Virtio devices that it takes.
    pub fn devices(self) -> usize {
        match self {
            Self::Uart => 0,
            Self::Virtio => 1,
        }
    }
}

/// Which of virtio's transports a guest's devices have, its empty slots included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VirtioTransport {
    /// Version 2, of virtio 1.0 and later.
    #[default]
    Modern,
    /// Version 1, the legacy interface.
    Legacy,
}

impl VirtioTransport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Modern, Self::Legacy];

    /// What it is called in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Legacy => "legacy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use serde::de::{self, IntoDeserializer};

    #[test]
    fn an_ethernet_address_is_written_as_it_is_read() {
        let mac: Mac = "52:54:00:Ab:0c:ff".parse().unwrap();
        assert_eq!(mac, Mac([0x52, 0x54, 0, 0xab, 0x0c, 0xff]));
        assert_eq!(mac.to_string(), "52:54:00:ab:0c:ff");
    }

    #[test]
    fn a_transport_is_called_what_a_manifest_reads() {
        for transport in VirtioTransport::ALL {
            let name: de::value::StrDeserializer<'_, de::value::Error> = transport.name().into_deserializer();
            assert_eq!(VirtioTransport::deserialize(name), Ok(transport));
        }
    }

    #[test]
    fn what_is_no_ethernet_address_is_refused() {
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:5",
            "52-54-00-12-34-56",
            "+2:54:00:12:34:56",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(NoMac), "{text}");
        }
    }

    #[test]
    fn groups_and_zeros_are_no_interfaces_own() {
        assert!(Mac([0x52, 0, 0, 0, 0, 1]).is_unicast());
        assert!(
            !Mac([0; 6]).is_unicast()
                && !Mac([0xff; 6]).is_unicast()
                && !Mac([1, 0, 0x5e, 0, 0, 1]).is_unicast()
        );
    }
}
