//! Finds an objdump, learns which extensions it knows, and runs it.

use crate::elf;
use isa::instr::{Atomic, CacheBlock, Instr, Width, length};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

const PROGRAMS: [&str; 4] =
    ["riscv64-linux-gnu-objdump", "riscv64-unknown-elf-objdump", "objdump", "llvm-objdump"];

const BASE_ARCH: &str = "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_v1p0_h1p0_zicsr2p0_zifencei2p0";

/// An extension that `decode` knows and some objdump in use may not.
pub struct Extension {
    pub name: &'static str,
    /// An instruction that an objdump with this extension prints by name.
    witness: u32,
}

pub const EXTENSIONS: [Extension; 10] = [
    Extension { name: "h", witness: 0x6005_4073 }, // hlv.b x0,(x10)
    Extension { name: "v", witness: 0x0205_0007 }, // vle8.v v0,(x10)
    Extension { name: "svinval", witness: 0x1800_0073 }, // sfence.w.inval
    Extension { name: "smrnmi", witness: 0x7020_0073 }, // mnret
    Extension { name: "zabha", witness: 0x0005_002f }, // amoadd.b x0,x0,(x10)
    Extension { name: "zacas", witness: 0x2805_202f }, // amocas.w x0,x0,(x10)
    Extension { name: "zcb", witness: 0x8000 },    // c.lbu x8,0(x8)
    Extension { name: "zfh", witness: 0x0005_1007 }, // flh f0,0(x10)
    Extension { name: "zicbom", witness: 0x0005_200f }, // cbo.inval (x10)
    Extension { name: "zicboz", witness: 0x0045_200f }, // cbo.zero (x10)
];

/// Which of `EXTENSIONS` defines `bits`, which decode to `instr`; `None` for the base.
pub fn extension_of(bits: u32, instr: Instr) -> Option<&'static str> {
    Some(match instr {
        Instr::Hypervisor => "h",
        Instr::VectorMemory => "v",
        Instr::SinvalVma { .. } | Instr::SfenceWInval | Instr::SfenceInvalIr => "svinval",
        Instr::Mret if bits >> 28 == 7 => "smrnmi",
        Instr::Atomic { width: Width::Byte | Width::Half, .. } => "zabha",
        Instr::Atomic { kind: Atomic::Amo, .. } if bits >> 27 == 5 => "zacas",
        Instr::Load { .. } | Instr::Store { .. } if bits & 3 == 0 && bits >> 13 & 7 == 4 => "zcb",
        Instr::FpLoad { width: Width::Half, .. } | Instr::FpStore { width: Width::Half, .. } => "zfh",
        Instr::CacheBlock { op: CacheBlock::Zero, .. } => "zicboz",
        Instr::CacheBlock { .. } => "zicbom",
        _ => return None,
    })
}

/// One instruction as objdump prints it, without spaces and remarks.
#[derive(Debug, Clone)]
pub struct Line {
    pub mnemonic: String,
    pub operands: String,
}

impl Line {
    /// Whether objdump knows no instruction with these bits.
    pub fn is_unknown(&self) -> bool {
        self.mnemonic.starts_with('.') || self.mnemonic.starts_with('<')
    }
}

/// An installed objdump that knows RISC-V.
pub struct Objdump {
    program: String,
    known: Vec<&'static str>,
}

impl Objdump {
    /// The first that can be run and knows SRET: the one that the environment names in OBJDUMP, or one of
    /// `PROGRAMS`.
    pub fn find() -> Option<Self> {
        let mut programs = env::var("OBJDUMP").into_iter().chain(PROGRAMS.map(String::from));
        programs.find_map(|program| {
            let witnesses: Vec<u32> = EXTENSIONS.iter().map(|e| e.witness).collect();
            let lines = run(&program, &[&[0x1020_0073], &witnesses[..]].concat())?;
            let (sret, lines) = lines.split_first()?;
            let known = EXTENSIONS.iter().zip(lines).filter(|(_, line)| !line.is_unknown());
            let known = known.map(|(extension, _)| extension.name).collect();
            (sret.mnemonic == "sret").then_some(Self { program, known })
        })
    }

    pub fn program(&self) -> &str {
        &self.program
    }

    pub fn knows(&self, extension: &str) -> bool {
        self.known.contains(&extension)
    }

    /// What it makes of each of `instructions`, the upper half of a compressed one being ignored.
    pub fn disassemble(&self, instructions: &[u32]) -> Vec<Line> {
        run(&self.program, instructions).expect("one line for every instruction")
    }
}

/// `None` where the program does not run or misses an instruction.
fn run(program: &str, instructions: &[u32]) -> Option<Vec<Line>> {
    let mut code = Vec::new();
    let mut addresses = Vec::new();
    for &bits in instructions {
        addresses.push(code.len() as u64);
        code.extend_from_slice(&bits.to_le_bytes()[..length(bits as u16) as usize]);
    }
    let arch = EXTENSIONS.iter().filter(|e| e.name.len() > 1);
    let arch = arch.fold(BASE_ARCH.to_string(), |arch, e| format!("{arch}_{}1p0", e.name));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("objdump.o");
    fs::write(&path, elf::object(&code, &arch)).expect("a writable target directory");

    let mut command = Command::new(program);
    command.args(["-d", "-z", "-M", "no-aliases", "-M", "numeric"]);
    if program.contains("llvm") {
        let features: Vec<String> = EXTENSIONS.iter().map(|e| format!("+{}", e.name)).collect();
        command.arg(format!("--mattr=+m,+a,+f,+d,+c,{}", features.join(",")));
    }
    let output = command.arg(&path).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: HashMap<u64, Line> = text.lines().filter_map(line).collect();
    addresses.iter().map(|address| lines.remove(address)).collect()
}

/// Reads `   address:<tab or space>bytes<tab>mnemonic<tab>operands # remark`.
fn line(text: &str) -> Option<(u64, Line)> {
    let (address, rest) = text.split_once(':')?;
    let address = u64::from_str_radix(address.trim(), 16).ok()?;
    let mut fields = rest.trim_start().split('\t').skip(1);
    let mnemonic = fields.next()?.trim().to_string();
    let operands = fields.next().unwrap_or_default();
    let operands = operands.split(['#', '<']).next().unwrap_or_default().replace(' ', "");
    Some((address, Line { mnemonic, operands }))
}
