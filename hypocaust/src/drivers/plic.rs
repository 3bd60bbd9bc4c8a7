//! The host's interrupt controller, as one hart's S-mode context sees it. RISC-V PLIC spec, "Memory Map".

use hart::Mmio;

const PRIORITY: u64 = 0;
const ENABLE: u64 = 0x2000;
const ENABLE_STRIDE: u64 = 0x80;
const CONTEXT: u64 = 0x20_0000;
const CONTEXT_STRIDE: u64 = 0x1000;
const THRESHOLD: u64 = 0;
const CLAIM: u64 = 4;

/// The interrupt controller.
#[derive(Debug)]
pub struct Plic {
    registers: Mmio,
    context: u64,
}

impl Plic {
    /// Drives `registers` for the PLIC context `context`, in which nothing is enabled yet.
    pub fn new(registers: Mmio, context: u32, sources: u32) -> Self {
        let plic = Self { registers, context: u64::from(context) };
        for word in 0..=u64::from(sources / 32) {
            plic.registers.write32(plic.enables() + 4 * word, 0);
        }
        plic.registers.write32(plic.control() + THRESHOLD, 0);
        plic
    }

    /// Lets `source` interrupt this context.
    pub fn enable_source(&self, source: u32) {
        let source = u64::from(source);
        self.registers.write32(PRIORITY + 4 * source, 1);
        let word = self.enables() + 4 * (source / 32);
        self.registers.write32(word, self.registers.read32(word) | 1 << (source % 32));
    }

    /// Lets `source` interrupt this context no more.
    pub fn disable_source(&self, source: u32) {
        let source = u64::from(source);
        let word = self.enables() + 4 * (source / 32);
        self.registers.write32(word, self.registers.read32(word) & !(1 << (source % 32)));
    }

    /// The source that interrupts, if any.
    pub fn claim(&self) -> Option<u32> {
        Some(self.registers.read32(self.control() + CLAIM)).filter(|source| *source != 0)
    }

    /// Ends the interrupt of `source`.
    pub fn complete(&self, source: u32) {
        self.registers.write32(self.control() + CLAIM, source);
    }

    fn enables(&self) -> u64 {
        ENABLE + ENABLE_STRIDE * self.context
    }

    fn control(&self) -> u64 {
        CONTEXT + CONTEXT_STRIDE * self.context
    }
}
