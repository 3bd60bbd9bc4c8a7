//! Decodes the instructions that the assembly is made of, RV64IC with Zicsr and the supervisor's. Compressed ones become what
//! they stand for. What `specification` compares is this and `cpu`.

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Lui,
    Auipc,
    Jal,
    Jalr,
    Beq,
    Bne,
    Blt,
    Bge,
    Bltu,
    Bgeu,
    /// A load of so many bytes, which extends the sign or not.
    Load(u8, bool),
    /// A store of so many bytes.
    Store(u8),
    Add,
    Sub,
    Sll,
    Srl,
    Sra,
    Slt,
    Sltu,
    Xor,
    Or,
    And,
    AddW,
    SubW,
    /// CSRRW; the CSR is in `csr`, and so for those that follow.
    Swap,
    Set,
    Clear,
    Sret,
    SfenceVma,
    Fence,
    /// None that is known here.
    Unknown,
}

/// An instruction. Of `imm` and `rs2` one is the second operand: `imm` where `has_imm` is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    pub op: Op,
    pub rd: u8,
    pub rs1: u8,
    pub rs2: u8,
    pub has_imm: bool,
    pub imm: i64,
    pub csr: u16,
    /// Bytes.
    pub length: u8,
}

impl Instruction {
    const NONE: Self =
        Self { op: Op::Unknown, rd: 0, rs1: 0, rs2: 0, has_imm: false, imm: 0, csr: 0, length: 4 };

    /// Whether it goes one way or the other.
    pub const fn is_branch(&self) -> bool {
        matches!(self.op, Op::Beq | Op::Bne | Op::Blt | Op::Bge | Op::Bltu | Op::Bgeu)
    }
}

/// Bits `low` to `high` of an instruction.
const fn field(bits: u32, high: u32, low: u32) -> u32 {
    bits << (31 - high) >> (31 - high + low)
}

/// A number of so many bits with a sign.
const fn signed(value: u32, bits: u32) -> i64 {
    ((value << (32 - bits)) as i32 >> (32 - bits)) as i64
}

/// The instruction that `bits` begin with.
pub const fn decode(bits: u32) -> Instruction {
    if bits & 3 == 3 { decode_long(bits) } else { decode_short(bits as u16 as u32) }
}

const fn decode_long(bits: u32) -> Instruction {
    let base = Instruction {
        rd: field(bits, 11, 7) as u8,
        rs1: field(bits, 19, 15) as u8,
        rs2: field(bits, 24, 20) as u8,
        ..Instruction::NONE
    };
    let funct3 = field(bits, 14, 12);
    let i_type = signed(field(bits, 31, 20), 12);
    match bits & 0x7f {
        0x37 => Instruction { op: Op::Lui, imm: (bits & !0xfff) as i32 as i64, has_imm: true, ..base },
        0x17 => Instruction { op: Op::Auipc, imm: (bits & !0xfff) as i32 as i64, has_imm: true, ..base },
        0x6f => {
            let imm = field(bits, 31, 31) << 20
                | field(bits, 19, 12) << 12
                | field(bits, 20, 20) << 11
                | field(bits, 30, 21) << 1;
            Instruction { op: Op::Jal, imm: signed(imm, 21), has_imm: true, ..base }
        }
        0x67 if funct3 == 0 => Instruction { op: Op::Jalr, imm: i_type, has_imm: true, ..base },
        0x63 => {
            let imm = field(bits, 31, 31) << 12
                | field(bits, 7, 7) << 11
                | field(bits, 30, 25) << 5
                | field(bits, 11, 8) << 1;
            let op = match funct3 {
                0 => Op::Beq,
                1 => Op::Bne,
                4 => Op::Blt,
                5 => Op::Bge,
                6 => Op::Bltu,
                7 => Op::Bgeu,
                _ => Op::Unknown,
            };
            Instruction { op, imm: signed(imm, 13), ..base }
        }
        0x03 => {
            let op = match funct3 {
                0 => Op::Load(1, true),
                1 => Op::Load(2, true),
                2 => Op::Load(4, true),
                3 => Op::Load(8, true),
                4 => Op::Load(1, false),
                5 => Op::Load(2, false),
                6 => Op::Load(4, false),
                _ => Op::Unknown,
            };
            Instruction { op, imm: i_type, has_imm: true, ..base }
        }
        0x23 => {
            let op = match funct3 {
                0 => Op::Store(1),
                1 => Op::Store(2),
                2 => Op::Store(4),
                3 => Op::Store(8),
                _ => Op::Unknown,
            };
            let imm = field(bits, 31, 25) << 5 | field(bits, 11, 7);
            Instruction { op, imm: signed(imm, 12), has_imm: true, ..base }
        }
        0x13 => {
            let shift = field(bits, 25, 20) as i64;
            let (op, imm) = match (funct3, field(bits, 31, 26)) {
                (0, _) => (Op::Add, i_type),
                (1, 0) => (Op::Sll, shift),
                (2, _) => (Op::Slt, i_type),
                (3, _) => (Op::Sltu, i_type),
                (4, _) => (Op::Xor, i_type),
                (5, 0) => (Op::Srl, shift),
                (5, 0x10) => (Op::Sra, shift),
                (6, _) => (Op::Or, i_type),
                (7, _) => (Op::And, i_type),
                _ => (Op::Unknown, 0),
            };
            Instruction { op, imm, has_imm: true, ..base }
        }
        0x33 => {
            let op = match (funct3, field(bits, 31, 25)) {
                (0, 0) => Op::Add,
                (0, 0x20) => Op::Sub,
                (1, 0) => Op::Sll,
                (2, 0) => Op::Slt,
                (3, 0) => Op::Sltu,
                (4, 0) => Op::Xor,
                (5, 0) => Op::Srl,
                (5, 0x20) => Op::Sra,
                (6, 0) => Op::Or,
                (7, 0) => Op::And,
                _ => Op::Unknown,
            };
            Instruction { op, ..base }
        }
        0x1b if funct3 == 0 => Instruction { op: Op::AddW, imm: i_type, has_imm: true, ..base },
        0x3b if funct3 == 0 && field(bits, 31, 25) == 0 => Instruction { op: Op::AddW, ..base },
        0x3b if funct3 == 0 && field(bits, 31, 25) == 0x20 => Instruction { op: Op::SubW, ..base },
        0x0f => Instruction { op: Op::Fence, ..base },
        0x73 => match (funct3, field(bits, 31, 20)) {
            (0, 0x102) => Instruction { op: Op::Sret, ..base },
            (0, number) if number >> 5 == 9 => Instruction { op: Op::SfenceVma, ..base },
            (0 | 4, _) => base,
            (_, csr) => {
                let op = match funct3 & 3 {
                    1 => Op::Swap,
                    2 => Op::Set,
                    _ => Op::Clear,
                };
                Instruction { op, csr: csr as u16, imm: base.rs1 as i64, has_imm: funct3 & 4 != 0, ..base }
            }
        },
        _ => base,
    }
}

const fn decode_short(bits: u32) -> Instruction {
    let base = Instruction { length: 2, ..Instruction::NONE };
    let (rd, rs2) = (field(bits, 11, 7) as u8, field(bits, 6, 2) as u8);
    // The registers of the short fields: x8 to x15.
    let (rd_short, rs1_short) = (8 + field(bits, 4, 2) as u8, 8 + field(bits, 9, 7) as u8);
    let imm6 = signed(field(bits, 12, 12) << 5 | field(bits, 6, 2), 6);
    let shift = (field(bits, 12, 12) << 5 | field(bits, 6, 2)) as i64;
    let word = (field(bits, 12, 10) << 3 | field(bits, 6, 6) << 2 | field(bits, 5, 5) << 6) as i64;
    let double = (field(bits, 12, 10) << 3 | field(bits, 6, 5) << 6) as i64;
    let jump = signed(
        field(bits, 12, 12) << 11
            | field(bits, 11, 11) << 4
            | field(bits, 10, 9) << 8
            | field(bits, 8, 8) << 10
            | field(bits, 7, 7) << 6
            | field(bits, 6, 6) << 7
            | field(bits, 5, 3) << 1
            | field(bits, 2, 2) << 5,
        12,
    );
    let branch = signed(
        field(bits, 12, 12) << 8
            | field(bits, 11, 10) << 3
            | field(bits, 6, 5) << 6
            | field(bits, 4, 3) << 1
            | field(bits, 2, 2) << 5,
        9,
    );
    match (bits & 3, field(bits, 15, 13)) {
        (0, 0) if bits != 0 => {
            let imm = field(bits, 12, 11) << 4
                | field(bits, 10, 7) << 6
                | field(bits, 6, 6) << 2
                | field(bits, 5, 5) << 3;
            Instruction { op: Op::Add, rd: rd_short, rs1: 2, imm: imm as i64, has_imm: true, ..base }
        }
        (0, 2) => Instruction {
            op: Op::Load(4, true),
            rd: rd_short,
            rs1: rs1_short,
            imm: word,
            has_imm: true,
            ..base
        },
        (0, 3) => Instruction {
            op: Op::Load(8, true),
            rd: rd_short,
            rs1: rs1_short,
            imm: double,
            has_imm: true,
            ..base
        },
        (0, 6) => {
            Instruction { op: Op::Store(4), rs2: rd_short, rs1: rs1_short, imm: word, has_imm: true, ..base }
        }
        (0, 7) => Instruction {
            op: Op::Store(8),
            rs2: rd_short,
            rs1: rs1_short,
            imm: double,
            has_imm: true,
            ..base
        },
        (1, 0) => Instruction { op: Op::Add, rd, rs1: rd, imm: imm6, has_imm: true, ..base },
        (1, 1) => Instruction { op: Op::AddW, rd, rs1: rd, imm: imm6, has_imm: true, ..base },
        (1, 2) => Instruction { op: Op::Add, rd, imm: imm6, has_imm: true, ..base },
        (1, 3) if rd == 2 => {
            let imm = field(bits, 12, 12) << 9
                | field(bits, 6, 6) << 4
                | field(bits, 5, 5) << 6
                | field(bits, 4, 3) << 7
                | field(bits, 2, 2) << 5;
            Instruction { op: Op::Add, rd: 2, rs1: 2, imm: signed(imm, 10), has_imm: true, ..base }
        }
        (1, 3) => Instruction { op: Op::Lui, rd, imm: imm6 << 12, has_imm: true, ..base },
        (1, 4) => {
            let base = Instruction { rd: rs1_short, rs1: rs1_short, ..base };
            match (field(bits, 11, 10), field(bits, 12, 12), field(bits, 6, 5)) {
                (0, ..) => Instruction { op: Op::Srl, imm: shift, has_imm: true, ..base },
                (1, ..) => Instruction { op: Op::Sra, imm: shift, has_imm: true, ..base },
                (2, ..) => Instruction { op: Op::And, imm: imm6, has_imm: true, ..base },
                (_, 0, 0) => Instruction { op: Op::Sub, rs2: rd_short, ..base },
                (_, 0, 1) => Instruction { op: Op::Xor, rs2: rd_short, ..base },
                (_, 0, 2) => Instruction { op: Op::Or, rs2: rd_short, ..base },
                (_, 0, _) => Instruction { op: Op::And, rs2: rd_short, ..base },
                (_, _, 0) => Instruction { op: Op::SubW, rs2: rd_short, ..base },
                (_, _, 1) => Instruction { op: Op::AddW, rs2: rd_short, ..base },
                _ => base,
            }
        }
        (1, 5) => Instruction { op: Op::Jal, imm: jump, has_imm: true, ..base },
        (1, 6) => Instruction { op: Op::Beq, rs1: rs1_short, imm: branch, ..base },
        (1, 7) => Instruction { op: Op::Bne, rs1: rs1_short, imm: branch, ..base },
        (2, 0) => Instruction { op: Op::Sll, rd, rs1: rd, imm: shift, has_imm: true, ..base },
        (2, 2) => {
            let imm = field(bits, 12, 12) << 5 | field(bits, 6, 4) << 2 | field(bits, 3, 2) << 6;
            Instruction { op: Op::Load(4, true), rd, rs1: 2, imm: imm as i64, has_imm: true, ..base }
        }
        (2, 3) => {
            let imm = field(bits, 12, 12) << 5 | field(bits, 6, 5) << 3 | field(bits, 4, 2) << 6;
            Instruction { op: Op::Load(8, true), rd, rs1: 2, imm: imm as i64, has_imm: true, ..base }
        }
        (2, 4) => match (field(bits, 12, 12), rd, rs2) {
            (_, 0, _) => base,
            (is_call, rs1, 0) => Instruction { op: Op::Jalr, rd: is_call as u8, rs1, has_imm: true, ..base },
            (0, rd, rs2) => Instruction { op: Op::Add, rd, rs2, ..base },
            (_, rd, rs2) => Instruction { op: Op::Add, rd, rs1: rd, rs2, ..base },
        },
        (2, 6) => {
            let imm = field(bits, 12, 9) << 2 | field(bits, 8, 7) << 6;
            Instruction { op: Op::Store(4), rs2, rs1: 2, imm: imm as i64, has_imm: true, ..base }
        }
        (2, 7) => {
            let imm = field(bits, 12, 10) << 3 | field(bits, 9, 7) << 6;
            Instruction { op: Op::Store(8), rs2, rs1: 2, imm: imm as i64, has_imm: true, ..base }
        }
        _ => base,
    }
}
