//! The boot bundle: damaged ones, and manifests that no `hypo pack` would write.
#![no_main]

use bundle::Manifest;
use bundle::format::{read, write};
use libfuzzer_sys::fuzz_target;

/// The payload of the bundles that are written here: segments may refer to it.
const PAYLOAD: [u8; 64] = [0xa5; 64];

fuzz_target!(|bytes: &[u8]| {
    let _ = read(&words(bytes));

    // The checksums keep nearly everything above from the manifest's rules, so meet those directly.
    let Ok(manifest) = postcard::from_bytes::<Manifest>(bytes) else { return };
    let Ok(written) = write(&manifest, &PAYLOAD) else { return };
    let words = words(&written);
    let (read_back, payload) = read(&words).expect("what was written can be read");
    assert_eq!((read_back, payload.len() * 8), (manifest, PAYLOAD.len()));
});

/// The bundle as memory holds it; bytes that fill no word are cut off.
fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}
