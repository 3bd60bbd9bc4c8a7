use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use isa::Interrupt;
use isa::csr::CsrAddr;
use isa::paging::Mode;
use proptest::prelude::*;

use super::*;
use crate::units::{Held, Units};

const FEATURES: CsrFeatures = CsrFeatures {
    widest_mode: Mode::Sv48,
    float: true,
    vector: true,
    cache_blocks: true,
    cache_zero: true,
    svinval: true,
};

fn frame() -> VcpuFrame {
    VcpuFrame { units: Units::new(3, 16), ..VcpuFrame::new(FEATURES) }
}

/// Any frame: each CSR holds what is left of a random value.
fn any_frame() -> impl Strategy<Value = VcpuFrame> {
    let words = |count| prop::collection::vec(any::<u64>(), count);
    (words(32), words(RULES_STORED), words(32), words(64), any::<[u64; 6]>(), any::<[bool; 4]>()).prop_map(
        |(
            x,
            csrs,
            float,
            vector,
            [pc, fcsr, vstart, vl, vtype, vcsr],
            [is_user, software, timer, external],
        )| {
            let mut frame = VcpuFrame { pc: pc & !1, ..frame() };
            frame.x[1..].copy_from_slice(&x[1..]);
            frame.privilege = if is_user { Privilege::User } else { Privilege::Supervisor };
            for ((number, _), value) in frame.csr.values().collect::<Vec<_>>().iter().zip(csrs) {
                frame.csr.write(CsrAddr::new(u32::from(*number)), value, Privilege::Supervisor).unwrap();
            }
            for (interrupt, level) in Interrupt::BY_PRIORITY.into_iter().zip([external, software, timer]) {
                frame.csr.set_pending(interrupt, level);
            }
            frame.units.float.copy_from_slice(&float);
            frame.units.fcsr = fcsr & 0xff;
            frame.units.vector.copy_from_slice(&vector);
            frame.units.vector_csrs = VectorCsrs { vstart, vl, vtype, vcsr: vcsr & 7 };
            frame
        },
    )
}

/// CSRs that are fields.
const RULES_STORED: usize = 11;

/// All that a guest could tell, without `FrameState`.
fn shown(frame: &VcpuFrame) -> String {
    let VcpuFrame { x, pc, privilege, csr, units, .. } = frame;
    let Units { float, fcsr, vector, vector_csrs, .. } = units;
    format!("{x:x?} {pc:x} {privilege:?} {csr:x?} {float:x?} {fcsr:x} {vector:x?} {vector_csrs:x?}")
}

proptest! {
    #[test]
    fn another_frame_takes_up_all_that_a_guest_can_tell(from in any_frame(), mut to in any_frame()) {
        let state = FrameState::of(&from);
        let mut held = Held::default();
        held.loaded_float(&to.units);
        held.loaded_vector(&to.units);
        state.restore(&mut to).unwrap();
        prop_assert_eq!(shown(&from), shown(&to));
        prop_assert_eq!(&FrameState::of(&to), &state);
        // What a hart holds of the units is not theirs.
        prop_assert_eq!(to.guarded, u64::MAX);
        prop_assert_eq!(held.missing(&to.units), to.csr.unit_mask());
        let bytes = postcard::to_allocvec(&state).unwrap();
        prop_assert_eq!(postcard::from_bytes::<FrameState>(&bytes).unwrap(), state);
    }

    #[test]
    fn a_csr_takes_up_what_it_could_hold_and_nothing_else(
        nth in 0..RULES_STORED,
        value in any::<u64>(),
        mut frame in any_frame(),
    ) {
        let before = shown(&frame);
        let mut state = FrameState::of(&frame);
        state.csrs[nth].1 = value;
        match state.restore(&mut frame) {
            Ok(()) => prop_assert_eq!(FrameState::of(&frame), state),
            Err(unfit) => {
                prop_assert_eq!(unfit, Unfit::Impossible("a CSR's value"));
                prop_assert_eq!(shown(&frame), before);
            }
        }
    }
}

#[test]
fn what_no_hart_could_be_in_is_refused() {
    let spoiled = |spoil: fn(&mut FrameState)| {
        let mut frame = frame();
        let mut state = FrameState::of(&frame);
        spoil(&mut state);
        let before = shown(&frame);
        let refused = state.restore(&mut frame).unwrap_err();
        assert_eq!(shown(&frame), before);
        refused
    };
    assert_eq!(spoiled(|state| state.hart.float = false), Unfit::OtherHart);
    assert_eq!(spoiled(|state| state.hart.widest_mode = 8), Unfit::OtherHart);
    assert_eq!(spoiled(|state| state.vector.truncate(63)), Unfit::OtherHart);
    let registers = Unfit::Impossible("more or fewer registers");
    assert_eq!(spoiled(|state| state.x.truncate(30)), registers);
    assert_eq!(spoiled(|state| state.float.push(0)), registers);
    let odd = |FrameState { pc, .. }: &mut FrameState| *pc = 1;
    assert_eq!(spoiled(odd), Unfit::Impossible("an odd pc"));
    let bits = Unfit::Impossible("bits of fcsr or vcsr that there are not");
    assert_eq!(spoiled(|state| state.fcsr = 0x100), bits);
    assert_eq!(spoiled(|state| state.vector_csrs.vcsr = 8), bits);
    let csr = Unfit::Impossible("a CSR's value");
    assert_eq!(spoiled(|state| state.csrs.truncate(10)), csr);
    assert_eq!(spoiled(|state| state.csrs.push((0x100, 0))), csr);
    assert_eq!(spoiled(|state| state.csrs.swap(0, 1)), csr);
    assert_eq!(spoiled(|state| state.csrs[0].1 = 0), csr, "sstatus without UXL");
    assert_eq!(spoiled(|state| state.csrs[2].1 = 1), csr, "a bit of sip that there is not");
}

#[test]
fn each_csr_that_is_a_field_is_saved() {
    let numbers: Vec<_> = frame().csr.values().map(|(number, _)| number).collect();
    assert_eq!(numbers, [0x100, 0x104, 0x144, 0x105, 0x106, 0x10a, 0x140, 0x141, 0x142, 0x143, 0x180]);
}
