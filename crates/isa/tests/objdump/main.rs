//! `decode` against objdump's view: every compressed encoding, every function of the major opcodes that
//! `decode` looks into, and random words. Skipped, with a line that says so, where no objdump for RISC-V is
//! installed.

#[path = "../encodings/mod.rs"]
mod encodings;

mod elf;
mod reading;
mod tool;

use isa::instr::decode;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::io::{self, Write};
use tool::{EXTENSIONS, Objdump};

/// Words with all bits random.
const RANDOM_WORDS: usize = 100_000;

#[test]
fn decode_agrees_with_objdump() {
    let Some(objdump) = Objdump::find() else {
        tell("skipped: no objdump for RISC-V is installed (Debian: binutils-riscv64-linux-gnu)");
        return;
    };
    let unknown: Vec<&str> = EXTENSIONS.iter().map(|e| e.name).filter(|name| !objdump.knows(name)).collect();
    if !unknown.is_empty() {
        tell(&format!("{} does not know {}: not compared", objdump.program(), unknown.join(", ")));
    }

    let instructions = instructions();
    let lines = objdump.disassemble(&instructions);
    let mut differences = Vec::new();
    for (&bits, line) in instructions.iter().zip(&lines) {
        let ours = decode(bits);
        let theirs = reading::instr(bits, line);
        let unseen =
            || line.is_unknown() && tool::extension_of(bits, ours).is_some_and(|e| !objdump.knows(e));
        if ours != theirs && !unseen() {
            differences
                .push(format!("{bits:#010x}: objdump {line:?}, read as {theirs:?}; decoded as {ours:?}"));
        }
    }
    let count = differences.len();
    differences.truncate(40);
    assert_eq!(count, 0, "differences:\n{}", differences.join("\n"));
}

/// Prints a line that the test harness does not hold back when the test passes.
fn tell(line: &str) {
    writeln!(io::stderr(), "objdump: {line}").expect("stderr is open");
}

fn instructions() -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut all: Vec<u32> = encodings::all_compressed().map(u32::from).collect();
    for opcode in encodings::MAJOR_OPCODES {
        all.extend(encodings::all_functs(opcode, 0, 0));
        let any = random.next_u32();
        all.extend(encodings::all_functs(opcode, any | 1, any >> 5 | 1));
    }
    // Bits 4:0 all ones begin an instruction of 48 bits or more.
    all.extend((0..RANDOM_WORDS).map(|_| random.next_u32() | 3).filter(|bits| bits & 0x1f != 0x1f));
    all
}
