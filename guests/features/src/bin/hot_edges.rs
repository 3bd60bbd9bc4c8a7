//! Hot code at the ends of pages: the last instruction of a page, one that is torn over a page's end, and the next page
//! missing, forbidden, remapped, patched.
#![no_std]
#![no_main]

use features::arena::{Arena, DATA};
use features::hot::{self, ECHO, ECHO_AT, GET, PUT, RUNS, Returned, SEPC, SSCRATCH, high, low, raised};
use features::insn::{A0, EBREAK, RET, ZERO, addi, csrrs};
use features::{exec, modes};
use guest_rt::isa::Exception::{self, Breakpoint, IllegalInstruction, InstructionPageFault};
use guest_rt::paging::{self, Mode, PAGE, Pte, RWX};
use guest_rt::{access, check, csr_read, csr_write};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    for mode in modes() {
        for tear in [TORN, WHOLE] {
            next_page_changes(mode, &tear);
            patched(mode, &tear);
        }
        first_page_changes(mode);
        breakpoints(mode);
        the_spaces_ends(mode);
    }
    untranslated();
}

/// Where the last site of a page is: its function puts a0 to sscratch and ends with what the pages' halves make.
struct Tear {
    name: &'static str,
    /// From the page's start.
    site: u64,
}

const TORN: Tear = Tear { name: "torn", site: PAGE - 2 };
const WHOLE: Tear = Tear { name: "whole", site: PAGE - 4 };

const EXECUTABLE: u64 = RWX & !Pte::W;
const THERE: u64 = DATA + PAGE;

impl Tear {
    /// A first page, whose last instruction is, or begins as, `site`.
    fn first(&self, site: u32) -> u64 {
        let page = hot::page(&[]);
        hot::write_halves(page + self.site - 4, &[low(PUT), high(PUT), low(site)]);
        if self.site + 4 <= PAGE {
            hot::write_halves(page + self.site + 2, &[high(site)]);
        }
        page
    }

    /// A second page, which begins with the upper half of `site` where it is torn, and with `next`.
    fn second(&self, site: u32, next: u32) -> u64 {
        let page = hot::page(&[]);
        hot::write_halves(page + self.rest(), &[low(next), high(next), low(RET), high(RET)]);
        if self.rest() == 2 {
            hot::write_halves(page, &[high(site)]);
        }
        page
    }

    /// Where the second page's own instructions begin.
    fn rest(&self) -> u64 {
        (self.site + 4).saturating_sub(PAGE)
    }

    fn entry(&self) -> u64 {
        DATA + self.site - 4
    }
}

/// Calls `entry` with sepc at [`MARK`].
fn call(entry: u64, argument: u64) -> Returned {
    csr_write!(SEPC, MARK);
    hot::call(entry, argument)
}

const MARK: u64 = 0x5554;

fn wrong(entry: u64, want: impl Fn(u64) -> Returned) -> u64 {
    (0..RUNS).filter(|&argument| call(entry, argument) != want(argument)).count() as u64
}

/// Reads sepc where [`GET`] reads sscratch: only the upper half differs.
const OTHER: u32 = csrrs(A0, SEPC, ZERO);

/// The second page is mapped to one frame, to another, to nothing, for others only, with each fence.
fn next_page_changes(mode: Mode, tear: &Tear) {
    let arena = Arena::new(mode);
    let torn = tear.rest() == 2;
    arena.map(DATA, tear.first(GET), EXECUTABLE);
    // Where the instruction is whole, the second page's first one makes the difference.
    let same = tear.second(GET, PUT);
    let other = if torn { tear.second(OTHER, PUT) } else { tear.second(0, OTHER) };
    let (mut went, mut faults) = (0, 0);
    for round in 0..12 {
        let change = |entry: Pte| {
            arena.tables.set(THERE, 0, entry);
            match round % 3 {
                0 => paging::fence_all(),
                1 => paging::fence_address(THERE),
                _ => paging::fence_address_asid(THERE, 0),
            }
        };
        change(Pte::new(same, EXECUTABLE));
        went += wrong(tear.entry(), Ok) + hot::heat(THERE + ECHO_AT);
        change(Pte::new(other, EXECUTABLE));
        went += wrong(tear.entry(), |_| Ok(MARK)) + hot::heat(THERE + ECHO_AT);
        let forbidden = [Pte(0), Pte::new(same, EXECUTABLE | Pte::U), Pte::new(same, EXECUTABLE & !Pte::X)];
        change(forbidden[round % 3]);
        for argument in 0..RUNS / 4 {
            // Priv. spec, "Supervisor Trap Value": where an instruction crosses a page, stval is the part that faulted.
            let trap = access::call(tear.entry(), argument).err();
            let got = trap.map(|trap| (Exception::from_code(trap.cause), trap.tval, trap.epc));
            let begins = if torn { DATA + tear.site } else { THERE };
            faults += u64::from(got != Some((Some(InstructionPageFault), THERE, begins)));
        }
    }
    check!(format_args!("{mode:?}_{}_the_next_page_is_remapped", tear.name), went, 0);
    check!(format_args!("{mode:?}_{}_the_next_page_faults", tear.name), faults, 0);
    check!(format_args!("{mode:?}_{}_the_first_page_is_whole", tear.name), hot::heat(DATA + ECHO_AT), 0);
    paging::deactivate();
}

/// The first page alone changes, so that the second half belongs to another instruction.
fn first_page_changes(mode: Mode) {
    let arena = Arena::new(mode);
    // lui a0 with the upper half of the csrr.
    let lui = u32::from(high(GET)) << 16 | 0x0537;
    let firsts = [(TORN.first(GET), None), (TORN.first(lui), Some(u64::from(lui & 0xffff_0000)))];
    arena.map(THERE, TORN.second(GET, PUT), EXECUTABLE);
    let mut went = 0;
    for round in 0..10 {
        let (page, value) = firsts[round % 2];
        arena.tables.set(DATA, 0, Pte::new(page, EXECUTABLE));
        paging::fence_address(DATA);
        went += wrong(TORN.entry(), |argument| Ok(value.unwrap_or(argument)));
        went += hot::heat(DATA + ECHO_AT) + hot::heat(THERE + ECHO_AT);
    }
    check!(format_args!("{mode:?}_torn_the_first_page_is_remapped"), went, 0);
    paging::deactivate();
}

/// Each page alone is patched.
fn patched(mode: Mode, tear: &Tear) {
    let arena = Arena::new(mode);
    let (first, second) = (tear.first(GET), tear.second(GET, PUT));
    arena.map(DATA, first, EXECUTABLE);
    arena.map(THERE, second, EXECUTABLE);
    let mut went = wrong(tear.entry(), Ok);
    let upper = if tear.rest() == 2 { second } else { first + PAGE - 2 };
    for _ in 0..4 {
        hot::write_halves(upper, &[high(OTHER)]);
        went += wrong(tear.entry(), |_| Ok(MARK));
        hot::write_halves(upper, &[high(GET)]);
        went += wrong(tear.entry(), Ok);
        // c.li a0, 7 in place of the lower half; the upper one is c.addi4spn s0, sp, 544, so a jump goes over it.
        hot::write_halves(first + tear.site, &[0x451d]);
        hot::write_halves(upper, &[0x0001]);
        went += wrong(tear.entry(), |_| Ok(7));
        hot::write_halves(upper, &[high(GET)]);
        hot::write_halves(first + tear.site, &[low(GET)]);
        went += wrong(tear.entry(), Ok) + hot::heat(DATA + ECHO_AT) + hot::heat(THERE + ECHO_AT);
        // What comes behind, in the second page alone.
        let next = addi(A0, A0, 5);
        hot::write_halves(second + tear.rest(), &[low(next), high(next)]);
        went += wrong(tear.entry(), |argument| Ok(argument + 5));
        hot::write_halves(second + tear.rest(), &[low(PUT), high(PUT)]);
        went += wrong(tear.entry(), Ok);
    }
    check!(format_args!("{mode:?}_{}_each_page_is_patched", tear.name), went, 0);
    paging::deactivate();
}

/// The guest's own breakpoints there, also before a page that is missing.
fn breakpoints(mode: Mode) {
    let arena = Arena::new(mode);
    let second = TORN.second(EBREAK, GET);
    arena.map(DATA, TORN.first(EBREAK), EXECUTABLE);
    arena.map(THERE, second, EXECUTABLE);
    let trap_of = |entry: u64| access::call(entry, 1).err().map(|trap| (trap.cause, trap.epc));
    let breakpoint = Some((Breakpoint.code(), DATA + PAGE - 2));
    let torn = (0..RUNS).filter(|_| trap_of(TORN.entry()) != breakpoint).count();
    hot::heat(DATA + ECHO_AT);
    check!(format_args!("{mode:?}_a_torn_breakpoint"), (torn, trap_of(TORN.entry())), (0, breakpoint));
    // Its first half alone says nothing.
    arena.map(THERE, 0, 0);
    let missing = Some((InstructionPageFault.code(), DATA + PAGE - 2));
    check!(format_args!("{mode:?}_a_torn_breakpoint_before_nothing"), trap_of(TORN.entry()), missing);
    // A compressed one needs no second page.
    let first = TORN.first(0x9002);
    arena.map(DATA, first, EXECUTABLE);
    hot::heat(DATA + ECHO_AT);
    check!(format_args!("{mode:?}_a_compressed_one_before_nothing"), trap_of(TORN.entry()), breakpoint);
    hot::write_halves(first + PAGE - 2, &[0]);
    let illegal = Some((IllegalInstruction.code(), DATA + PAGE - 2));
    check!(format_args!("{mode:?}_an_illegal_one_before_nothing"), trap_of(TORN.entry()), illegal);
    paging::deactivate();
}

/// The last page of the lower half, and the topmost page, which is followed by page 0.
fn the_spaces_ends(mode: Mode) {
    let arena = Arena::new(mode);
    let last = (1 << (mode.address_bits() - 1)) - PAGE;
    let first = TORN.first(GET);
    arena.map(last, first, RWX);
    let went = hot::heat(last + ECHO_AT);
    check!(format_args!("{mode:?}_hot_code_in_the_lower_halfs_last_page"), went, 0);
    let trap = access::call(last + PAGE - 6, 0).err().map(|trap| (trap.cause, trap.tval, trap.epc));
    let wanted = Some((InstructionPageFault.code(), last + PAGE, last + PAGE - 2));
    check!(format_args!("{mode:?}_torn_over_the_lower_halfs_end"), trap, wanted);

    let top = 0_u64.wrapping_sub(PAGE);
    let page = WHOLE.first(RET);
    arena.map(top, page, RWX);
    let mut went = hot::heat(top + ECHO_AT) + wrong(top + (PAGE - 8), Ok);
    // Data there, near address 0, as code that knows no other register reaches it.
    for value in 0..RUNS {
        let back: u64;
        // SAFETY: a page that was mapped for this, where nothing of Rust's lies.
        unsafe {
            core::arch::asm!("sd {0}, -1536(zero)", "ld {1}, -1536(zero)", in(reg) value, out(reg) back)
        };
        went += u64::from(back != value) + u64::from(hot::call(top + ECHO_AT, value) != Ok(value));
    }
    check!(format_args!("{mode:?}_hot_code_and_data_in_the_topmost_page"), went, 0);
    arena.map(top, 0, 0);
    let read = features::outcome(features::arena::load(top + (PAGE - 1536)));
    let nothing = features::fault(Exception::LoadPageFault, top + (PAGE - 1536));
    check!(format_args!("{mode:?}_the_topmost_page_goes"), read, nothing);
    let trap = access::call(top + ECHO_AT, 0).err().map(|trap| (trap.cause, trap.tval));
    check!(format_args!("{mode:?}_and_its_code"), trap, Some((InstructionPageFault.code(), top + ECHO_AT)));
    paging::deactivate();
}

/// Two frames in a row, no translation.
fn untranslated() {
    let pages = paging::frames(2);
    for page in [0, PAGE] {
        exec::write(pages + page + ECHO_AT, &ECHO);
    }
    let entry = pages + PAGE - 6;
    let write = |site: u32| {
        let halves = [low(PUT), high(PUT), low(site), high(site), low(RET), high(RET)];
        hot::write_halves(entry, &halves);
    };
    let mut went = 0;
    for _ in 0..4 {
        write(GET);
        went += wrong(entry, Ok) + hot::heat(pages + ECHO_AT) + wrong(entry, Ok);
        went += hot::heat(pages + PAGE + ECHO_AT) + wrong(entry, Ok);
        write(OTHER);
        went += wrong(entry, |_| Ok(MARK));
        write(EBREAK);
        went += wrong(entry, |_| raised(Breakpoint));
        hot::write_halves(pages + PAGE, &[high(csrrs(A0, SSCRATCH, ZERO))]);
        hot::write_halves(pages + PAGE - 2, &[low(csrrs(A0, SSCRATCH, ZERO))]);
        went += wrong(entry, Ok);
    }
    check!("untranslated_torn_code_is_patched", went, 0);
    check!("sepc_is_as_left", csr_read!(SEPC) == MARK);
}
