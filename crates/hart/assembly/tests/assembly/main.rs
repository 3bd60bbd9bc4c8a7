//! The assembly that serves exits, tested on the developer's machine: the program that has it is built for the real target,
//! loaded (`image`), and executed by an interpreter (`decode`, `cpu`, `memory`) over random guests (`guest`, `exits`). Each exit
//! must come out as Rust has it, or be left to Rust with nothing changed (`cases`). Every instruction is reached, and every branch
//! goes both ways (`coverage`). What is executed follows the specification (`specification`), and faults that are put in are
//! found (`seeded`).
//!
//! `cargo test -p assembly -- --ignored --nocapture` plays ten million cases, and prints how often what was reached.

mod cases;
mod coverage;
mod cpu;
mod decode;
mod exits;
mod guest;
mod handlers;
mod image;
mod memory;
mod random;
mod seeded;
mod specification;

use std::time::Instant;

use cases::{Outcomes, Player};
use coverage::Counts;
use guest::Lent;
use image::Image;

/// The frame and the tables lie here as they do on the real hart: they are laid out as C does, and all of them are words.
const _: () = assert!(cfg!(all(target_pointer_width = "64", target_endian = "little")));

/// Cases that `cargo test` plays.
const FEW: u64 = 40_000;
/// Cases of a long run.
const MANY: u64 = 10_000_000;

/// Plays so many cases on all processors, each with seeds of its own from `seed` on.
fn play(cases: u64, seed: u64, players: u64) -> (Counts, Outcomes) {
    let image = Image::load();
    let (mut counts, mut outcomes) = (Counts::new(&image), Outcomes::default());
    std::thread::scope(|scope| {
        let play = |number: u64| {
            let mut player = Player::new(&image, seed + number, Lent::take());
            let result = player.play(cases / players);
            (player.counts, player.outcomes, result)
        };
        let threads: Vec<_> = (0..players).map(|number| scope.spawn(move || play(number))).collect();
        for thread in threads {
            let (own, outcome, result) = thread.join().expect("a player's thread");
            counts.add(&own);
            outcomes.add(&outcome);
            if let Err(error) = result {
                panic!("{error}");
            }
        }
    });
    (counts, outcomes)
}

fn assert_all_reached(counts: &Counts) {
    let missing = counts.missing(&Image::load());
    assert!(missing.is_empty(), "{} places:\n{}", missing.len(), missing.join("\n"));
}

/// *bail-first*
#[test]
fn the_assembly_does_what_rust_does_or_changes_nothing() {
    let start = Instant::now();
    let (counts, outcomes) = play(FEW, 1, 1);
    println!("{outcomes:?} in {:.1} s", start.elapsed().as_secs_f32());
    assert_all_reached(&counts);
}

/// *bail-first*
#[test]
#[ignore = "ten million cases: minutes"]
fn in_ten_million_cases_the_assembly_does_what_rust_does_or_changes_nothing() {
    let players = std::thread::available_parallelism().map_or(1, |number| number.get() as u64);
    let start = Instant::now();
    let (counts, outcomes) = play(MANY, 1000, players);
    let seconds = start.elapsed().as_secs_f64();
    let image = Image::load();
    println!("{}", counts.table(&image));
    println!("instructions, and ways of branches, reached of those that can be: {:?}", counts.sums(&image));
    println!("{outcomes:?}: {} cases in {seconds:.0} s", outcomes.total());
    assert_all_reached(&counts);
}
