//! Gzip around a kernel.

use super::KernelError;
use flate2::read::MultiGzDecoder;
use std::io::Read;

/// RFC 1952, 2.3.1: the two magic bytes and the only compression method there is.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// More than any kernel, so that a small file cannot fill the developer's memory.
const LIMIT: u64 = 1 << 30;

pub(super) fn recognises(file: &[u8]) -> bool {
    file.starts_with(&MAGIC)
}

pub(super) fn unpack(file: &[u8]) -> Result<Vec<u8>, KernelError> {
    let mut data = Vec::new();
    MultiGzDecoder::new(file)
        .take(LIMIT + 1)
        .read_to_end(&mut data)
        .map_err(|error| KernelError::Gzip(error.to_string()))?;
    if data.len() as u64 > LIMIT {
        return Err(KernelError::GzipBomb(LIMIT >> 20));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::super::Kernel;
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn packed(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_kernel_is_found_inside() {
        let data: Vec<u8> = (0..10_000u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(Kernel::parse(packed(&data)), Kernel::parse(data));
    }

    #[test]
    fn a_cut_is_an_error_at_any_place() {
        let whole = packed(&[7; 5000]);
        for len in 3..whole.len() {
            assert!(matches!(Kernel::parse(whole[..len].to_vec()), Err(KernelError::Gzip(_))), "{len}");
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_by_the_checksum() {
        let mut file = packed(b"some kernel");
        let crc = file.len() - 8;
        file[crc] ^= 1;
        assert!(matches!(Kernel::parse(file), Err(KernelError::Gzip(_))));
    }
}
