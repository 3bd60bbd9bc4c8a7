//! Fences that QEMU's hart does not need: it forgets all translations at each SFENCE.VMA, whatever its operands, and at each
//! change of satp. Kernels that were written on it may fence less than the specification asks for.
#![no_std]
#![no_main]

use features::arena::{DATA, frame_with, load, store};
use features::native::native;
use features::{fault, outcome};
use guest_rt::isa::Exception::{LoadPageFault, StorePageFault};
use guest_rt::isa::csr::sstatus;
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, Tables, fence_address, fence_all, fence_asid};
use guest_rt::{check, csr_clear, csr_read, csr_set, csr_write};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    without_asids();
    a_root_used_again();
    with_asids();
    wrong_operands();
    rights();
    often();
}

/// A tree with the kernel and a page at DATA.
fn space(frame: u64) -> Tables {
    let tables = Tables::with_kernel(Mode::Sv39);
    map(&tables, frame, RW);
    tables
}

fn map(tables: &Tables, frame: u64, flags: u64) {
    tables.map(DATA, frame, 0, flags);
}

fn switch(tables: &Tables, asid: u16) {
    csr_write!(SATP, tables.satp(asid));
}

/// Whatever is changed in a space while another is active, or none, is seen when it is active again.
fn without_asids() {
    let [one, two] = [1, 2].map(frame_with);
    let (first, second) = (space(one), space(two));
    fence_all();
    switch(&first, 0);
    check!("the_first_space_at_first", load(DATA).unwrap_or(0), 1u64);
    let elsewhere = |change: &dyn Fn()| {
        switch(&second, 0);
        change();
        switch(&first, 0);
    };
    elsewhere(&|| map(&first, two, RW));
    check!("a_page_moved_while_another_space_is_active", load(DATA).unwrap_or(0), 2u64);
    elsewhere(&|| map(&first, two, 0));
    check!("a_page_taken_away", outcome(load(DATA)), fault(LoadPageFault, DATA));
    elsewhere(&|| map(&first, one, RW));
    check!("a_page_given_back", load(DATA).unwrap_or(0), 1u64);
    elsewhere(&|| map(&first, one, RW & !Pte::W));
    check!("a_page_made_read_only", outcome(store(DATA, 7)), fault(StorePageFault, DATA));
    paging::deactivate();
    map(&first, two, RW);
    switch(&first, 0);
    check!("a_page_moved_while_translation_is_off", load(DATA).unwrap_or(0), 2u64);
    paging::deactivate();
}

/// A process ends, and its root becomes another one's.
fn a_root_used_again() {
    let [one, two] = [1, 2].map(frame_with);
    let (first, other) = (space(one), space(one));
    fence_all();
    switch(&first, 0);
    let before = load(DATA).unwrap_or(0);
    switch(&other, 0);
    let fresh = space(two);
    first.set(DATA, 2, fresh.get(DATA, 2));
    switch(&first, 0);
    check!("a_root_that_leads_elsewhere", (before, load(DATA).unwrap_or(0)), (1u64, 2u64));
    paging::deactivate();
}

fn with_asids() {
    let [one, two] = [1, 2].map(frame_with);
    let (first, second) = (space(one), space(one));
    fence_all();
    switch(&first, 7);
    let before = load(DATA).unwrap_or(0);
    switch(&second, 8);
    map(&first, two, RW);
    switch(&first, 7);
    check!("a_page_moved_in_a_space_with_an_asid", (before, load(DATA).unwrap_or(0)), (1u64, 2u64));
    paging::deactivate();
}

/// Each fence names something else than what was changed.
fn wrong_operands() {
    let [one, two] = [1, 2].map(frame_with);
    let tables = space(one);
    fence_all();
    switch(&tables, 5);
    let fences: [(&str, &dyn Fn()); 4] = [
        ("the_pages_number", &|| fence_address(DATA / PAGE)),
        ("the_next_page", &|| fence_address(DATA + PAGE)),
        ("another_asid", &|| fence_asid(6)),
        ("its_asid_though_it_was_global", &|| fence_asid(5)),
    ];
    for (name, fence) in fences {
        map(&tables, one, RW | Pte::G);
        fence_all();
        let before = load(DATA).unwrap_or(0);
        map(&tables, two, RW);
        fence();
        check!(format_args!("fenced_{name}"), (before, load(DATA).unwrap_or(0)), (1u64, 2u64));
    }
    paging::deactivate();
}

/// QEMU 7.2 forgets everything where SUM or MXR changes. Later ones do so for MXR only.
fn rights() {
    let [one, two] = [1, 2].map(frame_with);
    let tables = space(one);
    fence_all();
    switch(&tables, 5);
    for (name, bit) in [("sum", sstatus::SUM), ("mxr", sstatus::MXR)] {
        map(&tables, one, RW);
        fence_all();
        let before = load(DATA).unwrap_or(0);
        map(&tables, two, RW);
        csr_set!(SSTATUS, bit);
        csr_clear!(SSTATUS, bit);
        let after = load(DATA).unwrap_or(0);
        check!(format_args!("{name}_switched_on_and_off"), before == 1 && (after == 2 || native()));
    }
    paging::deactivate();
}

/// The same again and again: what is hot is served otherwise, and tables that seem to stay as they are change after all.
fn often() {
    let frames = [1, 2].map(frame_with);
    let (first, second) = (space(frames[0]), space(frames[1]));
    let mut wrong = 0;
    for round in 0..4000 {
        let number = round / 40 % 2;
        map(&first, frames[number], RW);
        switch(&first, 0);
        wrong += u64::from(load(DATA).unwrap_or(0) != number as u64 + 1);
        if round % 3 == 0 {
            map(&first, frames[1 - number], RW);
            csr_write!(SATP, csr_read!(SATP) | 1 << 44);
            wrong += u64::from(load(DATA).unwrap_or(0) != 2 - number as u64);
        }
        switch(&second, 0);
        wrong += u64::from(load(DATA).unwrap_or(0) != 2);
    }
    paging::deactivate();
    check!("four_thousand_switches_see_what_the_tables_say", wrong, 0u64);
}
