//! Accessed and dirty bits. Priv. spec, "Virtual Address Translation Process", step 9: a hart either sets
//! them or faults (Svade); whichever it does, it does always.
#![no_std]
#![no_main]

use features::arena::{self, Arena, DATA, USER, frame_with, load, store, user_call, user_load, user_store};
use features::insn::{A0, ECALL, RET, ZERO, addi};
use features::{exception, exec, modes};
use guest_rt::isa::Exception::{self, *};
use guest_rt::paging::{self, Mode, Pte, RWX, leaf_size};
use guest_rt::trap::Trap;
use guest_rt::{access, check};

features::feature!(checks);

const A: u64 = Pte::A;
const D: u64 = Pte::D;

fn checks(_hart: u64, _device_tree: u64) {
    for mode in modes() {
        let arena = Arena::new(mode);
        let frame = exec::page(&[addi(A0, ZERO, 1), RET]);
        arena.map(DATA, frame, RWX & !A & !D);
        let updates = load(DATA).is_ok();
        let scheme = Scheme { arena, mode, updates, frame };
        scheme.supervisor();
        scheme.user();
        scheme.cleared_again();
        scheme.superpage();
        scheme.refused();
        paging::deactivate();
    }
}

struct Scheme {
    arena: Arena,
    mode: Mode,
    /// Whether the hart sets the bits, and not faults.
    updates: bool,
    frame: u64,
}

impl Scheme {
    /// With A and D as in `before`, `body` should leave `after`, or fault with `kind` and leave all as it is.
    fn expect<T>(
        &self,
        name: &str,
        flags: u64,
        after: u64,
        kind: Exception,
        body: impl FnOnce() -> Result<T, Trap>,
    ) {
        self.arena.map(DATA, self.frame, flags);
        let got = (exception(body()), self.arena.tables.get(DATA, 0));
        let lacks = after & !flags != 0;
        let wanted = match (lacks, self.updates) {
            (true, false) => (Some(kind), Pte::new(self.frame, flags)),
            _ => (None, Pte::new(self.frame, flags | after)),
        };
        check!(format_args!("{:?}_{name}", self.mode), got, wanted);
    }

    fn supervisor(&self) {
        let fresh = RWX & !A & !D;
        self.expect("load_sets_a_alone", fresh, A, LoadPageFault, || load(DATA));
        self.expect("fetch_sets_a_alone", fresh, A, InstructionPageFault, || access::call(DATA, 0));
        self.expect("store_sets_both", fresh, A | D, StorePageFault, || store(DATA, arena::peek(self.frame)));
        self.expect("store_sets_d", fresh | A, A | D, StorePageFault, || {
            store(DATA, arena::peek(self.frame))
        });
        self.expect("load_of_a_clean_page_leaves_it", fresh | A, A, LoadPageFault, || load(DATA));
        self.expect("load_sets_a_of_a_dirty_page", fresh | D, A | D, LoadPageFault, || load(DATA));
        self.expect("store_to_a_dirty_page_leaves_it", RWX, A | D, StorePageFault, || {
            store(DATA, arena::peek(self.frame))
        });
        let amo = 0x0005_352f; // amoadd.d a0, zero, (a0)
        let got = |flags| {
            self.arena.map(DATA, self.frame, flags);
            (exec::run(&[amo], DATA).is_ok(), self.arena.tables.get(DATA, 0).0 & (A | D))
        };
        let wanted = if self.updates { (true, A | D) } else { (false, 0) };
        check!(format_args!("{:?}_amo_sets_both", self.mode), got(fresh), wanted);
        let read_only = fresh & !Pte::W;
        self.expect("load_of_a_read_only_page_sets_a", read_only, A, LoadPageFault, || load(DATA));
    }

    fn user(&self) {
        self.arena.user_code(&arena::USER_ACCESSES);
        let fresh = (RWX | Pte::U) & !A & !D;
        let word = arena::peek(self.frame);
        self.expect("user_load_sets_a_alone", fresh, A, LoadPageFault, || user_load(DATA));
        self.expect("user_store_sets_both", fresh, A | D, StorePageFault, || user_store(DATA, word));
        let code = exec::page(&[ECALL]);
        self.arena.map(USER, code, fresh);
        let got = (exception(user_call(USER, 0, 0)), self.arena.tables.get(USER, 0));
        let wanted = if self.updates {
            (None, Pte::new(code, fresh | A))
        } else {
            (Some(InstructionPageFault), Pte::new(code, fresh))
        };
        check!(format_args!("{:?}_user_fetch_sets_a_alone", self.mode), got, wanted);
    }

    /// An operating system clears the bits to learn of use: after a fence they must be set anew.
    fn cleared_again(&self) {
        for round in 1..=3 {
            self.expect(
                ["", "first_store", "second_store", "third_store"][round],
                RWX & !A & !D,
                A | D,
                StorePageFault,
                || store(DATA, arena::peek(self.frame)),
            );
        }
        self.expect("a_is_set_anew_after_a_fence", RWX & !A, A | D, LoadPageFault, || load(DATA));
        self.expect("d_is_set_anew_after_a_fence", RWX & !D, A | D, StorePageFault, || {
            store(DATA, arena::peek(self.frame))
        });
    }

    fn superpage(&self) {
        let size = leaf_size(1);
        let virt = DATA + leaf_size(2);
        let phys = self.frame & !(size - 1);
        let target = virt + (self.frame & (size - 1));
        self.arena.set(virt, 1, Pte::new(phys, RWX & !A & !D));
        let loaded = load(target).is_ok();
        let after_load = self.arena.tables.get(virt, 1).0 & (A | D);
        let stored = store(target, arena::peek(self.frame)).is_ok();
        let after_store = self.arena.tables.get(virt, 1).0 & (A | D);
        let wanted = if self.updates { (true, A, true, A | D) } else { (false, 0, false, 0) };
        let got = (loaded, after_load, stored, after_store);
        check!(format_args!("{:?}_superpage_has_its_own_bits", self.mode), got, wanted);
    }

    /// A refused access must not mark the page dirty.
    fn refused(&self) {
        self.arena.map(DATA, self.frame, (RWX & !Pte::W) & !D);
        let got = (exception(store(DATA, 0)), self.arena.tables.get(DATA, 0).0 & D);
        check!(format_args!("{:?}_refused_store_leaves_d", self.mode), got, (Some(StorePageFault), 0));
        self.arena.map(DATA, frame_with(0), (RWX | Pte::U) & !A & !D);
        let got = (exception(store(DATA, 0)), self.arena.tables.get(DATA, 0).0 & D);
        check!(format_args!("{:?}_store_to_a_user_page_leaves_d", self.mode), got, (Some(StorePageFault), 0));
        let root = self.arena.tables.get(DATA, self.mode.levels() - 1);
        check!(format_args!("{:?}_pointers_have_neither_bit", self.mode), root.0 & (A | D), 0u64);
    }
}
