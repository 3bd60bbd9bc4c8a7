//! Where in a `VcpuFrame` the assembly finds what: byte offsets, all within reach of a load's 12 bits.

use core::mem::offset_of;

use crate::csr::CsrFile;
use crate::frame::{GuestMemory, VcpuFrame};
use crate::hint::FillHint;
use crate::site::Site;
use crate::space::{Roots, Space};

/// x0 to x31, the first of them at 0.
pub const X: usize = offset_of!(VcpuFrame, x);
/// Where the guest goes on.
pub const PC: usize = offset_of!(VcpuFrame, pc);
/// The hypervisor's stack pointer.
pub const HOST_SP: usize = offset_of!(VcpuFrame, host_sp);
/// The virtual privilege: 0 user, 1 supervisor.
pub const PRIVILEGE: usize = offset_of!(VcpuFrame, privilege);
/// See `VcpuFrame::ready`.
pub const READY: usize = offset_of!(VcpuFrame, ready);
/// See `VcpuFrame::status_guard`.
pub const STATUS_GUARD: usize = offset_of!(VcpuFrame, status_guard);
/// The root of virtual user mode.
pub const ROOT_USER: usize = offset_of!(VcpuFrame, roots) + offset_of!(Roots, user);
/// The root of virtual supervisor mode, SUM clear.
pub const ROOT_SUPERVISOR: usize = offset_of!(VcpuFrame, roots) + offset_of!(Roots, supervisor);
/// The root of virtual supervisor mode, SUM set.
pub const ROOT_SUM: usize = offset_of!(VcpuFrame, roots) + offset_of!(Roots, supervisor_sum);
/// The present space's tag.
pub const TAG: usize = offset_of!(VcpuFrame, roots) + offset_of!(Roots, tag);
/// See `VcpuFrame::switch_extra`.
pub const SWITCH_EXTRA: usize = offset_of!(VcpuFrame, switch_extra);
/// senvcfg in virtual user mode.
pub const SENVCFG_USER: usize = offset_of!(VcpuFrame, senvcfg);
/// senvcfg in virtual supervisor mode.
pub const SENVCFG_SUPERVISOR: usize = SENVCFG_USER + 8;
/// See `VcpuFrame::flush_on_switch`.
pub const FLUSH_ON_SWITCH: usize = offset_of!(VcpuFrame, flush_on_switch);
/// See `VcpuFrame::switch_senvcfg`.
pub const SWITCH_SENVCFG: usize = offset_of!(VcpuFrame, switch_senvcfg);
/// Counts fast exits.
pub const FAST_EXITS: usize = offset_of!(VcpuFrame, fast_exits);
/// The first guest-physical address of the guest's memory.
pub const MEMORY_BASE: usize = offset_of!(VcpuFrame, memory) + offset_of!(GuestMemory, base);
/// Its size.
pub const MEMORY_SIZE: usize = offset_of!(VcpuFrame, memory) + offset_of!(GuestMemory, size);
/// Its first host-physical address.
pub const MEMORY_HOST: usize = offset_of!(VcpuFrame, memory) + offset_of!(GuestMemory, host);
/// Where its blocks' bytes are.
pub const MEMORY_BLOCKS: usize = offset_of!(VcpuFrame, memory) + offset_of!(GuestMemory, blocks);
/// Where the count of watched pages that were let go is.
pub const MEMORY_UNWATCHED: usize = offset_of!(VcpuFrame, memory) + offset_of!(GuestMemory, unwatched);
/// See `VcpuFrame::settled`.
pub const SETTLED: usize = offset_of!(VcpuFrame, settled);
/// See `VcpuFrame::fast_fences`.
pub const FAST_FENCES: usize = offset_of!(VcpuFrame, fast_fences);
/// Where the hints are.
pub const HINTS: usize = offset_of!(VcpuFrame, hints);
/// See `VcpuFrame::filled_writable`.
pub const FILLED_WRITABLE: usize = offset_of!(VcpuFrame, filled_writable);
/// Counts fences at changes of the root.
pub const SWITCH_FLUSHES: usize = offset_of!(VcpuFrame, switch_flushes);
/// The pointer to the sites.
pub const SITES: usize = offset_of!(VcpuFrame, sites);
/// The spaces; each is `SPACE_SIZE` bytes.
pub const SPACES: usize = offset_of!(VcpuFrame, spaces);

const CSR: usize = offset_of!(VcpuFrame, csr);
/// sstatus, without FS, VS and SD.
pub const SSTATUS: usize = CSR + offset_of!(CsrFile, sstatus);
/// Which of FS, VS and SD the hart has.
pub const UNITS_READ: usize = CSR + offset_of!(CsrFile, units_read);
/// Which of FS and VS can be written.
pub const UNITS_WRITTEN: usize = CSR + offset_of!(CsrFile, units_written);
/// stvec.
pub const STVEC: usize = CSR + offset_of!(CsrFile, stvec);
/// sepc.
pub const SEPC: usize = CSR + offset_of!(CsrFile, sepc);
/// scause.
pub const SCAUSE: usize = CSR + offset_of!(CsrFile, scause);
/// stval.
pub const STVAL: usize = CSR + offset_of!(CsrFile, stval);
/// satp.
pub const SATP: usize = CSR + offset_of!(CsrFile, satp);

/// In a site: its pc, in its own space exclusive-or the space's tag.
pub const SITE_TAG: usize = offset_of!(Site, tag);
/// In a site: where its service begins.
pub const SITE_FIRST: usize = offset_of!(Site, first);
/// In a site: the operation.
pub const SITE_OP: usize = offset_of!(Site, op);
/// In a site: what writes rd and returns to the guest.
pub const SITE_FINISH: usize = offset_of!(Site, finish);
/// In a site: the immediate operand.
pub const SITE_OPERAND: usize = offset_of!(Site, operand);
/// In a site: where in the frame its CSR is.
pub const SITE_FIELD: usize = offset_of!(Site, field);
/// In a site: the bits of its CSR that can be written.
pub const SITE_MASK: usize = offset_of!(Site, mask);

/// In a hint: its range.
pub const HINT_RANGE: usize = offset_of!(FillHint, range);
/// In a hint: its root.
pub const HINT_ROOT: usize = offset_of!(FillHint, root);
/// In a hint: the guest's table.
pub const HINT_GUEST: usize = offset_of!(FillHint, guest);
/// In a hint: the shadow's table.
pub const HINT_SHADOW: usize = offset_of!(FillHint, shadow);
/// In a hint: what the shadow's entries were made of.
pub const HINT_SEEN: usize = offset_of!(FillHint, seen);
/// In a hint: the slots in use.
pub const HINT_USED: usize = offset_of!(FillHint, used);
/// How far behind the bits of the slots in use the bits of the blocks are in which leaves lie.
pub const BLOCKS_BEHIND_USED: usize = 64;
/// In a hint: the bits to look at.
pub const HINT_MASK: usize = offset_of!(FillHint, mask);
/// In a hint: what they have to be.
pub const HINT_VALUE: usize = offset_of!(FillHint, value);
/// In a hint: the permissions that are taken over.
pub const HINT_KEPT: usize = offset_of!(FillHint, kept);

/// In a space: satp.
pub const SPACE_SATP: usize = offset_of!(Space, satp);
/// In a space: the roots, as in the frame from `ROOT_USER` on.
pub const SPACE_ROOTS: usize = offset_of!(Space, roots);
/// Bytes of a space; the assembly shifts by its logarithm, 6.
pub const SPACE_SIZE: usize = size_of::<Space>();

const _: () = {
    assert!(X == 0);
    assert!(SPACE_SIZE == 64 && size_of::<Site>() == 64);
    assert!(SPACES + crate::space::SPACES * SPACE_SIZE <= 2048);
    assert!(size_of::<FillHint>() == 128 && crate::hint::HINTS == 64);
    // The pointer comes first.
    assert!(size_of::<crate::site::SiteTable>() == 24);
};
