//! Faults that are put into the loaded assembly, to see that they are found: a bail that is missing, a mask with a wrong bit.

use crate::cases::Player;
use crate::decode::{Instruction, Op, decode};
use crate::guest::Lent;
use crate::image::Image;

/// Cases until a fault has to be found.
const ENOUGH: u64 = 40_000;

/// Which of the branches of `fast_page_fault` it is that leaves a block to Rust which is not plain.
const PLAIN_BLOCK: usize = 11;

/// What is put in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// A branch goes on always.
    NoBranch,
    /// A branch goes away where it should go on, and on where it should go away.
    Inverted,
    /// An immediate operand of AND has its lowest bit elsewhere.
    Mask,
}

impl Fault {
    const ALL: [Self; 3] = [Self::NoBranch, Self::Inverted, Self::Mask];

    /// The instruction with the fault, if it can have it.
    fn of(self, instruction: Instruction) -> Option<Instruction> {
        let is_mask = instruction.op == Op::And && instruction.has_imm;
        match self {
            Self::NoBranch if instruction.is_branch() => {
                // ADDI x0, x0, 0.
                Some(Instruction { length: instruction.length, ..decode(0x13) })
            }
            Self::Inverted if instruction.is_branch() => {
                let op = match instruction.op {
                    Op::Beq => Op::Bne,
                    Op::Bne => Op::Beq,
                    Op::Blt => Op::Bge,
                    Op::Bge => Op::Blt,
                    Op::Bltu => Op::Bgeu,
                    _ => Op::Bltu,
                };
                Some(Instruction { op, ..instruction })
            }
            Self::Mask if is_mask => {
                let lowest = instruction.imm & instruction.imm.wrapping_neg();
                Some(Instruction { imm: instruction.imm ^ lowest ^ lowest << 1, ..instruction })
            }
            _ => None,
        }
    }
}

/// What is found within so many cases when the instruction at `index` has the fault.
fn found(index: usize, fault: Fault, lent: Lent) -> Option<String> {
    let mut image = Image::load();
    image.replace(index, |instruction| fault.of(instruction).expect("an instruction that can have it"));
    let mut player = Player::new(&image, 1, lent);
    player.play(ENOUGH).err()
}

#[test]
fn a_fault_that_is_put_in_is_found() {
    let image = Image::load();
    let lent = Lent::take();
    // The assembly's name, and which of the instructions there that can have the fault.
    for (name, nth, fault) in [
        ("fast_interrupts_on", 0, Fault::NoBranch),
        ("fast_satp", 0, Fault::NoBranch),
        ("fast_fence", 1, Fault::NoBranch),
        ("fast_vector_write", 0, Fault::NoBranch),
        ("fast_restore_10", 2, Fault::NoBranch),
        ("fast_sret", 0, Fault::Mask),
        ("fast_vector_write", 0, Fault::Mask),
        ("fast_enter", 0, Fault::Mask),
        ("fast_page_fault", 4, Fault::Mask),
        ("fast_page_fault", PLAIN_BLOCK, Fault::NoBranch),
    ] {
        let candidates = image
            .instructions()
            .filter(|(index, instruction)| image.name(*index).0 == name && fault.of(**instruction).is_some());
        let Some((index, _)) = candidates.into_iter().nth(nth) else { panic!("{name} has no {nth}") };
        let error = found(index, fault, lent);
        assert!(error.is_some(), "{fault:?} in {name} at {nth} is not found");
        println!("{name} {nth} {fault:?}: {:.60}", error.unwrap_or_default());
    }
}

/// Prints which faults are not found: those that make the assembly slower, or leave more to Rust, cannot be.
#[test]
#[ignore = "hundreds of faults: minutes"]
fn most_faults_that_can_be_put_in_are_found() {
    let image = Image::load();
    let lent = Lent::take();
    let (mut tried, mut missed) = (0, Vec::new());
    for (index, instruction) in image.instructions() {
        let (name, offset) = image.name(index);
        for fault in Fault::ALL.into_iter().filter(|fault| fault.of(*instruction).is_some()) {
            tried += 1;
            if found(index, fault, lent).is_none() {
                missed.push(format!("{name}+{offset:#x}: {fault:?}"));
            }
        }
    }
    println!("{} of {tried} faults are not found:\n{}", missed.len(), missed.join("\n"));
}
