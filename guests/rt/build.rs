//! Tells the guests that depend on this crate where its linker script is: their own build scripts read
//! `DEP_GUEST_RT_LINKER_SCRIPT` and pass it on.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    println!("cargo::metadata=linker_script={directory}/guest.ld");
    println!("cargo::rerun-if-changed=guest.ld");
}
