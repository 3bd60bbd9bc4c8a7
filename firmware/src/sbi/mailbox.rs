//! What harts ask of each other: an interrupt for S-mode, a fence. The request is left in the other hart's mailbox,
//! and a software interrupt of M-mode makes it look there.

use crate::csr::{self, interrupt};
use crate::{hart, map};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use firmware::harts::MAX_HARTS;

/// A kind of fence.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Of instructions: fence.i.
    Instructions,
    /// Of translations: sfence.vma.
    Memory,
}

impl Kind {
    /// Fences on this hart.
    pub fn carry_out(self) {
        match self {
            Self::Instructions => hart::fence_instructions(),
            Self::Memory => hart::fence_memory(),
        }
    }
}

/// Fences of one kind: how many were asked for, and how many of them are done.
struct Fences {
    asked: AtomicU64,
    done: AtomicU64,
}

impl Fences {
    const fn new() -> Self {
        Self { asked: AtomicU64::new(0), done: AtomicU64::new(0) }
    }
}

struct Mailbox {
    interrupt: AtomicBool,
    /// By `Kind`.
    fences: [Fences; 2],
}

impl Mailbox {
    const fn new() -> Self {
        Self { interrupt: AtomicBool::new(false), fences: [const { Fences::new() }; 2] }
    }
}

static MAILBOXES: [Mailbox; MAX_HARTS] = [const { Mailbox::new() }; MAX_HARTS];

/// Makes a software interrupt of S-mode pend on a hart.
pub fn interrupt(target: usize) {
    if target == hart::id() {
        csr::set!("mip", interrupt::SUPERVISOR_SOFTWARE);
    } else {
        MAILBOXES[target].interrupt.store(true, Ordering::SeqCst);
        ring(target);
    }
}

/// Asks another hart for a fence. It is done when `is_done` says so for the ticket.
pub fn ask(target: usize, kind: Kind) -> u64 {
    let ticket = MAILBOXES[target].fences[kind as usize].asked.fetch_add(1, Ordering::SeqCst) + 1;
    ring(target);
    ticket
}

/// Whether a fence that was asked for is done.
pub fn is_done(target: usize, kind: Kind, ticket: u64) -> bool {
    MAILBOXES[target].fences[kind as usize].done.load(Ordering::SeqCst) >= ticket
}

/// Wakes a hart, or makes it look into its mailbox.
pub fn ring(target: usize) {
    // What was written before is seen by who is interrupted.
    // SAFETY: orders memory before devices, no more.
    unsafe { core::arch::asm!("fence rw, o", options(nostack)) };
    map::msip(target).write(1);
}

/// Does what this hart was asked to.
pub fn serve(own: usize) {
    map::msip(own).write(0);
    // SAFETY: orders devices before memory: what is left from now on rings again.
    unsafe { core::arch::asm!("fence o, rw", options(nostack)) };
    let mailbox = &MAILBOXES[own];
    if mailbox.interrupt.swap(false, Ordering::SeqCst) {
        csr::set!("mip", interrupt::SUPERVISOR_SOFTWARE);
    }
    for kind in [Kind::Instructions, Kind::Memory] {
        let fences = &mailbox.fences[kind as usize];
        let asked = fences.asked.load(Ordering::SeqCst);
        if asked != fences.done.load(Ordering::SeqCst) {
            kind.carry_out();
            fences.done.store(asked, Ordering::SeqCst);
        }
    }
}
