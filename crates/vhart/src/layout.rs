//! Where in a `VcpuFrame` the assembly finds what: byte offsets, all within reach of a load's 12 bits.

use core::mem::offset_of;

use crate::csr::CsrFile;
use crate::frame::{FastState, GuestMemory, VcpuFrame};
use crate::hint::SharedHint;
use crate::site::Site;
use crate::space::{Roots, Space};
use crate::tables::Slots;

const FAST: usize = offset_of!(VcpuFrame, fast);

/// x0 to x31, the first of them at 0.
pub const X: usize = offset_of!(VcpuFrame, x);
/// Where the guest goes on.
pub const PC: usize = offset_of!(VcpuFrame, pc);
/// The hypervisor's stack pointer.
pub const HOST_SP: usize = offset_of!(VcpuFrame, host_sp);
/// The virtual privilege: 0 user, 1 supervisor.
pub const PRIVILEGE: usize = offset_of!(VcpuFrame, privilege);
/// See `FastState::ready`.
pub const READY: usize = FAST + offset_of!(FastState, ready);
/// See `FastState::status_guard`.
pub const STATUS_GUARD: usize = FAST + offset_of!(FastState, status_guard);
/// The root of virtual user mode.
pub const ROOT_USER: usize = FAST + offset_of!(FastState, roots) + offset_of!(Roots, user);
/// The root of virtual supervisor mode, SUM clear.
pub const ROOT_SUPERVISOR: usize = FAST + offset_of!(FastState, roots) + offset_of!(Roots, supervisor);
/// The root of virtual supervisor mode, SUM set.
pub const ROOT_SUM: usize = FAST + offset_of!(FastState, roots) + offset_of!(Roots, supervisor_sum);
/// The present space's tag.
pub const TAG: usize = FAST + offset_of!(FastState, roots) + offset_of!(Roots, tag);
/// See `FastState::switch_extra`.
pub const SWITCH_EXTRA: usize = FAST + offset_of!(FastState, switch_extra);
/// senvcfg in virtual user mode.
pub const SENVCFG_USER: usize = FAST + offset_of!(FastState, senvcfg);
/// senvcfg in virtual supervisor mode.
pub const SENVCFG_SUPERVISOR: usize = SENVCFG_USER + 8;
/// See `FastState::flush_on_switch`.
pub const FLUSH_ON_SWITCH: usize = FAST + offset_of!(FastState, flush_on_switch);
/// See `FastState::switch_senvcfg`.
pub const SWITCH_SENVCFG: usize = FAST + offset_of!(FastState, switch_senvcfg);
/// Counts fast exits.
pub const FAST_EXITS: usize = offset_of!(VcpuFrame, fast_exits);
/// The first guest-physical address of the guest's memory.
pub const MEMORY_BASE: usize = FAST + offset_of!(FastState, memory) + offset_of!(GuestMemory, base);
/// Its size.
pub const MEMORY_SIZE: usize = FAST + offset_of!(FastState, memory) + offset_of!(GuestMemory, size);
/// Its first host-physical address.
pub const MEMORY_HOST: usize = FAST + offset_of!(FastState, memory) + offset_of!(GuestMemory, host);
/// Where its blocks' bytes are.
pub const MEMORY_BLOCKS: usize = FAST + offset_of!(FastState, memory) + offset_of!(GuestMemory, blocks);
/// Where the count of watched pages that were let go is.
pub const MEMORY_UNWATCHED: usize = FAST + offset_of!(FastState, memory) + offset_of!(GuestMemory, unwatched);
/// See `FastState::settled`.
pub const SETTLED: usize = FAST + offset_of!(FastState, settled);
/// See `VcpuFrame::fast_fences`.
pub const FAST_FENCES: usize = offset_of!(VcpuFrame, fast_fences);
/// Where the hints are.
pub const HINTS: usize = FAST + offset_of!(FastState, hints);
/// See `FastState::filled_writable`.
pub const FILLED_WRITABLE: usize = FAST + offset_of!(FastState, filled_writable);
/// Counts fences at changes of the root.
pub const SWITCH_FLUSHES: usize = offset_of!(VcpuFrame, switch_flushes);
/// The pointer to the sites.
pub const SITES: usize = FAST + offset_of!(FastState, sites);
/// The spaces.
pub const SPACES: usize = FAST + offset_of!(FastState, spaces);

/// The CSRs.
pub const CSR: usize = offset_of!(VcpuFrame, csr);
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

/// The instruction that a site stands for, and the breakpoint in its place, have so many bytes.
pub const SITE_LENGTH: usize = 4;
/// How far the pc is folded onto itself for a site's second place.
pub const SITE_FOLD: u32 = crate::site::FOLD;
/// Bytes of a site, as a power of two.
pub const SITE_SHIFT: u32 = size_of::<Site>().ilog2();
/// Shifts a pc so far to the left that, of what the table is asked by, nothing but the index is left, and bit 0.
pub const SITE_LEFT: u32 = u64::BITS - (crate::site::SITES.ilog2() + 1);
/// Shifts it back to the right, to the offset of its first place in the table. A pc's bit 0 is 0.
pub const SITE_RIGHT: u32 = SITE_LEFT + 1 - SITE_SHIFT;
/// Shifts it back to the right, to the index alone.
pub const SITE_INDEX: u32 = SITE_LEFT + 1;

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
/// In a site: where among the frame's CSRs its CSR is.
pub const SITE_FIELD: usize = offset_of!(Site, field);
/// In a site: the bits of its CSR that can be written.
pub const SITE_MASK: usize = offset_of!(Site, mask);

/// Bytes of a hint, as a power of two.
pub const HINT_SHIFT: u32 = size_of::<SharedHint>().ilog2();
/// In a hint: its range.
pub const HINT_RANGE: usize = offset_of!(SharedHint, range);
/// In a hint: its root.
pub const HINT_ROOT: usize = offset_of!(SharedHint, root);
/// In a hint: the guest's table.
pub const HINT_GUEST: usize = offset_of!(SharedHint, guest);
/// In a hint: the shadow's table.
pub const HINT_SHADOW: usize = offset_of!(SharedHint, shadow);
/// In a hint: what the shadow's entries were made of.
pub const HINT_SEEN: usize = offset_of!(SharedHint, seen);
/// In a hint: the slots in use.
pub const HINT_USED: usize = offset_of!(SharedHint, used);
/// How far behind the bits of the slots in use the bits of the blocks are in which leaves lie.
pub const BLOCKS_BEHIND_USED: usize = offset_of!(Slots, blocks) - offset_of!(Slots, used);
/// In a hint: the bits to look at.
pub const HINT_MASK: usize = offset_of!(SharedHint, mask);
/// In a hint: what they have to be.
pub const HINT_VALUE: usize = offset_of!(SharedHint, value);
/// In a hint: the permissions that are taken over.
pub const HINT_KEPT: usize = offset_of!(SharedHint, kept);

/// In a space: satp.
pub const SPACE_SATP: usize = offset_of!(Space, satp);
/// In a space: the root of virtual user mode.
pub const SPACE_USER: usize = offset_of!(Space, roots) + offset_of!(Roots, user);
/// In a space: the root of virtual supervisor mode, SUM clear.
pub const SPACE_SUPERVISOR: usize = offset_of!(Space, roots) + offset_of!(Roots, supervisor);
/// In a space: the root of virtual supervisor mode, SUM set.
pub const SPACE_SUM: usize = offset_of!(Space, roots) + offset_of!(Roots, supervisor_sum);
/// In a space: its tag.
pub const SPACE_TAG: usize = offset_of!(Space, roots) + offset_of!(Roots, tag);
/// Bytes of a space, as a power of two.
pub const SPACE_SHIFT: u32 = size_of::<Space>().ilog2();

/// The greatest offset of a load or a store, and the greatest immediate operand.
const REACH: usize = (1 << 11) - 1;

const _: () = {
    assert!(X == 0);
    // The assembly shifts by these, and finds an index by a mask or by shifts.
    assert!(size_of::<Site>() == 1 << SITE_SHIFT && crate::site::SITES.is_power_of_two());
    assert!(size_of::<SharedHint>() == 1 << HINT_SHIFT && crate::hint::HINTS.is_power_of_two());
    assert!(size_of::<Space>() == 1 << SPACE_SHIFT && crate::space::SPACES.is_power_of_two());
    assert!(SITE_SHIFT >= 1 && crate::hint::HINTS - 1 <= REACH && crate::space::SPACES - 1 <= REACH);
    assert!(CSR + size_of::<CsrFile>() <= REACH + 1);
    assert!(SPACES + crate::space::SPACES * size_of::<Space>() <= REACH + 1);
    // The pointer to the sites comes first in their table.
    assert!(crate::site::PLACES_AT == 0);
};
