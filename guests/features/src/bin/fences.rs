//! SFENCE.VMA in its four forms, and what may be seen without one. Priv. spec, "Supervisor Memory-Management
//! Fence Instruction".
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{self, Arena, DATA, frame_with, load, store, user_load};
use features::{exception, exec, fault, insn, modes, outcome};
use guest_rt::isa::Exception::*;
use guest_rt::isa::Width;
use guest_rt::paging::{
    self, Mode, PAGE, Pte, RW, fence_address, fence_address_asid, fence_all, fence_asid, leaf_size,
};
use guest_rt::trap::catch;
use guest_rt::{access, check, check_any};

features::feature!(checks);

/// The address space that the tests run in.
const ASID: u16 = 7;

fn checks(_hart: u64, _device_tree: u64) {
    without_translation();
    for mode in modes() {
        let arena = Arena::new(mode);
        arena.tables.activate(ASID);
        let stage = Stage { arena, mode };
        stage.four_forms();
        stage.odd_operands();
        stage.without_a_fence();
        stage.rights();
        stage.upper_levels();
        stage.user_mode();
        stage.svinval();
        stage.seldom_changed();
        paging::deactivate();
    }
}

/// A fence of everything that is executed often.
#[inline(never)]
fn fence_hot() {
    fence_all();
}

fn without_translation() {
    let trap = catch(|| {
        fence_all();
        fence_address(DATA);
        fence_asid(1);
        fence_address_asid(DATA, 1);
    });
    check!("all_forms_are_legal_without_translation", trap, None);
}

struct Stage {
    arena: Arena,
    mode: Mode,
}

impl Stage {
    /// Maps DATA to 1 and reads it, then maps it to 2 behind the hart's back, and gives what a load sees
    /// after `fence`.
    fn remap(&self, global: u64, fence: impl FnOnce()) -> u64 {
        self.arena.map(DATA, frame_with(1), RW | global);
        let primed = load(DATA).is_ok_and(|value| value == 1);
        self.arena.tables.map(DATA, frame_with(2), 0, RW | global);
        fence();
        if primed { load(DATA).unwrap_or(0) } else { 0 }
    }

    fn four_forms(&self) {
        let mode = self.mode;
        let asid = u64::from(ASID);
        check!(format_args!("{mode:?}_fence_of_all"), self.remap(0, fence_all), 2u64);
        check!(format_args!("{mode:?}_fence_of_an_address"), self.remap(0, || fence_address(DATA)), 2u64);
        check!(format_args!("{mode:?}_fence_of_an_asid"), self.remap(0, || fence_asid(asid)), 2u64);
        let both = self.remap(0, || fence_address_asid(DATA, asid));
        check!(format_args!("{mode:?}_fence_of_an_address_in_an_asid"), both, 2u64);
        check!(format_args!("{mode:?}_fence_of_all_takes_global_pages"), self.remap(Pte::G, fence_all), 2u64);
        let address = self.remap(Pte::G, || fence_address(DATA));
        check!(format_args!("{mode:?}_fence_of_an_address_takes_global_pages"), address, 2u64);
        let spared = self.remap(Pte::G, || fence_asid(asid));
        check_any!(format_args!("{mode:?}_fence_of_an_asid_may_spare_global_pages"), spared, [1, 2]);
        fence_all();
    }

    /// Tables that are fenced again and again and nearly never changed: a hypervisor may get used to that. Each part has a
    /// last table of its own, for the hypervisor may lose that habit, too.
    fn seldom_changed(&self) {
        self.device(DATA + (16 << 20));
        self.arena.user_code(&arena::USER_ACCESSES);
        self.written("in_place", DATA + (32 << 20));
        self.written("by_an_alias", DATA + (48 << 20));
        self.written("by_user_mode", DATA + (64 << 20));
        self.clean_page(DATA + (80 << 20));
        self.pointer(DATA + (96 << 20));
    }

    fn written(&self, way: &str, at: u64) {
        let mode = self.mode;
        self.arena.map(at, frame_with(0), RW);
        let table = self.arena.tables.slot(at, 0) as u64 & !(PAGE - 1);
        let alias = at + leaf_size(1);
        self.arena.map(alias, table, if way == "by_user_mode" { arena::USER_RWX } else { RW });
        let slot = 8 * paging::index(at, 0) as u64 + if way == "in_place" { table } else { alias };
        let mut wrong = 0;
        for value in 1..4 {
            for _ in 0..200 {
                fence_hot();
                wrong += u64::from(load(at) != Ok(value - 1));
            }
            let entry = Pte::new(frame_with(value), RW).0;
            let stored =
                if way == "by_user_mode" { arena::user_store(slot, entry) } else { store(slot, entry) };
            fence_hot();
            wrong += u64::from(stored.is_err() || load(at) != Ok(value));
        }
        check!(format_args!("{mode:?}_table_fenced_often_and_written_{way}"), wrong, 0u64);
    }

    /// What the hart itself writes to a table: A and D.
    fn clean_page(&self, at: u64) {
        self.arena.map(at, frame_with(7), RW & !Pte::D);
        for _ in 0..200 {
            fence_hot();
            let _ = load(at); // Only that it is used.
        }
        let before = self.arena.tables.get(at, 0).has(Pte::D);
        let mode = self.mode;
        let name = format_args!("{mode:?}_clean_page_fenced_often_faults_or_gets_dirty");
        match store(at, 8) {
            Ok(()) => check!(name, (before, self.arena.tables.get(at, 0).has(Pte::D)), (false, true)),
            Err(trap) => check!(name, trap.is(StorePageFault)),
        }
    }

    fn pointer(&self, at: u64) {
        self.arena.map(at, frame_with(7), RW);
        for _ in 0..200 {
            fence_hot();
            let _ = load(at); // Only that it is used.
        }
        self.arena.tables.set(at, 1, Pte(0));
        fence_hot();
        let mode = self.mode;
        let name = format_args!("{mode:?}_pointer_fenced_often_and_taken_away");
        check!(name, exception(load(at)), Some(LoadPageFault));
    }

    /// A page that is one of the PLIC's registers, then another, for the same load.
    fn device(&self, at: u64) {
        const PRIORITIES: u64 = 0x0c00_0000;
        const PENDING: u64 = 0x0c00_1000;
        const OF_SOURCE_1: u64 = 4;
        #[inline(never)]
        fn register(page: u64) -> Option<u64> {
            access::load(Width::Word, page + OF_SOURCE_1).ok()
        }
        let mode = self.mode;
        self.arena.map(at, PRIORITIES, RW);
        let stored = access::store(Width::Word, at + OF_SOURCE_1, 5);
        let mut wrong = u64::from(stored.is_err());
        for _ in 0..200 {
            fence_hot();
            wrong += u64::from(register(at) != Some(5));
        }
        for (page, value) in [(PENDING, 0), (PRIORITIES, 5), (PENDING, 0)] {
            self.arena.tables.map(at, page, 0, RW);
            fence_hot();
            wrong += u64::from(register(at) != Some(value));
        }
        check!(format_args!("{mode:?}_device_page_fenced_often_and_mapped_elsewhere"), wrong, 0u64);
        self.arena.map(at, frame_with(0), 0);
    }

    fn odd_operands(&self) {
        let mode = self.mode;
        let inside = self.remap(0, || fence_address(DATA + 0xabc));
        check!(format_args!("{mode:?}_any_address_of_the_page_will_do"), inside, 2u64);
        let excess = self.remap(0, || fence_asid(u64::from(ASID) | 0xdead << 16));
        check!(format_args!("{mode:?}_excess_asid_bits_are_ignored"), excess, 2u64);
        let wrong = 1 << 63 | DATA;
        let trap = catch(|| {
            fence_address(wrong);
            fence_address_asid(wrong, 1);
            fence_address(u64::MAX);
        });
        check!(format_args!("{mode:?}_an_address_that_is_not_canonical_does_nothing"), trap, None);
        let other = self.remap(0, || fence_address(DATA + PAGE));
        check_any!(format_args!("{mode:?}_a_fence_elsewhere_may_leave_the_page"), other, [1, 2]);
        let other = self.remap(0, || fence_asid(u64::from(ASID) + 1));
        check_any!(format_args!("{mode:?}_a_fence_of_another_asid_may_leave_the_page"), other, [1, 2]);
        fence_all();
    }

    fn without_a_fence(&self) {
        let mode = self.mode;
        check_any!(format_args!("{mode:?}_without_a_fence_old_or_new"), self.remap(0, || ()), [1, 2]);
        self.arena.set(DATA, 0, Pte(0));
        check!(format_args!("{mode:?}_unmapped"), outcome(load(DATA)), fault(LoadPageFault, DATA));
        self.arena.tables.map(DATA, frame_with(3), 0, RW);
        let early = outcome(load(DATA));
        check_any!(
            format_args!("{mode:?}_a_new_page_without_a_fence_works_or_faults"),
            early,
            [Ok(3), fault(LoadPageFault, DATA)]
        );
        fence_address(DATA);
        check!(format_args!("{mode:?}_a_new_page_with_a_fence_works"), outcome(load(DATA)), Ok(3));
    }

    fn rights(&self) {
        let mode = self.mode;
        let frame = frame_with(4);
        self.arena.map(DATA, frame, RW);
        check!(format_args!("{mode:?}_writable_at_first"), outcome(store(DATA, 5)), Ok(()));
        self.arena.tables.map(DATA, frame, 0, RW & !Pte::W);
        fence_address(DATA);
        check!(
            format_args!("{mode:?}_write_right_taken"),
            outcome(store(DATA, 6)),
            fault(StorePageFault, DATA)
        );
        check!(format_args!("{mode:?}_read_right_kept"), outcome(load(DATA)), Ok(5));
        self.arena.tables.map(DATA, frame, 0, RW);
        let early = outcome(store(DATA, 5));
        check_any!(
            format_args!("{mode:?}_write_right_given_without_a_fence_works_or_faults"),
            early,
            [Ok(()), fault(StorePageFault, DATA)]
        );
        fence_address_asid(DATA, ASID.into());
        check!(format_args!("{mode:?}_write_right_given_with_a_fence"), outcome(store(DATA, 7)), Ok(()));
        self.arena.tables.set(DATA, 0, Pte(0));
        fence_address(DATA);
        check!(
            format_args!("{mode:?}_unmapped_with_a_fence"),
            outcome(load(DATA)),
            fault(LoadPageFault, DATA)
        );
    }

    /// Changes a pointer, and a superpage.
    fn upper_levels(&self) {
        let mode = self.mode;
        self.arena.map(DATA, frame_with(8), RW);
        let _ = load(DATA);
        let table = paging::frame();
        arena::poke(table, Pte::new(frame_with(9), RW).0); // DATA's index at level 0 is 0
        let old = self.arena.tables.get(DATA, 1);
        self.arena.tables.set(DATA, 1, Pte::new(table, Pte::V));
        fence_all();
        check!(format_args!("{mode:?}_a_new_table_with_a_fence"), outcome(load(DATA)), Ok(9));
        self.arena.tables.set(DATA, 1, old);
        // A fence of an address orders its leaf only.
        fence_address(DATA);
        check_any!(
            format_args!("{mode:?}_a_fence_of_an_address_may_leave_the_tables"),
            outcome(load(DATA)),
            [Ok(8), Ok(9)]
        );
        fence_all();
        check!(format_args!("{mode:?}_the_old_table_with_a_fence"), outcome(load(DATA)), Ok(8));

        let virt = DATA + leaf_size(2);
        let size = leaf_size(1);
        let frame = frame_with(10);
        let at = virt + frame % size;
        self.arena.set(virt, 1, Pte::new(frame - frame % size, RW));
        let before = outcome(load(at));
        self.arena.tables.set(virt, 1, Pte(0));
        fence_address(virt + size - 8);
        check!(
            format_args!("{mode:?}_a_fence_anywhere_in_a_superpage_takes_it_whole"),
            (before, outcome(load(at))),
            (Ok(10), fault(LoadPageFault, at))
        );
    }

    fn user_mode(&self) {
        let mode = self.mode;
        self.arena.user_code(&arena::USER_ACCESSES);
        self.arena.map(DATA, frame_with(11), RW | Pte::U);
        let before = outcome(user_load(DATA));
        self.arena.tables.map(DATA, frame_with(12), 0, RW | Pte::U);
        fence_address_asid(DATA, ASID.into());
        check!(
            format_args!("{mode:?}_user_mode_sees_the_change"),
            (before, outcome(user_load(DATA))),
            (Ok(11), Ok(12))
        );
    }

    /// Svinval's three instructions, where the hart has them: all or none.
    fn svinval(&self) {
        let mode = self.mode;
        let [inval_begin, inval, inval_end] = [0x1800_0073u32, 0x1600_0073, 0x1810_0073];
        let probes = [inval_begin, inval, inval_end].map(|word| exception(exec::run(&[word], 0)));
        let none = Some(IllegalInstruction);
        check_any!(
            format_args!("{mode:?}_svinval_is_there_whole_or_not_at_all"),
            probes,
            [[None; 3], [none; 3]]
        );
        if probes == [None; 3] {
            let seen = self.remap(0, || {
                // SAFETY: fences that were just seen to be legal: SINVAL.VMA x0, x0 between its brackets.
                unsafe { asm!(".word 0x18000073", ".word 0x16000073", ".word 0x18100073") }
            });
            check!(format_args!("{mode:?}_sinval_between_its_fences"), seen, 2u64);
        }
        check!(format_args!("{mode:?}_fence_i_is_legal"), exception(exec::run(&[insn::FENCE_I], 0)), None);
    }
}
