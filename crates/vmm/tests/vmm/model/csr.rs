//! Every Zicsr instruction on every CSR, and every privileged encoding.

use isa::Privilege;
use isa::csr::{CsrAddr, senvcfg, sstatus};

use super::{HARTS, Model, State, scramble};
use crate::support::asm::{self, CSR_FORMS};
use crate::support::random::Random;
use crate::support::{ENTRY, Guest};

/// Where the virtual hart and the model choose differently from what the specification leaves open.
struct Difference {
    csr: CsrAddr,
    reason: &'static str,
    /// What the virtual hart's CSR holds after a write, given what it held, what was written, and what the model's
    /// holds.
    ours: fn(old: u64, written: u64, model: u64) -> u64,
}

/// Differences in what sticks. Everything else that a guest can see is the same.
const DIFFERENCES: [Difference; 2] = [
    Difference {
        csr: CsrAddr::STVEC,
        reason: "a reserved MODE drops the whole write, as QEMU does; the model takes BASE and keeps MODE",
        ours: |old, written, model| if written & 3 > 1 { old } else { model },
    },
    Difference {
        csr: CsrAddr::SENVCFG,
        reason: "the reserved CBIE keeps the field; the model clears it",
        ours: |old, written, model| {
            let reserved = written & senvcfg::CBIE == 2 * senvcfg::CBIE_FLUSH && model & senvcfg::CBIE == 0;
            if reserved { model | old & senvcfg::CBIE } else { model }
        },
    },
];

/// CSRs that the real hart serves while the unit is on; the guest's instruction traps only when it is off.
const SERVED_BY_HARDWARE: [CsrAddr; 3] = [CsrAddr::FFLAGS, CsrAddr::FRM, CsrAddr::FCSR];

/// CSRs that other harts have and guests do not see, so that the model is configured without them: their first and
/// last address, and why.
const HIDDEN: [(u16, u16, &str); 13] = [
    (0x015, 0x015, "seed: Zkr is not shown to supervisors"),
    (0x10c, 0x10f, "sstateen: Ssstateen is not shown"),
    (0x14d, 0x14d, "stimecmp: Sstc is not shown, the SBI has the timer"),
    (0x150, 0x15c, "siselect to stopei: Ssaia is not shown"),
    (0x181, 0x181, "srmcfg: Ssqosid is not shown"),
    (0x200, 0x2ff, "the virtual supervisor's: H is not shown"),
    (0x300, 0x3ff, "the machine's"),
    (0x5a8, 0x5a8, "scontext: Sdtrig is not shown"),
    (0x600, 0x6ff, "the hypervisor's: H is not shown"),
    (0xc03, 0xc1f, "hpmcounters: Zihpm is not shown"),
    (0xda0, 0xda0, "scountovf: Sscofpmf is not shown"),
    (0xdb0, 0xdb0, "stopi: Ssaia is not shown"),
    (0xf11, 0xf15, "the machine's"),
];

/// What the instruction writes to a CSR that holds `old`, if it writes.
fn written(form: u32, source: u32, operand: u64, old: u64) -> Option<u64> {
    match form & 3 {
        1 => Some(operand),
        _ if source == 0 => None,
        2 => Some(old | operand),
        _ => Some(old & !operand),
    }
}

/// Executes a CSR instruction on both and asserts that they agree but for the differences.
fn compare(guest: &mut Guest, model: &mut Model, csr: CsrAddr, form: u32, rd: u32, source: u32) {
    let bits = asm::csr(form, rd, csr.as_u16(), source);
    let mut before = State::of(guest);
    model.mirror(guest);
    model.execute(bits);
    let mut expected = model.state();
    let operand = if form < 4 { before.registers[source as usize] } else { u64::from(source) };
    let was_illegal = expected.pc != before.pc.wrapping_add(4);
    for Difference { ours, .. } in DIFFERENCES.iter().filter(|it| it.csr == csr && !was_illegal) {
        let old = *before.csr_mut(csr).expect("a CSR of the hart");
        if let (Some(written), Some(new)) = (written(form, source, operand, old), expected.csr_mut(csr)) {
            *new = ours(old, written, *new);
        }
    }
    guest.execute(bits);
    let reasons = DIFFERENCES.iter().filter(|it| it.csr == csr).map(|it| it.reason).collect::<Vec<_>>();
    assert_eq!(
        State::of(guest),
        expected,
        "\n{csr:?} form {form} rd x{rd} source {source} from\n{before:?}\nknown differences: {reasons:?}"
    );
}

fn random_access(guest: &mut Guest, model: &mut Model, random: &mut Random, csr: CsrAddr, form: u32) {
    scramble(guest, random);
    if SERVED_BY_HARDWARE.contains(&csr) {
        let status = guest.csr(CsrAddr::SSTATUS);
        guest.set_csr(CsrAddr::SSTATUS, status & !sstatus::FS);
    }
    let (rd, source) = (random.register(), random.register());
    compare(guest, model, csr, form, rd, source);
}

#[test]
fn every_access_to_every_csr_does_what_the_specification_says() {
    let mut random = Random::new();
    for features in HARTS {
        let (mut guest, mut model) = (Guest::with_features(features), Model::new(features));
        for csr in (0..4096).map(CsrAddr::new) {
            for form in CSR_FORMS {
                random_access(&mut guest, &mut model, &mut random, csr, form);
            }
        }
    }
}

#[test]
fn csrs_that_exist_are_compared_with_many_more_values() {
    let existing = [
        0x001, 0x002, 0x003, 0x100, 0x104, 0x105, 0x106, 0x10a, 0x140, 0x141, 0x142, 0x143, 0x144, 0x180,
        0xc00, 0xc01, 0xc02,
    ];
    let mut random = Random::new();
    for features in HARTS {
        let (mut guest, mut model) = (Guest::with_features(features), Model::new(features));
        for csr in existing.map(CsrAddr::new) {
            for form in CSR_FORMS {
                for _ in 0..300 {
                    random_access(&mut guest, &mut model, &mut random, csr, form);
                }
            }
        }
    }
}

#[test]
fn a_hidden_csr_is_illegal_in_every_form_and_mode() {
    let mut guest = Guest::new();
    guest.set_csr(CsrAddr::SCOUNTEREN, !0);
    for (first, last, reason) in HIDDEN {
        for csr in first..=last {
            for (form, privilege) in CSR_FORMS
                .into_iter()
                .flat_map(|form| [(form, Privilege::User), (form, Privilege::Supervisor)])
            {
                guest.vcpu.frame.pc = ENTRY;
                guest.vcpu.frame.privilege = privilege;
                let bits = asm::csr(form, 10, csr, 0);
                guest.execute(bits);
                assert_eq!(guest.pc(), guest.csr(CsrAddr::STVEC), "{csr:#x}: {reason}");
                guest.assert_took(isa::Exception::IllegalInstruction, ENTRY, u64::from(bits));
            }
        }
    }
}

#[test]
fn a_floating_point_csr_that_traps_is_illegal_whatever_fs_says() {
    for csr in SERVED_BY_HARDWARE {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::SSTATUS, sstatus::FS_DIRTY);
        let (bits, pc) = (asm::csrrs(10, csr.as_u16(), 0), guest.pc());
        guest.execute(bits);
        guest.assert_took(isa::Exception::IllegalInstruction, pc, u64::from(bits));
    }
}

#[test]
fn every_privileged_encoding_is_legal_just_where_the_specification_says() {
    let mut random = Random::new();
    for features in HARTS {
        let (mut guest, mut model) = (Guest::with_features(features), Model::new(features));
        // funct3 0: SRET, WFI, the fences; 4: the hypervisor's loads and stores.
        for (funct12, funct3) in (0..4096).flat_map(|funct12| [(funct12, 0), (funct12, 4)]) {
            for (rd, rs1) in [(0, 0), (0, 5), (5, 0), (5, 5)] {
                let bits = funct12 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x73;
                if matches!(bits, asm::ECALL | asm::EBREAK) {
                    continue; // These have exceptions of their own.
                }
                scramble(&mut guest, &mut random);
                let before = State::of(&guest);
                model.mirror(&guest);
                model.execute(bits);
                guest.execute(bits);
                guest.vcpu.state = vmm::vcpu::RunState::Running;
                assert_eq!(State::of(&guest), model.state(), "\n{bits:#010x} from\n{before:?}");
            }
        }
    }
}

#[test]
fn counters_read_the_host_where_scounteren_lets_user_mode_see_them() {
    let mut guest = Guest::new();
    (guest.host.cycle, guest.host.now, guest.host.instret) = (11, 22, 33);
    for (bit, csr, value) in [(0, 0xc00, 11), (1, 0xc01, 22), (2, 0xc02, 33)] {
        guest.vcpu.frame.privilege = Privilege::Supervisor;
        guest.set_csr(CsrAddr::SCOUNTEREN, 0);
        guest.execute(asm::csrrs(10, csr, 0));
        assert_eq!(guest.reg(10), value, "supervisor");
        guest.vcpu.frame.privilege = Privilege::User;
        guest.set_csr(CsrAddr::SCOUNTEREN, 1 << bit);
        guest.execute(asm::csrrs(11, csr, 0));
        assert_eq!(guest.reg(11), value, "user");
        guest.set_csr(CsrAddr::SCOUNTEREN, !(1 << bit));
        let (bits, pc) = (asm::csrrs(12, csr, 0), guest.pc());
        guest.execute(bits);
        guest.assert_took(isa::Exception::IllegalInstruction, pc, u64::from(bits));
    }
}
