//! Links the firmware at the start of RAM, with the layout of `image.ld`.

fn main() {
    let script = format!("{}/image.ld", std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!("cargo::rustc-link-arg-bins=-T{script}");
    println!("cargo::rerun-if-changed={script}");
}
