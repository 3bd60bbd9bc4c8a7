//! Links every guest with the runtime's linker script.

fn main() {
    let script = std::env::var("DEP_GUEST_RT_LINKER_SCRIPT").expect("guest-rt is a dependency");
    println!("cargo::rustc-link-arg-bins=-T{script}");
}
