//! x
#![no_std]
#![no_main]

use guest_rt::isa::{Exception, Width};
use guest_rt::paging::{self, Mode, Pte, RWX, Tables};
use guest_rt::{access, check, csr_read, user};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    check!("satp_is_zero", csr_read!(SATP), 0u64);
    check!("hole", access::load(Width::Word, 0x0800_0000).is_err_and(|t| t.is(Exception::LoadAccessFault)));
    check!("jump_to_hole", access::call(0x0800_0000, 0).is_err_and(|t| t.is(Exception::InstructionAccessFault)));
    check!("sv48", paging::supports(Mode::Sv48));
    check!("sv57", paging::supports(Mode::Sv57), in [false, true]);
    let tables = Tables::with_kernel(Mode::Sv39);
    let code = paging::frame();
    unsafe { (code as *mut u32).write_volatile(0x73) };
    tables.map(0x4000_0000, code, 0, RWX | Pte::U);
    tables.activate(0);
    let trap = user::call(0x4000_0000, 1, 2);
    check!("user_ecall", trap.cause, 8u64);
    check!("user_epc", trap.epc, 0x4000_0000u64);
}
