//! Room for a frame.

use crate::MAX_FRAME;

/// Room for a frame. It begins in the middle of a word: in guests' memory frames lie behind headers of 12 bytes, so words
/// are copied as words.
#[derive(Clone, Debug)]
#[repr(C, align(8))]
pub struct Frame {
    lead: [u8; 4],
    /// The frame, and what is behind it.
    pub bytes: [u8; MAX_FRAME],
}

impl Default for Frame {
    fn default() -> Self {
        Self { lead: [0; 4], bytes: [0; MAX_FRAME] }
    }
}
