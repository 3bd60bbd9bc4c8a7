//! Links the program for the bare machine so that the tests can load it anywhere, and what the assembly leads to beside.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("riscv64") {
        return;
    }
    // Where the real image's linker script has the stack of the hypervisor's own traps.
    let stack = "--defsym=__emergency_stack_top=0";
    // All that is kept is what these reach.
    let roots = ["--entry=assembly_run", "--undefined=assembly_addresses", "--undefined=assembly_pairs"];
    for argument in
        ["-pie", "--no-dynamic-linker", "-znotext", "--gc-sections", stack].into_iter().chain(roots)
    {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
