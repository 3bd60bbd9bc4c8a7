//! Calls of the firmware below.

/// Asks for a timer interrupt at `deadline`, in ticks; `u64::MAX` is never. Takes a pending one back.
pub fn set_timer(deadline: u64) {
    // It always succeeds; firmware without the extension has the legacy call.
    if sbi_rt::set_timer(deadline).is_err() {
        #[allow(deprecated)]
        sbi_rt::legacy::set_timer(deadline);
    }
}

/// Whether the firmware prints a line for each SRET, WFI and fence that traps from user mode, and takes thousands of
/// instructions for it: OpenSBI from 1.6 on.
pub fn complains() -> bool {
    const OPENSBI: usize = 1;
    const FIRST: usize = 1 << 16 | 6;
    sbi_rt::get_sbi_impl_id() == OPENSBI && sbi_rt::get_sbi_impl_version() >= FIRST
}

/// Ticks that a call which does nothing takes, the least of a few.
pub fn call_ticks() -> u64 {
    let measure = |_| {
        let before = crate::time::now();
        let _ = sbi_rt::get_spec_version();
        crate::time::now().wrapping_sub(before)
    };
    (0..8).map(measure).min().unwrap_or(0)
}

/// Writes a byte to the firmware's console, waiting until it has gone.
pub fn console_putchar(byte: u8) {
    #[allow(deprecated)]
    sbi_rt::legacy::console_putchar(usize::from(byte));
}

/// Powers the machine off; comes back where the firmware cannot.
pub fn power_off() {
    sbi_rt::system_reset(sbi_rt::Shutdown, sbi_rt::NoReason);
}

/// Stops for ever.
pub fn halt() -> ! {
    loop {
        // SAFETY: waits.
        unsafe { core::arch::asm!("wfi", options(nomem, nostack)) };
    }
}
