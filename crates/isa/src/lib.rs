//! The RISC-V instruction-set architecture as data: registers, CSR addresses and fields, trap causes,
//! instruction decoding and page-table formats; and where known harts depart from it.
//!
//! Pure and without dependencies. Says what an encoding means, never what the hypervisor does about it.
#![no_std]
#![forbid(unsafe_code)]

pub mod csr;
pub mod errata;
pub mod instr;
pub mod paging;
pub mod reg;
pub mod trap;

pub use instr::{Instr, Width};
pub use reg::{FReg, Reg};
pub use trap::{Exception, Interrupt, Privilege, TrapInfo};
