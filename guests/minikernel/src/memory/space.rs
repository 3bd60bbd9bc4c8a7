//! A process's address space: its page table, its ASID, the program loaded into it, and the pages that appear
//! on demand. Also the only way in which the kernel reads a program's memory.

use super::PAGE;
use super::frames::Frames;
use super::table::{Census, OutOfFrames, PageTable};
use elf::ElfBytes;
use elf::abi::{PF_R, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use guest_rt::isa::Exception;
use guest_rt::isa::paging::Pte;
use guest_rt::paging::fence_address_asid;
use user::abi::{HEAP_BASE, HEAP_SIZE, STACK_SIZE, STACK_TOP, USER_BASE, USER_END};

/// Why a program cannot be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// It is no ELF file, or says something impossible.
    BadProgram,
    /// There is no memory left.
    OutOfFrames,
}

impl From<OutOfFrames> for LoadError {
    fn from(_: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// An address space.
pub struct Space {
    table: PageTable,
    asid: u16,
}

impl Space {
    /// An address space that holds `program`, an ELF file, and nothing else; and its entry point.
    ///
    /// # Errors
    /// Everything taken is given back.
    pub fn load(
        program: &[u8],
        kernel: &PageTable,
        asid: u16,
        frames: &mut Frames,
    ) -> Result<(Self, u64), LoadError> {
        let space = Self { table: PageTable::for_process(kernel, frames)?, asid };
        match space.load_segments(program, frames) {
            Ok(entry) => Ok((space, entry)),
            Err(error) => {
                space.destroy(frames);
                Err(error)
            }
        }
    }

    fn load_segments(&self, program: &[u8], frames: &mut Frames) -> Result<u64, LoadError> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(program).map_err(|_| LoadError::BadProgram)?;
        let segments = file.segments().ok_or(LoadError::BadProgram)?;
        for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD && segment.p_memsz > 0) {
            let data = file.segment_data(&segment).map_err(|_| LoadError::BadProgram)?;
            let end = segment.p_vaddr.checked_add(segment.p_memsz).ok_or(LoadError::BadProgram)?;
            let in_place = segment.p_vaddr.is_multiple_of(PAGE) && segment.p_filesz <= segment.p_memsz;
            if !in_place || segment.p_vaddr < USER_BASE || end > HEAP_BASE {
                return Err(LoadError::BadProgram);
            }
            let flag = |bit, pte| if segment.p_flags & bit != 0 { pte } else { 0 };
            let flags = flag(PF_R, Pte::R) | flag(PF_W, Pte::W) | flag(PF_X, Pte::X);
            let mut pages = data.chunks(PAGE as usize);
            for address in (segment.p_vaddr..end).step_by(PAGE as usize) {
                let mut frame = frames.take().ok_or(OutOfFrames)?;
                // Past the file's bytes the frame keeps its zeros: that is the bss.
                if let Some(bytes) = pages.next() {
                    frame.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
                }
                self.table.map_user(address, frame, flags, frames)?;
            }
        }
        Ok(file.ehdr.e_entry)
    }

    /// satp's value for this address space.
    pub fn satp(&self) -> u64 {
        self.table.satp(self.asid)
    }

    /// The address-space identifier.
    pub fn asid(&self) -> u16 {
        self.asid
    }

    /// Counts the tables and pages of user space.
    pub fn census(&self) -> Census {
        self.table.census(true)
    }

    /// Serves a page fault at `address`: where heap or stack may be, a zero page appears. `false` when the
    /// fault is the program's own, or no frame is left.
    pub fn fill(&self, fault: Exception, address: u64, frames: &mut Frames) -> bool {
        let is_data = matches!(fault, Exception::LoadPageFault | Exception::StorePageFault);
        let heap = HEAP_BASE..HEAP_BASE + HEAP_SIZE;
        let stack = STACK_TOP - STACK_SIZE..STACK_TOP;
        let on_demand = heap.contains(&address) || stack.contains(&address);
        if !is_data || !on_demand || self.table.user_leaf(address).is_some() {
            return false;
        }
        let Some(frame) = frames.take() else { return false };
        let page = address & !(PAGE - 1);
        if self.table.map_user(page, frame, Pte::R | Pte::W, frames).is_err() {
            return false;
        }
        // The hart may remember that there was nothing. Priv. spec, "Supervisor Memory-Management Fence".
        fence_address_asid(page, self.asid.into());
        true
    }

    /// Hands the program's bytes at `address..address + length` to `take`, a page at a time. The kernel walks
    /// the table itself rather than touch user addresses, so a bad pointer cannot make the kernel fault.
    /// `false`, with nothing taken, where the program could not read all of them itself.
    pub fn read(&self, address: u64, length: u64, mut take: impl FnMut(&[u8])) -> bool {
        let Some(end) = address.checked_add(length).filter(|&end| end <= USER_END) else { return false };
        let pages = || (address & !(PAGE - 1)..end).step_by(PAGE as usize);
        let readable = |page| self.table.user_leaf(page).filter(|leaf| leaf.has(Pte::R));
        if !pages().all(|page| readable(page).is_some()) {
            return false;
        }
        for (page, leaf) in pages().filter_map(|page| Some((page, readable(page)?))) {
            let (from, to) = (address.max(page), end.min(page + PAGE));
            let start = leaf.address() + (from - page);
            // SAFETY: the frame is the program's, which does not run now; it is RAM, mapped one to one.
            take(unsafe { core::slice::from_raw_parts(start as *const u8, (to - from) as usize) });
        }
        true
    }

    /// Gives everything back. No hart may be using it: satp names another table.
    pub fn destroy(self, frames: &mut Frames) {
        self.table.destroy(frames);
    }
}
