//! `sifive,plic-1.0.0`: routes the devices' interrupt lines to the harts (RISC-V PLIC specification 1.0.0).
//!
//! Every source is level-triggered. Knows contexts, not harts: context `2 * h` is hart `h`'s M-mode, which
//! kernels sometimes write though nothing listens, and `2 * h + 1` its S-mode.
//!
//! Where QEMU 7.2 leaves the specification, the specification is followed: a source that is still high when
//! its interrupt is completed pends again at once, a completion counts only from a context that has the source
//! enabled, and a claim does not look at the threshold.

use isa::Width;

use crate::Refused;

/// Sources are numbered 1 to this: `riscv,ndev` of QEMU 7.2's `virt`.
pub const SOURCES: u32 = 96;
/// The most harts that a PLIC can serve.
pub const MAX_HARTS: usize = 8;
/// The highest priority: three bits are kept of what is written to a priority or a threshold.
pub const MAX_PRIORITY: u32 = 7;

const MAX_CONTEXTS: usize = 2 * MAX_HARTS;

/// A set of sources, bit `n` for source `n`.
type Sources = u128;

/// The sources that exist: all bits but 0 and those above [`SOURCES`].
const EXISTING: Sources = ((1 << (SOURCES + 1)) - 1) & !1;

/// Words in a bitmap of sources, source 0 included.
const BITMAP_WORDS: u64 = SOURCES as u64 / 32 + 1;

/// A register, each of 32 bits. What is not here reads 0 and ignores writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// The priority of a source, 1 to [`SOURCES`].
    Priority(u32),
    /// A word of the pending bits; read-only.
    Pending(u32),
    /// A word of a context's enable bits.
    Enable {
        /// Whose.
        context: usize,
        /// Which 32 sources.
        word: u32,
    },
    /// A context's threshold: only a higher priority interrupts.
    Threshold(usize),
    /// Reading claims an interrupt for the context; writing completes one.
    Claim(usize),
}

impl Register {
    /// The register at `offset`; its context may be beyond those of this PLIC.
    pub const fn at(offset: u64) -> Option<Self> {
        if !offset.is_multiple_of(4) {
            return None;
        }
        match offset {
            0..0x1000 => match offset / 4 {
                source @ 1.. if source <= SOURCES as u64 => Some(Self::Priority(source as u32)),
                _ => None,
            },
            0x1000..0x1080 if (offset - 0x1000) / 4 < BITMAP_WORDS => {
                Some(Self::Pending(((offset - 0x1000) / 4) as u32))
            }
            0x2000..0x20_0000 if offset % 0x80 / 4 < BITMAP_WORDS => Some(Self::Enable {
                context: ((offset - 0x2000) / 0x80) as usize,
                word: (offset % 0x80 / 4) as u32,
            }),
            0x20_0000..0x60_0000 => {
                let context = ((offset - 0x20_0000) / 0x1000) as usize;
                match offset % 0x1000 {
                    0 => Some(Self::Threshold(context)),
                    4 => Some(Self::Claim(context)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// What the PLIC keeps for each context.
#[derive(Clone, Copy, Debug, Default)]
struct Context {
    enabled: Sources,
    threshold: u32,
}

/// The interrupt controller of one virtual machine.
#[derive(Clone, Debug)]
pub struct Plic {
    /// How many of `contexts` exist.
    context_count: usize,
    contexts: [Context; MAX_CONTEXTS],
    priorities: [u32; SOURCES as usize + 1],
    /// The devices' lines.
    high: Sources,
    /// Requested and not yet claimed. Stays although the line falls; none of these is in service.
    pending: Sources,
    /// Claimed and not yet completed: the gateway forwards nothing more of such a source.
    in_service: Sources,
}

impl Plic {
    /// A PLIC in power-on state for `harts` harts, or [`MAX_HARTS`] where that is more.
    pub fn new(harts: usize) -> Self {
        Self {
            context_count: 2 * harts.min(MAX_HARTS),
            contexts: [Context::default(); MAX_CONTEXTS],
            priorities: [0; SOURCES as usize + 1],
            high: 0,
            pending: 0,
            in_service: 0,
        }
    }

    /// The S-mode context of hart `hart`.
    pub const fn supervisor_context(hart: usize) -> usize {
        hart.saturating_mul(2).saturating_add(1)
    }

    /// To power-on state, all lines low.
    pub fn reset(&mut self) {
        *self = Self::new(self.context_count / 2);
    }

    /// What OpenSBI has done when it enters a kernel: no context is interrupted, whatever the priority.
    pub fn initialize(&mut self) {
        for context in self.contexts.iter_mut().take(self.context_count) {
            context.threshold = MAX_PRIORITY;
        }
    }

    /// Sets the line of `source`; one that does not exist is ignored.
    pub fn set_level(&mut self, source: u32, high: bool) {
        let bit = bit(source);
        if high {
            self.high |= bit;
            self.pending |= bit & !self.in_service;
        } else {
            self.high &= !bit;
        }
    }

    /// The harts whose S-mode context is interrupted, bit `n` for hart `n`.
    #[inline]
    pub fn supervisors_interrupted(&self) -> u32 {
        // Asked after each access to a device, and nearly always so.
        if self.pending == 0 { 0 } else { self.find_supervisors_interrupted() }
    }

    #[inline(never)]
    fn find_supervisors_interrupted(&self) -> u32 {
        let is_interrupted = |hart: &usize| self.output(Self::supervisor_context(*hart));
        (0..self.context_count / 2).filter(is_interrupted).fold(0, |harts, hart| harts | 1 << hart)
    }

    /// Whether `context` is interrupted: a pending source that it has enabled is above its threshold.
    pub fn output(&self, context: usize) -> bool {
        self.context(context)
            .is_some_and(|c| self.best(c.enabled).is_some_and(|(_, priority)| priority > c.threshold))
    }

    /// Reads a register; words only. Reading [`Register::Claim`] claims.
    pub fn read(&mut self, offset: u64, width: Width) -> Result<u64, Refused> {
        if width != Width::Word {
            return Err(Refused);
        }
        let value = match Register::at(offset) {
            Some(Register::Priority(source)) => self.priority(source),
            Some(Register::Pending(word)) => word_of(self.pending, word),
            Some(Register::Enable { context, word }) => {
                self.context(context).map_or(0, |c| word_of(c.enabled, word))
            }
            Some(Register::Threshold(context)) => self.context(context).map_or(0, |c| c.threshold),
            Some(Register::Claim(context)) => self.claim(context),
            None => 0,
        };
        Ok(u64::from(value))
    }

    /// Writes a register; words only.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) -> Result<(), Refused> {
        if width != Width::Word {
            return Err(Refused);
        }
        let value = value as u32;
        match Register::at(offset) {
            Some(Register::Priority(source)) => {
                if let Some(priority) = self.priorities.get_mut(source as usize) {
                    *priority = value & MAX_PRIORITY;
                }
            }
            Some(Register::Enable { context, word }) => {
                if let Some(c) = self.context_mut(context) {
                    set_word(&mut c.enabled, word, value);
                }
            }
            Some(Register::Threshold(context)) => {
                if let Some(c) = self.context_mut(context) {
                    c.threshold = value & MAX_PRIORITY;
                }
            }
            Some(Register::Claim(context)) => self.complete(context, value),
            Some(Register::Pending(_)) | None => {}
        }
        Ok(())
    }

    /// "Interrupt Claim Process": the highest pending enabled source, which then no longer pends; 0 if none.
    fn claim(&mut self, context: usize) -> u32 {
        let Some((source, _)) = self.context(context).and_then(|c| self.best(c.enabled)) else { return 0 };
        self.pending &= !bit(source);
        self.in_service |= bit(source);
        source
    }

    /// "Interrupt Completion": ignored unless the context has the source enabled.
    fn complete(&mut self, context: usize, source: u32) {
        let enabled = self.context(context).map_or(0, |c| c.enabled);
        let completed = bit(source) & enabled & self.in_service;
        self.in_service &= !completed;
        self.pending |= completed & self.high;
    }

    /// The pending source of the highest priority among `enabled`, with that priority; the lowest of equals.
    /// Priority 0 never interrupts.
    fn best(&self, enabled: Sources) -> Option<(u32, u32)> {
        let mut left = self.pending & enabled;
        let mut best = None;
        let mut best_priority = 0;
        while left != 0 {
            let source = left.trailing_zeros();
            left &= left - 1;
            let priority = self.priority(source);
            if priority > best_priority {
                best_priority = priority;
                best = Some((source, priority));
            }
        }
        best
    }

    fn priority(&self, source: u32) -> u32 {
        self.priorities.get(source as usize).copied().unwrap_or(0)
    }

    fn context(&self, index: usize) -> Option<&Context> {
        self.contexts.get(..self.context_count)?.get(index)
    }

    fn context_mut(&mut self, index: usize) -> Option<&mut Context> {
        self.contexts.get_mut(..self.context_count)?.get_mut(index)
    }
}

/// The set of `source` alone; empty where there is no such source.
const fn bit(source: u32) -> Sources {
    if source <= SOURCES { (1 << source) & EXISTING } else { 0 }
}

/// Word `word`, below [`BITMAP_WORDS`], of `sources`.
const fn word_of(sources: Sources, word: u32) -> u32 {
    match sources.checked_shr(word.saturating_mul(32)) {
        Some(shifted) => shifted as u32,
        None => 0,
    }
}

fn set_word(sources: &mut Sources, word: u32, value: u32) {
    let shift = word.saturating_mul(32);
    let place = Sources::from(u32::MAX).checked_shl(shift).unwrap_or(0);
    let value = Sources::from(value).checked_shl(shift).unwrap_or(0);
    *sources = *sources & !place | value;
}

#[cfg(test)]
mod tests;
