//! The hart that this runs on: what it has, the state that goes with a vCPU, and how a guest is run, interrupted and
//! fenced. The way into the guest and out of it is `switch`.

use core::sync::atomic::{AtomicPtr, Ordering};

use isa::csr::sstatus;
use isa::errata::{Errata, Erratum};
use isa::paging::Mode;
use isa::{Privilege, TrapInfo};
use trace::HartCounts;
use vhart::units::Held;
use vhart::{RootSatp, VcpuFrame};

use crate::csr;
use crate::errata;
use crate::fast;
use crate::firmware;
use crate::float;
use crate::switch::{exit, switch};

/// What this hart has, as far as it differs between harts.
#[derive(Clone, Copy, Debug)]
pub struct HartFeatures {
    /// satp holds at least this many ASID bits.
    pub asid_bits: u32,
    /// There is a senvcfg.
    pub senvcfg: bool,
    /// cycle and instret can be read.
    pub counters: bool,
    /// Bytes of a vector register; 0 where there is no V.
    pub vlenb: usize,
    /// The timer is set by a CSR, stimecmp.
    pub sstc: bool,
}

/// The state of the real hart that is kept from one run to the next.
#[derive(Debug)]
pub struct Hart {
    features: HartFeatures,
    errata: Errata,
    /// How it translates addresses.
    mode: Mode,
    counts: HartCounts,
    senvcfg: u64,
    scounteren: u64,
    /// Whose values the floating-point and the vector registers hold.
    held: Held,
    /// The next change of the root is to forget all that was cached: a vCPU has come that shares its ASIDs.
    shares_asids: bool,
}

/// The frame of the guest that was entered last, for a panic's epitaph.
static RUNNING: AtomicPtr<VcpuFrame> = AtomicPtr::new(core::ptr::null_mut());

/// The registers of the guest that was entered last, if any was. For a panic's epitaph only.
pub fn last_frame() -> Option<&'static VcpuFrame> {
    let frame = RUNNING.load(Ordering::Relaxed);
    // SAFETY: frames belong to vCPUs, which live as long as the hypervisor; after a panic nobody writes one.
    unsafe { frame.as_ref() }
}

/// Bits of sie that the hypervisor wants: software, timer and external.
const SIE: u64 = 1 << 1 | STIE | 1 << 9;
/// The timer's bit of sie.
const STIE: u64 = 1 << 5;

/// Bits of sstatus that are clear while the hypervisor runs, but around its own access to a unit's registers: *plain-sstatus*,
/// *interrupts-off*.
const NEVER_SET: u64 = sstatus::SIE | sstatus::SUM | sstatus::MXR | sstatus::FS | sstatus::VS;

impl Hart {
    /// Takes over the hart that this runs on: finds its features and lets its interrupts end a guest's run.
    ///
    /// Interrupts stay off while the hypervisor runs: sstatus.SIE is never set, *interrupts-off*. `sstc` and `vector` are whether
    /// its ISA is said to have Sstc and V; whether the firmware lets us use the first is tried.
    pub fn take_over(sstc: bool, vector: bool) -> Self {
        // Firmware may have left a unit on.
        csr::write!("sstatus", sstatus::UXL_64);
        let counters = csr::probe!("cycle").is_some() && csr::probe!("instret").is_some();
        let senvcfg = csr::probe!("senvcfg").is_some();
        let sstc = sstc && csr::probe!("0x14d").is_some();
        let vlenb = if vector { float::vector_length() } else { 0 };
        let satp = csr::read!("satp");
        const ASID: u64 = 0xffff << 44;
        csr::write!("satp", satp | ASID);
        let asid_bits = (csr::read!("satp") & ASID).count_ones();
        csr::write!("satp", satp);
        csr::write!("sie", SIE);
        let mut hart = Self {
            features: HartFeatures { asid_bits, senvcfg, counters, vlenb, sstc },
            errata: errata::of_this_hart(),
            mode: Mode::from_code(satp >> 60).unwrap_or(Mode::Bare),
            counts: HartCounts::default(),
            // Not what a guest is given, so the first run sets both.
            senvcfg: u64::MAX,
            scounteren: u64::MAX,
            held: Held::default(),
            shares_asids: false,
        };
        // What the firmware has left there means nothing.
        hart.silence_timer();
        hart.flush_all();
        hart.counts = HartCounts::default();
        hart
    }

    /// What the hart has.
    pub fn features(&self) -> HartFeatures {
        self.features
    }

    /// How often the hart did what.
    pub fn counts(&self) -> HartCounts {
        self.counts
    }

    /// Takes a vCPU on, which runs here until `leave`. What its unit's registers hold is loaded when it turns the unit on,
    /// if another's is there (*own-units*). `shares_asids` is whether the hart may have cached what others have under the ASIDs of
    /// this one.
    pub fn enter(&mut self, frame: &mut VcpuFrame, shares_asids: bool) {
        assert!(csr::read!("sstatus") & NEVER_SET == 0, "sstatus is not plain");
        RUNNING.store(frame, Ordering::Relaxed);
        self.shares_asids = shares_asids;
        // Another vCPU's reservation is not to be this one's.
        self.break_reservation();
        frame.guarded = sstatus::MXR | frame.csr.unit_mask() & self.held.missing(&frame.units);
    }

    /// Lets a vCPU go: what it may have changed of its units' registers is saved.
    pub fn leave(&mut self, frame: &mut VcpuFrame) {
        let present = frame.csr.unit_mask() & !frame.guarded;
        if present & sstatus::FS != 0 {
            float::save(&mut frame.units);
            self.held.saved_float(&mut frame.units);
        }
        if present & sstatus::VS != 0 {
            float::save_vector(&mut frame.units);
            self.held.saved_vector(&mut frame.units);
        }
        frame.guarded |= frame.csr.unit_mask();
    }

    /// Loads the registers of units that the guest has turned on.
    #[cold]
    fn load_units(&mut self, frame: &mut VcpuFrame) {
        let wanted = frame.csr.unit_states() & frame.guarded;
        let mut loaded = 0;
        if wanted & sstatus::FS != 0 {
            float::load(&frame.units);
            self.held.loaded_float(&frame.units);
            loaded |= sstatus::FS;
        }
        if wanted & sstatus::VS != 0 {
            float::load_vector(&frame.units);
            self.held.loaded_vector(&frame.units);
            loaded |= sstatus::VS;
        }
        frame.take_units(loaded);
    }

    /// Runs a guest in user mode under a shadow root, until it traps and Rust is to serve that.
    // A call of its own would cost each exit 5 % more.
    #[inline(always)]
    pub fn run(&mut self, frame: &mut VcpuFrame, root: RootSatp) -> TrapInfo {
        // The fast path may have changed it.
        if csr::read!("satp") != root.bits() {
            // The shadow root carries the hypervisor's window, so this code stays mapped.
            csr::write!("satp", root.bits());
            // Not before: until then the hart may cache what it likes under the root of the vCPU that has left.
            if core::mem::take(&mut self.shares_asids) {
                self.flush_all();
            } else if frame.fast.flushes_on_switch() {
                fence_all();
                frame.switch_flushes = frame.switch_flushes.wrapping_add(1);
            }
        }
        let senvcfg = frame.fast.senvcfg(frame.privilege);
        if senvcfg != self.senvcfg {
            self.senvcfg = senvcfg;
            if self.features.senvcfg {
                csr::write!("senvcfg", senvcfg);
            }
        }
        if frame.fast.switches_senvcfg() {
            self.senvcfg = u64::MAX;
        }
        let counters = frame.csr.native_counters();
        if counters != self.scounteren {
            self.scounteren = counters;
            csr::write!("scounteren", counters);
        }
        self.counts.runs = self.counts.runs.wrapping_add(1);
        if frame.csr.unit_states() & frame.guarded != 0 {
            self.load_units(frame);
        }
        // SPP, SUM and MXR are clear, and user mode does not ask SIE.
        csr::write!("sstatus", sstatus::UXL_64 | sstatus::SPIE | frame.csr.unit_states());
        let vector = match frame.privilege {
            _ if !frame.fast.sites.is_fast() => exit,
            Privilege::User => fast::fast_vector_user,
            Privilege::Supervisor => fast::fast_vector,
        };
        // SAFETY: `switch` restores every register that the calling convention wants kept; the guest runs in user
        // mode under a root in which nothing of the hypervisor's is accessible to it.
        let trap = unsafe { switch(frame, vector) };
        frame.csr.take_unit_states(csr::read!("sstatus"));
        csr::write!("sstatus", sstatus::UXL_64);
        TrapInfo { cause: trap.cause, value: self.errata.trap_value(self.mode, trap.cause, trap.value) }
    }

    /// Forgets all address translations.
    pub fn flush_all(&mut self) {
        self.counts.flushes_all = self.counts.flushes_all.wrapping_add(1);
        fence_all();
    }

    /// Forgets the translation of one address, in all address spaces.
    pub fn flush_address(&mut self, address: u64) {
        if self.errata.has(Erratum::WeakAddressFence) {
            return self.flush_all();
        }
        self.counts.flushes_address = self.counts.flushes_address.wrapping_add(1);
        // SAFETY: a fence.
        unsafe { core::arch::asm!("sfence.vma {}, zero", in(reg) address, options(nostack)) };
    }

    /// Makes fetches see what was stored.
    pub fn fence_i(&self) {
        // SAFETY: a fence.
        unsafe { core::arch::asm!("fence.i", options(nostack)) };
    }

    /// Breaks a reservation that the vCPU before may have left.
    pub fn break_reservation(&self) {
        let mut word = 0_u64;
        // SAFETY: stores to a local variable, or not.
        unsafe {
            core::arch::asm!("sc.d zero, zero, ({})", in(reg) &raw mut word, options(nostack));
        }
    }

    /// Waits until an interrupt is pending.
    pub fn wait_for_interrupt(&self) {
        // SAFETY: interrupts are enabled in sie but not in sstatus, so the hart wakes and goes on.
        unsafe { core::arch::asm!("wfi", options(nomem, nostack)) };
    }

    /// The interrupts that are pending and enabled, as bits of sip.
    pub fn pending_interrupts(&self) -> u64 {
        csr::read!("sip") & csr::read!("sie")
    }

    /// Whether setting the timer is as cheap as a write of a CSR.
    pub fn sets_timer_cheaply(&self) -> bool {
        self.features.sstc
    }

    /// Has the timer interrupt this hart at `deadline`, in ticks; `u64::MAX` is never.
    pub fn set_timer(&self, deadline: u64) {
        if self.features.sstc {
            csr::write!("0x14d", deadline);
        } else {
            firmware::set_timer(deadline);
            // SAFETY: changes STIE only.
            unsafe { core::arch::asm!("csrs sie, {}", in(reg) STIE, options(nomem, nostack)) };
        }
    }

    /// Takes back the interrupt of a timer that has fired. Sstc: it is pending for as long as stimecmp is not later than
    /// time. Else it is masked, which is cheaper than a firmware call.
    pub fn silence_timer(&self) {
        if self.features.sstc {
            csr::write!("0x14d", u64::MAX);
        } else {
            // SAFETY: as above.
            unsafe { core::arch::asm!("csrc sie, {}", in(reg) STIE, options(nomem, nostack)) };
        }
    }

    /// Takes a software interrupt as served.
    pub fn clear_software_interrupt(&self) {
        // SAFETY: clears SSIP only.
        unsafe { core::arch::asm!("csrci sip, 2", options(nomem, nostack)) };
    }
}

/// Forgets all address translations.
fn fence_all() {
    // SAFETY: a fence.
    unsafe { core::arch::asm!("sfence.vma", options(nostack)) };
}
