//! The hypervisor's heap, for what is set up once for each VM. Nothing on a guest's path allocates.

use spin::mutex::TicketMutex;
use talc::TalcLock;
use talc::source::Manual;

#[global_allocator]
static HEAP: TalcLock<TicketMutex<()>, Manual> = TalcLock::new(Manual);

/// Gives the heap memory to allocate from.
pub fn add(memory: &'static mut [u64]) {
    let bytes = size_of_val(memory);
    // SAFETY: the memory is ours for ever, and nobody else has it.
    let heap = unsafe { HEAP.lock().claim(memory.as_mut_ptr().cast(), bytes) };
    assert!(heap.is_some(), "the heap's {bytes} bytes are too few");
}
