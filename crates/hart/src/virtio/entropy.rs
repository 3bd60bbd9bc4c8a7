//! Driver of a virtio source of randomness ("Entropy Device", virtio 1.2 section 5.4), for set-up: it is asked once, and
//! given up again.

use alloc::boxed::Box;

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceType, Transport};

use super::{DirectMap, OpenError, features_taken, queue_error, transport};
use crate::mmio::Mmio;
use crate::time;

const QUEUE: u16 = 0;
const QUEUE_SIZE: usize = 2;
/// Bytes that the device is asked for.
const BYTES: usize = 64;

bitflags::bitflags! {
    /// Feature bits that we know what to do with.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const VERSION_1 = 1 << 32;
    }
}

/// Asks the device with these registers for random bytes, and says how many of `bytes` it has filled; none where it has
/// not answered by `deadline`, in ticks of the timebase.
///
/// # Errors
/// Where it is no source of randomness that we can drive.
pub fn read(registers: &Mmio, bytes: &mut [u8; BYTES], deadline: u64) -> Result<usize, OpenError> {
    let mut transport = transport(registers).map_err(|_| OpenError::WrongDevice)?;
    if transport.device_type() != DeviceType::EntropySource {
        return Err(OpenError::WrongDevice);
    }
    transport.begin_init(Features::all());
    if !features_taken(&transport) {
        return Err(OpenError::Refused);
    }
    let mut queue =
        VirtQueue::<DirectMap, QUEUE_SIZE>::new(&mut transport, QUEUE, false, false).map_err(queue_error)?;
    queue.set_dev_notify(false);
    transport.finish_init();
    let mut buffer = Box::new([0; BYTES]);
    // SAFETY: the buffer stays where it is until the device has given it back, or for ever.
    let token = unsafe { queue.add(&[], &mut [&mut buffer[..]]) }.map_err(queue_error)?;
    transport.notify(QUEUE);
    while !queue.can_pop() {
        if time::now() >= deadline {
            // The device may still write there: neither the queue nor the buffer becomes anything else.
            core::mem::forget((queue, buffer));
            return Ok(0);
        }
        core::hint::spin_loop();
    }
    // SAFETY: this is what was added with this token.
    let filled = unsafe { queue.pop_used(token, &[], &mut [&mut buffer[..]]) }.map_err(queue_error)?;
    transport.ack_interrupt();
    let filled = (filled as usize).min(BYTES);
    bytes[..filled].copy_from_slice(&buffer[..filled]);
    // The device forgets the queue before the queue's memory goes back to the heap.
    drop(transport);
    Ok(filled)
}
