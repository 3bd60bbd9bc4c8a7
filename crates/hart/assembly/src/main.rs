//! The assembly of `hart` in a program of its own, as the hypervisor's image has it: compiled for the same target, by the same
//! profile, with the same numbers. Nobody runs it; this package's tests load it into an interpreter.
#![cfg_attr(target_arch = "riscv64", no_std, no_main)]

#[cfg(target_arch = "riscv64")]
mod image {
    use core::panic::PanicInfo;

    use hart::Hart;
    use vhart::site::Handler;
    use vhart::{HandlerTables, Op, RootSatp, VcpuFrame};

    /// The assembly's addresses: by operation, then what `HandlerTables` has beside, in its order.
    #[repr(C)]
    struct Addresses {
        ops: [Handler; Op::COUNT],
        sources: [Handler; 32],
        immediate: Handler,
        finishes: [Handler; 32],
        off_reads: [Handler; 32],
        restores: [Handler; 32],
    }

    /// Tells the addresses; the test calls it.
    // SAFETY: no other function of this name is linked.
    #[unsafe(no_mangle)]
    extern "C" fn assembly_addresses(out: &mut Addresses) {
        let HandlerTables { ops, sources, immediate, finishes, off_reads, restores } = hart::fast::tables();
        *out = Addresses { ops, sources, immediate, finishes, off_reads, restores };
    }

    /// Not to be called: keeps the world switch, and so all of the assembly, in the program.
    // SAFETY: no other function of this name is linked.
    #[unsafe(no_mangle)]
    extern "C" fn assembly_run(hart: &mut Hart, frame: &mut VcpuFrame, root: RootSatp) -> u64 {
        hart.run(frame, root).cause
    }

    // Compressed instructions, each before what it stands for.
    core::arch::global_asm!(
        ".pushsection .text.pairs, \"ax\"",
        ".option push",
        ".option norelax",
        include_str!("pairs.s"),
        ".option pop",
        ".popsection",
    );

    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        loop {
            core::hint::spin_loop();
        }
    }
}

#[cfg(not(target_arch = "riscv64"))]
fn main() {}
