//! Sizes, addresses and delays as people write them.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;
use std::str::FromStr;

/// A number of bytes. A bare number counts MiB, as with QEMU's `-m`; `K`, `M`, `G` and `T` say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A guest-physical address: hexadecimal after `0x`, else decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub u64);

/// A number of milliseconds, written with its unit: `ms`, `s` or `m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay(pub u32);

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let not_one = || format!("`{text}` is not a time; write for example 500ms, 10s or 1m");
        let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
        let split = units.iter().find_map(|(unit, each)| Some((text.strip_suffix(unit)?, *each)));
        let (digits, each) = split.ok_or_else(not_one)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(not_one());
        }
        let number: u32 = digits.parse().map_err(|_| not_one())?;
        number.checked_mul(each).map(Self).ok_or_else(|| format!("the time `{text}` is too long"))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, shift) = match text.strip_suffix(|c: char| c.is_ascii_alphabetic()) {
            None => (text, 20),
            Some(digits) => match text.as_bytes().last() {
                Some(b'K' | b'k') => (digits, 10),
                Some(b'M' | b'm') => (digits, 20),
                Some(b'G' | b'g') => (digits, 30),
                Some(b'T' | b't') => (digits, 40),
                _ => return Err(format!("`{text}` is not a size; write for example 512M or 2G")),
            },
        };
        let number =
            if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<u64>().ok() } else { None };
        let number = number.ok_or_else(|| format!("`{text}` is not a size; write for example 512M or 2G"))?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| format!("the size `{text}` is too large"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = [("T", 40), ("G", 30), ("M", 20), ("K", 10)]
            .into_iter()
            .find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift))
            .unwrap_or((" bytes", 0));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(&digits.replace('_', ""), 16),
            None => text.parse(),
        };
        parsed.map(Self).map_err(|_| format!("`{text}` is not an address; write for example 0x84000000"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size in quotes, for example \"512M\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DelayVisitor;
        impl Visitor<'_> for DelayVisitor {
            type Value = Delay;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time in quotes, for example \"10s\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Delay, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(DelayVisitor)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressVisitor;
        impl Visitor<'_> for AddressVisitor {
            type Value = Address;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, for example 0x84000000")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Address, E> {
                u64::try_from(number).map(Address).map_err(|_| E::custom("an address is not negative"))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Address, E> {
                Ok(Address(number))
            }
            // TOML's integers end at 2^63, so the upper half is written as text.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Address, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(AddressVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_or_counts_mebibytes() {
        for (text, bytes) in
            [("512M", 512 << 20), ("2g", 2 << 30), ("64", 64 << 20), ("2048K", 2 << 20), ("1T", 1 << 40)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in ["", "M", "-1M", "+1M", "1.5G", "512MB", "12X", "99999999999999T", "１M", "0x10M"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_print_in_their_largest_whole_unit() {
        assert_eq!(Size(2 << 40).to_string(), "2T");
        assert_eq!(Size(1 << 30).to_string(), "1G");
        assert_eq!(Size(1536 << 20).to_string(), "1536M");
        assert_eq!(Size(4097).to_string(), "4097 bytes");
        assert_eq!(Size(0).to_string(), "0 bytes");
    }

    #[test]
    fn a_delay_has_a_unit() {
        for (text, milliseconds) in [("500ms", 500), ("0s", 0), ("10s", 10_000), ("1m", 60_000)] {
            assert_eq!(text.parse(), Ok(Delay(milliseconds)), "{text}");
        }
        for text in ["", "s", "10", "-1s", "+1s", "1.5s", "10 s", "1h", "99999999999s", "9999999m", "１s"] {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_hexadecimal_or_decimal() {
        assert_eq!("0x8400_0000".parse(), Ok(Address(0x8400_0000)));
        assert_eq!("4096".parse(), Ok(Address(4096)));
        for text in ["", "0x", "84000000h", "-1", "0x1_0000_0000_0000_0000"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
