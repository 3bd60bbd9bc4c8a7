//! What `fast` remembers of a vCPU.

/// No guest's senvcfg: most bits of that are 0.
const NO_SENVCFG: u64 = u64::MAX;

/// Spaces whose tags are remembered.
pub(super) const TAGS: usize = 64;

/// What the frame's part was last made of.
#[derive(Debug)]
pub(crate) struct FastPath {
    /// The guest's senvcfg; at first `NO_SENVCFG`.
    pub(super) senvcfg: u64,
    pub(super) satp: u64,
    /// The tag that the roots had then. Where they have another, the assembly has been in another space since, even if it has
    /// left it for one that only Rust could enter, the one before.
    pub(super) tag: u64,
    /// Tags by satp.
    pub(super) tags: [(u64, u64); TAGS],
    pub(super) last_tag: u64,
    /// Roots are withheld from the assembly.
    pub(super) withheld: bool,
    /// `CsrFile::translation` when the guest last began to run, or since; kept for kernels that are not trusted.
    pub(crate) followed: (u64, u64),
    /// The kernel is not trusted and has no ASIDs, so its writes of satp are fences beside those that it makes itself.
    pub(crate) fences_twice: bool,
}

impl Default for FastPath {
    fn default() -> Self {
        Self {
            senvcfg: NO_SENVCFG,
            satp: 0,
            tag: 0,
            tags: [(0, 0); TAGS],
            last_tag: 0,
            withheld: false,
            followed: (0, 0),
            fences_twice: true,
        }
    }
}

impl FastPath {
    /// Back to the beginning. `translation` is `CsrFile::translation` now: the guest is to change it from here on.
    pub(crate) fn drop_all(&mut self, translation: (u64, u64)) {
        *self = Self { followed: translation, ..Self::default() };
    }
}
