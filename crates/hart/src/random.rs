//! The processor's entropy source: the `seed` CSR of Zkr ("Entropy Source", cryptography extensions 1.0).

use crate::csr;

/// Polls for one sample. A source that has nothing after so many will not have anything soon.
const POLLS: usize = 1000;

/// Fills `bytes` with samples and says how many it has filled: fewer where the source fails or dries up, none where
/// firmware does not let supervisor mode read it. To be called only where the hart's ISA has Zkr.
pub fn fill_from_processor(bytes: &mut [u8]) -> usize {
    let mut filled = 0;
    for pair in bytes.chunks_exact_mut(2) {
        let Some(sample) = sample() else { break };
        pair.copy_from_slice(&sample.to_le_bytes());
        filled += 2;
    }
    filled
}

/// Sixteen bits with at least eight bits of entropy.
fn sample() -> Option<u16> {
    /// What bits 31:30 (OPST) say: self-test, no entropy yet, sixteen bits, failed for good.
    const ENTROPY: u64 = 0b10;
    const DEAD: u64 = 0b11;
    for _ in 0..POLLS {
        // A plain read of this CSR is illegal: it must be written, too.
        let value = csr::probe_with!("csrrw {value}, 0x015, zero")?;
        match value >> 30 & 0b11 {
            ENTROPY => return Some(value as u16),
            DEAD => return None,
            _ => {}
        }
    }
    None
}
