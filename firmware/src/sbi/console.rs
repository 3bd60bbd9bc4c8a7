//! The debug console extension, on the 16550. Memory is read and written by M-mode, by its physical address, and
//! only where it is RAM that is not the firmware's.

use super::machine::is_ram;
use crate::uart;
use rustsbi::{Physical, SbiRet};

/// As many bytes as one call writes or reads; the caller asks again for the rest.
const MOST: u64 = 1024;

/// The extension.
pub struct Console;

/// The range, cut to what one call does, or none where it is not RAM.
fn checked(low: usize, high: usize, len: usize) -> Option<core::ops::Range<u64>> {
    let (start, len) = (low as u64, len as u64);
    (high == 0 && (len == 0 || is_ram(start, len))).then(|| start..start + len.min(MOST))
}

impl rustsbi::Console for Console {
    fn write(&self, bytes: Physical<&[u8]>) -> SbiRet {
        let Some(range) = checked(bytes.phys_addr_lo(), bytes.phys_addr_hi(), bytes.num_bytes()) else {
            return SbiRet::invalid_param();
        };
        let len = range.end - range.start;
        for address in range {
            // SAFETY: S-mode's RAM, which may change at any time and is only read.
            uart::send(unsafe { (address as *const u8).read_volatile() });
        }
        SbiRet::success(len as usize)
    }

    fn read(&self, bytes: Physical<&mut [u8]>) -> SbiRet {
        let Some(range) = checked(bytes.phys_addr_lo(), bytes.phys_addr_hi(), bytes.num_bytes()) else {
            return SbiRet::invalid_param();
        };
        let mut len = 0;
        for address in range {
            let Some(byte) = uart::receive() else { break };
            // SAFETY: S-mode's RAM, which S-mode asks to have written; nothing of ours is there.
            unsafe { (address as *mut u8).write_volatile(byte) };
            len += 1;
        }
        SbiRet::success(len)
    }

    fn write_byte(&self, byte: u8) -> SbiRet {
        uart::send(byte);
        SbiRet::success(0)
    }
}
