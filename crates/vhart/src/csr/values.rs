//! What CSRs hold, by their numbers: for a state that is stored and taken up again.

use isa::Privilege;
use isa::csr::CsrAddr;

use super::rules::{INTERRUPTS, RULES};
use super::{CsrFeatures, CsrFile, Read};

impl CsrFile {
    /// What the CSRs hold that are fields of it, with their numbers, in the order of the table of rules.
    pub(crate) fn values(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let value = |csr| match self.read_by_rule(csr, Privilege::Supervisor) {
            Ok(Read::Value(value)) => Some((csr.as_u16(), value)),
            _ => None,
        };
        stored().filter_map(value)
    }

    /// The CSRs of a hart with these features that hold what `values` says, in the order of the table of rules; `None` where
    /// they could not.
    pub(crate) fn with_values(features: CsrFeatures, values: &[(u16, u64)]) -> Option<Self> {
        let mut file = Self::new(features);
        let mut rest = values.iter();
        for csr in stored() {
            let (_, value) = rest.next().filter(|(number, _)| *number == csr.as_u16())?;
            if csr == CsrAddr::SIP {
                // Of these bits, most are not the guest's to write.
                file.pending = *value & INTERRUPTS;
            } else {
                file.write_by_rule(csr, *value).ok()?;
            }
            if file.read_by_rule(csr, Privilege::Supervisor) != Ok(Read::Value(*value)) {
                return None;
            }
        }
        rest.next().is_none().then_some(file)
    }
}

/// The CSRs that are fields of a `CsrFile`, in the order of the table of rules.
fn stored() -> impl Iterator<Item = CsrAddr> {
    RULES.iter().filter(|rule| rule.field.is_some()).map(|rule| rule.csr)
}
