//! The interpreter against the executable form of the official specification, `softcore-rv64`: each instruction that the
//! assembly is made of, with random registers, and random ones of all kinds that the interpreter knows. The model has no memory,
//! so of loads and stores it is compared what they mean. Nor does it decode compressed instructions: those are compared with what
//! the assembler says that they stand for.

use isa::csr::sstatus;
use softcore_rv64::prelude::bv;
use softcore_rv64::raw::{self, ast, regidx, word_width};
use softcore_rv64::{Core, config, new_core};

use crate::cpu::{Cpu, Csrs, Did};
use crate::decode::{Instruction, Op, decode};
use crate::image::Image;
use crate::memory::{Memory, What};
use crate::random::Random;

/// Where instructions are executed.
const HERE: u64 = 0x8000_1000;

/// A hart in supervisor mode, which has what the hypervisor's has.
fn model() -> Core {
    let mut core = new_core(config::U74);
    core.reset();
    core.set_mode(raw::Privilege::Supervisor);
    core
}

fn random_cpu(random: &mut Random) -> Cpu {
    let mut cpu = Cpu::new();
    (1..32).for_each(|number| cpu.x[number] = random.word());
    if random.chance(30) {
        // Equal ones, for branches.
        cpu.x[1..].fill(random.word());
    }
    cpu.pc = HERE;
    const STATUS: u64 =
        sstatus::SIE | sstatus::SPIE | sstatus::SPP | sstatus::SUM | sstatus::MXR | sstatus::FS;
    let status = random.any() & STATUS;
    cpu.csrs = Csrs {
        sstatus: status,
        stvec: random.word() & !3,
        senvcfg: 0,
        sscratch: random.word(),
        sepc: random.word() & !1,
        scause: random.word(),
        stval: random.word(),
        satp: 0,
    };
    cpu
}

/// The model becomes what the hart is.
fn mirror(core: &mut Core, cpu: &Cpu) {
    const SXL_64: u64 = 2 << 34;
    for number in 1..32 {
        core.set(regidx::new(number), cpu.x[usize::from(number)]);
    }
    core.set_mode(raw::Privilege::Supervisor);
    core.PC = bv(cpu.pc);
    // The model keeps SD, and brings it up to date where mstatus is written.
    let is_dirty = cpu.csrs.sstatus & sstatus::FS == sstatus::FS_DIRTY;
    let dirty = if is_dirty { sstatus::SD } else { 0 };
    core.mstatus.bits = bv(cpu.csrs.sstatus | SXL_64 | sstatus::UXL_64 | dirty);
    core.stvec.bits = bv(cpu.csrs.stvec);
    core.sscratch = bv(cpu.csrs.sscratch);
    core.sepc = bv(cpu.csrs.sepc);
    core.scause.bits = bv(cpu.csrs.scause);
    core.stval = bv(cpu.csrs.stval);
}

fn csrs(core: &mut Core) -> [u64; 6] {
    core.set_mode(raw::Privilege::Supervisor);
    let mut csr = |address: u16| core.get_csr(address.into()).expect("a supervisor's CSR");
    // SD follows from the rest.
    [csr(0x100) & !sstatus::SD, csr(0x105), csr(0x140), csr(0x141), csr(0x142), csr(0x143)]
}

/// Executes an instruction in both.
fn compare(core: &mut Core, bits: u32, random: &mut Random) {
    let instruction = decode(bits);
    let Instruction { op, length, .. } = instruction;
    let mut cpu = random_cpu(random);
    if op == Op::Sret {
        // The assembly returns to user mode alone.
        cpu.csrs.sstatus &= !sstatus::SPP;
    }
    mirror(core, &cpu);
    let meaning = core.decode_instr(bits);
    if let Op::Load(..) | Op::Store(_) = op {
        assert_eq!(access(&meaning), Some(plain(instruction)), "{bits:#x}: {meaning:?}");
        return;
    }
    if let Op::SfenceVma | Op::Fence = op {
        assert!(matches!(meaning, ast::SFENCE_VMA(_) | ast::FENCE(_) | ast::FENCE_TSO(_)), "{bits:#x}");
        return;
    }
    let next = HERE + u64::from(length);
    core.nextPC = bv(next);
    cpu.pc = next;
    let did = cpu.execute(&instruction, HERE, &mut Memory::default());
    if did == Ok(Did::Sret) {
        cpu.return_to_user();
    }
    assert!(did.is_ok(), "{bits:#x} is {instruction:?}: {did:?}");
    core.execute(meaning);
    let registers: [u64; 32] = core::array::from_fn(|number| core.get(regidx::new(number as u8)));
    assert_eq!(cpu.x, registers, "{bits:#x}: {meaning:?}");
    assert_eq!(cpu.pc, core.nextPC.bits(), "{bits:#x}: {meaning:?}");
    if op == Op::Sret {
        assert_eq!(core.mode(), raw::Privilege::User);
    }
    let Csrs { sstatus: status, stvec, sscratch, sepc, scause, stval, .. } = cpu.csrs;
    let own = [status | sstatus::UXL_64, stvec, sscratch, sepc, scause, stval];
    assert_eq!(own, csrs(core), "{bits:#x}: {meaning:?}");
}

/// The load or store that the model has found.
fn access(meaning: &ast) -> Option<Instruction> {
    let number = |register: regidx| {
        let regidx::Regidx(number) = register;
        number.bits() as u8
    };
    let signed = |imm: u64| ((imm << 52) as i64) >> 52;
    let bytes = |width: word_width| match width {
        word_width::BYTE => 1,
        word_width::HALF => 2,
        word_width::WORD => 4,
        word_width::DOUBLE => 8,
    };
    let base = Instruction { has_imm: true, ..decode(0) };
    Some(match *meaning {
        ast::LOAD((imm, rs1, rd, is_unsigned, width, _, _)) => Instruction {
            op: Op::Load(bytes(width), !is_unsigned || bytes(width) == 8),
            rd: number(rd),
            rs1: number(rs1),
            imm: signed(imm.bits()),
            length: 4,
            ..base
        },
        ast::STORE((imm, rs2, rs1, width, _, _)) => Instruction {
            op: Op::Store(bytes(width)),
            rs1: number(rs1),
            rs2: number(rs2),
            imm: signed(imm.bits()),
            length: 4,
            ..base
        },
        _ => return None,
    })
}

/// Without what the instruction has no use for.
fn plain(instruction: Instruction) -> Instruction {
    let Instruction { op, has_imm, .. } = instruction;
    let without_rd = instruction.is_branch() || matches!(op, Op::Store(_));
    let without_rs1 = matches!(op, Op::Lui | Op::Auipc | Op::Jal);
    let without_rs2 = has_imm && !matches!(op, Op::Store(_));
    Instruction {
        rd: if without_rd { 0 } else { instruction.rd },
        rs1: if without_rs1 { 0 } else { instruction.rs1 },
        rs2: if without_rs2 { 0 } else { instruction.rs2 },
        length: 4,
        ..instruction
    }
}

/// Whether the model has the same CSR: what its satp and senvcfg take is another hart's.
fn is_comparable(instruction: &Instruction) -> bool {
    const COMPARED: [u16; 6] = [0x100, 0x105, 0x140, 0x141, 0x142, 0x143];
    match instruction.op {
        // The model does not have SUBW, as far as it has been translated.
        Op::Unknown | Op::SubW => false,
        Op::Swap | Op::Set | Op::Clear => COMPARED.contains(&instruction.csr),
        _ => true,
    }
}

#[test]
fn the_assemblys_instructions_do_what_the_specification_says() {
    let (image, mut core, mut random) = (Image::load(), model(), Random::new(1));
    let mut words: Vec<_> = image.instructions().map(|(index, _)| image.bits(index)).collect();
    words.retain(|bits| bits & 3 == 3 && is_comparable(&decode(*bits)));
    words.sort_unstable();
    words.dedup();
    assert!(words.len() > 100);
    for bits in words {
        (0..40).for_each(|_| compare(&mut core, bits, &mut random));
    }
}

#[test]
fn any_instruction_that_is_known_does_what_the_specification_says() {
    const OPCODES: [u32; 12] = [0x37, 0x17, 0x6f, 0x67, 0x63, 0x03, 0x23, 0x13, 0x33, 0x1b, 0x3b, 0x73];
    const CSRS: [u32; 6] = [0x100, 0x105, 0x140, 0x141, 0x142, 0x143];
    let (mut core, mut random) = (model(), Random::new(2));
    let mut compared = 0;
    for _ in 0..40_000 {
        let mut bits = random.any() as u32 & !0x7f | random.pick(&OPCODES);
        if random.chance(50) {
            // Those that have a function in their highest bits.
            bits &= 0x41ff_ffff;
        }
        if bits & 0x7f == 0x73 {
            bits = bits & 0xf_ffff | random.pick(&CSRS) << 20;
        }
        let instruction = decode(bits);
        if is_comparable(&instruction) {
            compare(&mut core, bits, &mut random);
            compared += 1;
        }
    }
    assert!(compared > 10_000, "{compared}");
}

#[test]
fn a_compressed_instruction_is_what_the_assembler_made_it_of() {
    let image = Image::load();
    let place = |name: &str| image.index(image.symbol(name)).expect("code");
    let (mut index, end) = (place("assembly_pairs"), place("assembly_pairs_end"));
    let mut kinds = std::collections::BTreeSet::new();
    while index < end {
        let (short, long) = (image.bits(index), image.bits(index + 1));
        assert!(short & 3 != 3 && long & 3 == 3, "{short:#x} is not compressed, or {long:#x} is");
        assert_eq!(plain(decode(short)), plain(decode(long)), "{:#x} and {long:#x}", short as u16);
        kinds.insert((short & 3, short >> 13 & 7));
        index += 3;
    }
    // Each quadrant's, but for what accesses floating-point registers.
    assert_eq!(kinds.len(), 5 + 8 + 6, "{kinds:?}");
}

#[test]
fn a_load_takes_what_a_store_has_put() {
    let mut words = [0_u64; 2];
    let at = words.as_mut_ptr().expose_provenance() as u64;
    let mut memory = Memory::default();
    // SAFETY: they are there, and are not looked at before the end.
    unsafe { memory.add(What::Frame, at, 16) };
    let instruction = |op, rd, rs2| Instruction { op, rd, rs1: 1, rs2, has_imm: true, imm: 8, ..decode(0) };
    let mut cpu = Cpu::new();
    cpu.x[1] = at;
    for (bytes, value) in [(1, 0x80_u64), (2, 0x8000), (4, 0x8000_0000), (8, 1 << 63)] {
        cpu.x[2] = 0x1234_5678_0000_0000 & !(u64::MAX >> (64 - 8 * bytes)) | value;
        cpu.execute(&instruction(Op::Store(bytes as u8), 0, 2), 0, &mut memory).expect("a store");
        for is_signed in [true, false] {
            let load = instruction(Op::Load(bytes as u8, is_signed), 3, 0);
            cpu.execute(&load, 0, &mut memory).expect("a load");
            let sign = if is_signed && bytes < 8 { u64::MAX << (8 * bytes) } else { 0 };
            assert_eq!(cpu.x[3], sign | value, "{bytes}, {is_signed}");
        }
    }
    let mut changes = Vec::new();
    memory.take_changes(&mut changes);
    memory.take_back(&changes);
    assert_eq!((changes.len(), memory.load(at + 8, 8)), (4, Ok(0)));
    assert!(memory.load(at + 16, 8).is_err() && memory.load(at + 4, 8).is_err());
}
