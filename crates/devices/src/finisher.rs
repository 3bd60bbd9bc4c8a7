//! `sifive,test1`: the register by which a guest ends itself. Carries nothing out; the VMM does.

use isa::Width;

use crate::Refused;

/// What a write to the finisher asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FinisherRequest {
    /// Power off, success.
    Pass,
    /// Power off, failure, with the guest's own code.
    Fail(u16),
    /// Start again.
    Reset,
}

/// The low half of the value written to offset 0; the high half is the code.
const FAIL: u16 = 0x3333;
const PASS: u16 = 0x5555;
const RESET: u16 = 0x7777;

/// The test finisher: one write-only register at offset 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finisher;

impl Finisher {
    /// Reads 0 everywhere. Half-word and word accesses only.
    pub fn read(&self, _offset: u64, width: Width) -> Result<u64, Refused> {
        accepts(width).map(|()| 0)
    }

    /// What is asked for, if anything: a write elsewhere or of an unknown value does nothing, as on QEMU.
    /// Half-word and word accesses only; a half-word has no room for a code other than 0.
    pub fn write(&self, offset: u64, width: Width, value: u64) -> Result<Option<FinisherRequest>, Refused> {
        accepts(width)?;
        let code = if width == Width::Word { (value >> 16) as u16 } else { 0 };
        Ok(match (offset, value as u16) {
            (0, PASS) => Some(FinisherRequest::Pass),
            (0, FAIL) => Some(FinisherRequest::Fail(code)),
            (0, RESET) => Some(FinisherRequest::Reset),
            _ => None,
        })
    }
}

fn accepts(width: Width) -> Result<(), Refused> {
    if matches!(width, Width::Half | Width::Word) { Ok(()) } else { Err(Refused) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_magic_value_makes_its_request() {
        let finisher = Finisher;
        assert_eq!(finisher.write(0, Width::Word, 0x5555), Ok(Some(FinisherRequest::Pass)));
        assert_eq!(finisher.write(0, Width::Word, 0x7777), Ok(Some(FinisherRequest::Reset)));
        assert_eq!(finisher.write(0, Width::Word, 0x002a_3333), Ok(Some(FinisherRequest::Fail(42))));
    }

    #[test]
    fn a_half_word_write_fails_with_code_zero() {
        assert_eq!(Finisher.write(0, Width::Half, 0x002a_3333), Ok(Some(FinisherRequest::Fail(0))));
    }

    #[test]
    fn other_values_and_other_offsets_are_ignored() {
        assert_eq!(Finisher.write(0, Width::Word, 0x1234), Ok(None));
        assert_eq!(Finisher.write(4, Width::Word, 0x5555), Ok(None));
        assert_eq!(Finisher.read(0, Width::Word), Ok(0));
        assert_eq!(Finisher.read(0xffc, Width::Half), Ok(0));
    }

    #[test]
    fn bytes_and_double_words_are_refused() {
        for width in [Width::Byte, Width::Double] {
            assert_eq!(Finisher.read(0, width), Err(Refused));
            assert_eq!(Finisher.write(0, width, 0x5555), Err(Refused));
        }
    }
}
