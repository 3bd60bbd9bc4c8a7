//! The assembly's pieces, for the table of sites, as the program itself tells them.

use memory::HartAuthority;
use vhart::site::Handler;
use vhart::{HandlerTables, Handlers, Op};

use crate::coverage::Counts;
use crate::cpu::{Cpu, RETURN, Stop};
use crate::image::Image;
use crate::memory::{Memory, What};

/// What serves sites, in the program that is loaded.
pub fn handlers(image: &Image) -> Handlers {
    const REGISTERS: usize = 32;
    let mut out = vec![0_u64; Op::COUNT + 4 * REGISTERS + 1];
    let at = out.as_mut_ptr().expose_provenance() as u64;
    let mut stack = vec![0_u64; 512];
    let mut memory = Memory::default();
    image.add_to(&mut memory);
    // SAFETY: both are there until this ends, and are not touched before the program is done.
    unsafe {
        memory.add(What::Stack, at, size_of_val(&*out));
        memory.add(What::Stack, stack.as_mut_ptr().expose_provenance() as u64, size_of_val(&*stack));
    }
    let mut cpu = Cpu::new();
    cpu.pc = image.addresses;
    (cpu.x[1], cpu.x[2], cpu.x[10]) = (RETURN, stack.as_ptr_range().end.addr() as u64, at);
    assert_eq!(cpu.run(image, &mut memory, &mut Counts::new(image)), Stop::Returned);
    let mut rest = out.into_iter().map(handler);
    let mut next = || rest.next().expect("all of them");
    let tables = HandlerTables {
        ops: core::array::from_fn(|_| next()),
        sources: core::array::from_fn(|_| next()),
        immediate: next(),
        finishes: core::array::from_fn(|_| next()),
        off_reads: core::array::from_fn(|_| next()),
        restores: core::array::from_fn(|_| next()),
    };
    Handlers::new(tables, HartAuthority::simulated())
}

/// An address of the program as the table of sites has it.
fn handler(address: u64) -> Handler {
    assert_ne!(address, 0);
    let address = std::ptr::without_provenance::<()>(address as usize);
    // SAFETY: not 0, and never called: the code is no code of this machine's.
    unsafe { core::mem::transmute::<*const (), Handler>(address) }
}
