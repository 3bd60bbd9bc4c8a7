//! What is around a kernel: gzip, xz, zstd or LZ4 data, or the EFI program that unpacks its own payload. What hypo cannot
//! unpack is recognised as well, so that it is not taken for code.

use super::contents::KernelError;
use lz4_flex::frame::FrameDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;
use std::io::{self, Read};

/// Packed files in packed files are unpacked so many times; some hold themselves.
const MOST_LAYERS: usize = 4;
/// What unpacking may take beside the result.
const DICTIONARY: u64 = 256 << 20;

/// RFC 1952, 2.3.1: the two magic bytes and the only compression method there is.
const GZIP: &[u8] = &[0x1f, 0x8b, 8];
/// The .xz File Format, 2.1.1.1.
const XZ: &[u8] = b"\xfd7zXZ\0";
/// RFC 8878, 3.1.1.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// LZ4 Frame Format Description, and there "Legacy frame", which is what Linux's makefiles write.
const LZ4: &[u8] = &[0x04, 0x22, 0x4d, 0x18];
const LZ4_LEGACY: &[u8] = &[0x02, 0x21, 0x4c, 0x18];
/// Formats that are only recognised: the beginning and the name.
const OTHERS: &[(&[u8], &str)] = &[
    (b"BZh", "bzip2 data"),
    (b"\x89LZO\0", "LZO data"),
    (b"LZIP", "lzip data"),
    // The properties that xz and Linux's makefiles use, and a dictionary of whole KiB.
    (b"\x5d\0\0", "LZMA data"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xd0\x0d\xfe\xed", "a device tree or a U-Boot FIT image"),
];

/// Linux, drivers/firmware/efi/libstub/zboot-header.S: the words after "MZ" and two zeros.
const ZBOOT: &[u8] = b"zimg";
const ZBOOT_AT: usize = 4;
const ZBOOT_PAYLOAD_AT: usize = 8;
const ZBOOT_METHOD_AT: usize = 24;

/// The kernel in `file`, which may be packed. `most` are the bytes that it may have.
///
/// # Errors
/// The data is damaged, cut off, larger than that, or packed in a way that is not known here.
pub(super) fn unpack(file: Vec<u8>, most: u64) -> Result<Vec<u8>, KernelError> {
    let mut data = file;
    for _ in 0..MOST_LAYERS {
        match unpack_layer(&data, most)? {
            Some(inner) => data = inner,
            None => return Ok(data),
        }
    }
    Err(KernelError::Layers(MOST_LAYERS))
}

/// Takes one layer off, if there is one.
fn unpack_layer(file: &[u8], most: u64) -> Result<Option<Vec<u8>>, KernelError> {
    if is_zboot(file) {
        return zboot_payload(file, most).map(Some);
    }
    if file.starts_with(GZIP) {
        return gzip(file, most).map(Some);
    }
    if file.starts_with(XZ) {
        let reader = XzReader::new_mem_limit(file, false, (DICTIONARY >> 10) as u32);
        return read("xz", reader, most).map(Some);
    }
    if file.starts_with(ZSTD) {
        return zstd(file, most).map(Some);
    }
    if file.starts_with(LZ4) || file.starts_with(LZ4_LEGACY) {
        return lz4(file, most).map(Some);
    }
    match OTHERS.iter().find(|(magic, _)| file.starts_with(magic)) {
        Some((_, name)) => Err(KernelError::CannotUnpack((*name).to_owned())),
        None => Ok(None),
    }
}

/// All members of a gzip file. What comes after them is ignored, as gunzip does: boot loaders pad files with zeros.
pub(super) fn gzip(file: &[u8], most: u64) -> Result<Vec<u8>, KernelError> {
    let (mut data, mut rest) = (Vec::new(), file);
    while rest.starts_with(GZIP) {
        let mut member = flate2::bufread::GzDecoder::new(rest);
        data.extend(read("gzip", &mut member, most.saturating_sub(data.len() as u64)).map_err(|error| {
            if matches!(error, KernelError::TooLarge(_)) { KernelError::TooLarge(most >> 20) } else { error }
        })?);
        rest = member.into_inner();
    }
    Ok(data)
}

fn zstd(file: &[u8], most: u64) -> Result<Vec<u8>, KernelError> {
    let damaged = |error: &dyn std::fmt::Display| KernelError::Damaged("zstd", error.to_string());
    let mut decoder =
        StreamingDecoder::new_with_max_window_size(file, DICTIONARY).map_err(|error| damaged(&error))?;
    let data = read("zstd", &mut decoder, most)?;
    let decoder = decoder.into_frame_decoder();
    match decoder.get_checksum_from_data() {
        Some(sum) if Some(sum) != decoder.get_calculated_checksum() => Err(damaged(&"wrong checksum")),
        _ => Ok(data),
    }
}

/// One frame. A legacy frame has no end of its own; where it is followed by something else than a block, that is ignored.
fn lz4(file: &[u8], most: u64) -> Result<Vec<u8>, KernelError> {
    read("LZ4", FrameDecoder::new(file), most)
}

fn read(method: &'static str, from: impl Read, most: u64) -> Result<Vec<u8>, KernelError> {
    let mut data = Vec::new();
    let read = from.take(most.saturating_add(1)).read_to_end(&mut data);
    read.map_err(|error: io::Error| KernelError::Damaged(method, error.to_string()))?;
    if data.len() as u64 > most { Err(KernelError::TooLarge(most >> 20)) } else { Ok(data) }
}

fn is_zboot(file: &[u8]) -> bool {
    file.starts_with(b"MZ") && file.get(ZBOOT_AT..).is_some_and(|rest| rest.starts_with(ZBOOT))
}

fn zboot_payload(file: &[u8], most: u64) -> Result<Vec<u8>, KernelError> {
    let word = |at: usize| file.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
    let range = word(ZBOOT_PAYLOAD_AT).zip(word(ZBOOT_PAYLOAD_AT + 4));
    let payload = range.and_then(|(offset, len)| file.get(offset as usize..)?.get(..len as usize));
    let Some(payload) = payload else {
        return Err(KernelError::Damaged("EFI zboot", "its payload lies outside of the file".into()));
    };
    let method = file.get(ZBOOT_METHOD_AT..).unwrap_or_default();
    let method = method.split(|byte| *byte == 0).next().unwrap_or_default();
    let method = String::from_utf8_lossy(method.get(..method.len().min(16)).unwrap_or_default());
    unpack_layer(payload, most)?
        .ok_or_else(|| KernelError::CannotUnpack(format!("an EFI zboot kernel packed with `{method}`")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{gzipped, parse};
    use super::super::{Kernel, uboot};
    use super::*;

    /// What the files in this folder hold: as `seq 3000` prints it. They were made with xz 5.4, zstd 1.5.4 and lz4 1.9.4.
    fn numbers() -> Vec<u8> {
        (1..=3000).map(|number| format!("{number}\n")).collect::<String>().into_bytes()
    }

    const FILES: [&[u8]; 4] = [
        include_bytes!("samples/numbers.xz"),
        include_bytes!("samples/numbers.zst"),
        include_bytes!("samples/numbers.lz4"),
        include_bytes!("samples/numbers-legacy.lz4"),
    ];

    /// An EFI zboot kernel with this payload.
    fn zboot(payload: &[u8], method: &str) -> Vec<u8> {
        let mut file =
            [&b"MZ\0\0zimg"[..], &64u32.to_le_bytes(), &(payload.len() as u32).to_le_bytes()].concat();
        file.resize(ZBOOT_METHOD_AT, 0);
        file.extend(method.bytes());
        file.resize(64, 0);
        [&file, payload, &[0; 100]].concat()
    }

    #[test]
    fn a_kernel_is_found_inside_whatever_packed_it() {
        let plain = parse(numbers());
        assert_eq!(parse(gzipped(&numbers())), plain);
        for file in FILES {
            assert_eq!(parse(file.to_vec()), plain);
            assert_eq!(parse(zboot(file, "xzkern")), plain);
        }
    }

    #[test]
    fn what_follows_a_gzip_file_is_ignored() {
        let whole = gzipped(&numbers());
        for rest in [&[0; 3000][..], b"a signature", &[0x1f]] {
            assert_eq!(parse([&whole, rest].concat()), parse(numbers()));
        }
        let two = [gzipped(&numbers()[..5000]), gzipped(&numbers()[5000..])].concat();
        assert_eq!(parse(two), parse(numbers()), "but another member is not");
    }

    #[test]
    fn a_cut_is_an_error_at_any_place() {
        let whole = gzipped(&[7; 5000]);
        for len in 3..whole.len() {
            assert!(matches!(parse(whole[..len].to_vec()), Err(KernelError::Damaged(..))), "{len}");
        }
        for file in FILES {
            for len in (7..file.len() - 20).step_by(211) {
                let cut = parse(file[..len].to_vec());
                assert!(cut.is_err(), "{:x?} at {len}: {cut:?}", &file[..4]);
            }
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_by_the_checksum() {
        let mut file = gzipped(b"some kernel");
        let crc = file.len() - 8;
        file[crc] ^= 1;
        assert!(matches!(parse(file), Err(KernelError::Damaged(..))));
        for file in &FILES[..3] {
            let mut file = file.to_vec();
            let middle = file.len() / 2;
            file[middle] ^= 1;
            assert!(matches!(parse(file.clone()), Err(KernelError::Damaged(..))), "{:x?}", &file[..4]);
        }
    }

    #[test]
    fn a_bomb_stops_at_the_guests_memory() {
        let len = numbers().len() as u64;
        let files = FILES.iter().map(|file| file.to_vec()).chain([gzipped(&numbers())]);
        for file in files {
            assert!(Kernel::parse(file.clone(), len).is_ok());
            assert!(matches!(Kernel::parse(file, len - 1), Err(KernelError::TooLarge(0))));
        }
        let members = gzipped(&[0; 1000]).repeat(5);
        assert!(matches!(Kernel::parse(members, 4999), Err(KernelError::TooLarge(_))));
        let deep = (0..5).fold(numbers(), |data, _| gzipped(&data));
        assert_eq!(parse(deep), Err(KernelError::Layers(MOST_LAYERS)));
    }

    #[test]
    fn what_cannot_be_unpacked_is_named() {
        let message = |file: Vec<u8>| parse(file).unwrap_err().to_string();
        assert!(
            message(b"BZh91AY&SY".to_vec()).starts_with("this is bzip2 data, which hypo cannot unpack; ")
        );
        assert!(message(zboot(b"plain", "lzma")).contains("an EFI zboot kernel packed with `lzma`"));
        let mut outside = zboot(b"plain", "gzip");
        outside[ZBOOT_PAYLOAD_AT + 3] = 0x7f;
        assert!(message(outside).contains("EFI zboot data is damaged"));
    }

    #[test]
    fn arbitrary_bytes_behind_a_magic_number_do_no_harm() {
        for magic in [GZIP, XZ, ZSTD, LZ4, LZ4_LEGACY, b"MZ\0\0zimg", &[0x27, 0x05, 0x19, 0x56]] {
            for seed in 0..200u32 {
                let rest =
                    (0..seed).flat_map(|at| (at.wrapping_mul(2_654_435_761) ^ seed << 13).to_le_bytes());
                let file: Vec<u8> = magic.iter().copied().chain(rest).collect();
                let _ = Kernel::parse(file.clone(), 1 << 20);
                let _ = uboot::ram_disk(file, 1 << 20);
            }
        }
    }
}
