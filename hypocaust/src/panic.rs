//! The epitaph: what the hypervisor's last words are when it finds a bug of its own. A guest never gets here.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use hart::console::EarlyConsole;
use world::console::Output;
use world::{Recent, Status};

/// What waits to be sent to the terminal.
pub static OUTPUT: Output = Output::new();
/// The guests' last exits.
pub static RECENT: Recent = Recent::new();

/// A panic within the epitaph says nothing more.
static DYING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    if !DYING.swap(true, Ordering::Relaxed) {
        // First what was said before. Through the firmware: the console is in unknown hands now.
        while let Some(byte) = OUTPUT.pop() {
            hart::firmware::console_putchar(byte);
        }
        let mut console = EarlyConsole;
        // A guest may have left the terminal so that nothing can be read.
        let _ = monitor::IN_ORDER.into_iter().try_for_each(|part| console.write_str(part));
        let _ = writeln!(console, "\nhypocaust: this is a bug in the hypervisor, please report it");
        let _ = writeln!(console, "hypocaust: {info}");
        RECENT.epitaph(&mut console);
        if let Some(frame) = hart::last_frame() {
            let _ = writeln!(console, "hypocaust: the guest's registers:\n{frame}");
        }
        let _ = writeln!(console, "hypocaust: halted with status {}", Status::Failed.code());
    }
    hart::firmware::power_off();
    hart::firmware::halt()
}
