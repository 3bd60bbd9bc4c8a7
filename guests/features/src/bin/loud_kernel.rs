//! Instructions of which some firmware complains on the console when they trap, and which the kernel may execute, where it is
//! hard to have them replaced: behind bytes that read like the first half of an instruction, beside a lock, and in pages at the
//! same distance from each other. How often anybody complains is seen from outside.
#![no_std]
#![no_main]

use features::hot::{self, RUNS};
use features::insn::{A0, A1, RET, SFENCE_VMA};
use features::{arena, exec};
use guest_rt::{check, paging};

features::feature!(checks);

/// Memory that nothing else lies in, of all sizes of RAM that the tests have.
const FAR: u64 = 0x8400_0000;

fn checks(_hart: u64, _device_tree: u64) {
    behind_half_an_instruction();
    beside_a_lock();
    for shift in [22, 24] {
        at_the_same_distance(shift);
    }
}

fn behind_half_an_instruction() {
    let page = paging::frame();
    hot::write_halves(page + 0x100, &[0x0001, 0x0003]);
    exec::write(page + 0x104, &[SFENCE_VMA, RET]);
    // The page is scanned when something else in it is executed, from where one cannot see that an instruction begins there.
    exec::write(page, &[RET]);
    check!("a_page_is_known", hot::call(page, 1), Ok(1));
    check!("behind_half_an_instruction", hot::heat(page + 0x104), 0);
}

/// amoadd.w a1, a0, (a0)
const AMO: u32 = A0 << 20 | A0 << 15 | 2 << 12 | A1 << 7 | 0x2f;

/// Calls with this argument that do not give it back, in as many as make code hot.
fn calls(code: u64, argument: u64) -> usize {
    (0..RUNS).filter(|_| hot::call(code, argument) != Ok(argument)).count()
}

/// In the page of what an AMO counts in, which is in the same page, too, or in another.
fn beside_a_lock() {
    let (page, other) = (paging::frame(), paging::frame());
    exec::write(page, &[SFENCE_VMA, AMO, RET]);
    exec::write(other, &[AMO, RET]);
    for code in [page, other] {
        let counter = page + 0x800;
        arena::poke(counter, 0);
        check!(format_args!("beside_a_lock_{}", code == page), calls(code, counter), 0);
        let sum = (counter as u32).wrapping_mul(RUNS as u32);
        check!(format_args!("the_lock_has_counted_{}", code == page), arena::peek(counter), u64::from(sum));
    }
}

fn at_the_same_distance(shift: u32) {
    let pages = [0, 1, 2, 3].map(|n| FAR + (u64::from(shift) << 16) + (n << shift));
    for page in pages {
        exec::write(page, &[SFENCE_VMA, RET]);
    }
    let wrong = (0..RUNS).flat_map(|_| pages).filter(|page| hot::call(*page, 1) != Ok(1));
    check!(format_args!("at_distances_of_2_to_the_{shift}"), wrong.count(), 0);
}
