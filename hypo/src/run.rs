//! `hypo run`: from options to a manifest, from that to a bundle and a machine, and then one session.

use crate::cache::Cache;
use crate::cli::{HostOptions, RunOptions, VmOptions};
use crate::dry_run;
use crate::error::{Error, Result};
use crate::firmware::Firmware;
use crate::guests::{Named, Ready};
use crate::manifest::{Manifest, Reset, Vm};
use crate::pack::{Packed, fresh_seed};
use crate::qemu::{Boot, Machine, VIRT};
use crate::session::Session;
use crate::size::Size;
use crate::status::Status;
use crate::watch::Watch;
use crate::{image, kernel, setup};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the hypervisor gets beside its guests and the bundle, for itself and its shadow tables.
const HYPERVISOR_MEMORY: u64 = 128 << 20;
/// The most that QEMU leaves below the bundle: half of RAM, but 128 MiB before QEMU 10 and 512 MiB since. It is no part
/// of a large guest's contiguous memory.
const BELOW_BUNDLE: u64 = 512 << 20;
/// The default amount of host RAM is a multiple of this.
const MEMORY_STEP: u64 = 128 << 20;
/// H hides what the hypervisor is for, so it is off unless asked for.
const DEFAULT_CPU: &str = "rv64,h=off";
/// In place of entropy where runs have to repeat: with `--icount`.
const FIXED_SEED: [u8; 32] = [0x5a; 32];

/// Carries out `hypo run`.
///
/// # Errors
/// The options contradict each other, a file is wrong, or set-up fails.
pub fn run(options: &RunOptions) -> Result<Status> {
    let scratch = tempfile::Builder::new().prefix("hypo-").tempdir();
    let scratch =
        scratch.map_err(|error| Error::new(format_args!("cannot make a temporary folder: {error}")))?;
    let (manifest, hint) = guests(options, scratch.path())?;
    let seed = if options.host.icount { FIXED_SEED } else { fresh_seed()? };
    let packed = Packed::new(&manifest, seed).map_err(|error| match &options.guest {
        Some(guest) if Named::from_name(guest).is_none() => error.within(guest),
        _ => error,
    })?;
    setup::ensure_qemu(&options.host.qemu, options.host.firmware == Firmware::Default)?;
    let firmware = options.host.firmware.prepare(Cache::open)?;

    let native_kernel;
    let (image, bundle);
    let boot = if options.host.native {
        let [vm] = manifest.vms.as_slice() else {
            return Err(Error::usage("--native boots one guest, and the manifest has several"));
        };
        native_kernel = uncompressed(vm, scratch.path())?;
        Boot::Native { vm, kernel: &native_kernel }
    } else {
        setup::ensure_target()?;
        image = image::hypervisor()?;
        // What a dry run prints can be typed, so its bundle stays.
        let folder = if options.run.dry_run { image.parent() } else { None };
        bundle = folder.unwrap_or(scratch.path()).join("bundle.bin");
        packed.write(&bundle)?;
        Boot::Hypervisor { image: &image, bundle: &bundle }
    };
    let machine = machine(&options.host, firmware, boot, &packed);
    if options.run.dry_run {
        dry_run::print(&packed, &machine, boot, scratch.path())?;
        return Ok(Status::PoweredOff);
    }
    if let Some(hint) = hint {
        eprintln!("hypo: {hint}");
    }
    let control = scratch.path().join("control");
    let session = Session {
        command: &machine.command_line(Some(boot), Some(&control)),
        control: &control,
        watch: Watch::new(
            options.run.expect.clone(),
            options.run.fail.clone(),
            !options.host.native && !machine.has_finisher(),
        ),
        timeout: options.run.timeout.map(Duration::from_secs),
        native: options.host.native,
        debugger: machine.extra.iter().any(|argument| argument == "-S"),
    };
    let status = session.run()?;
    if status != Status::PoweredOff {
        eprintln!("hypo: {} (exit status {})", status.meaning(), status.code());
    }
    Ok(status)
}

/// The guests to run, and a hint for the operator.
fn guests(options: &RunOptions, scratch: &Path) -> Result<(Manifest, Option<String>)> {
    let (mut manifest, hint) = match (&options.vm.kernel, options.guest.as_deref()) {
        (Some(kernel), _) => {
            let name = kernel.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
            (one(Vm::new(&guest_name(&name), kernel.clone())), None)
        }
        (None, guest) => match Named::from_name(guest.unwrap_or("minikernel")) {
            Some(named) => {
                if named == Named::Minikernel {
                    setup::ensure_target()?;
                }
                let Ready { vm, hint } = named.prepare(Cache::open, scratch)?;
                (one(vm), hint)
            }
            None => (from_file(guest.unwrap_or_default())?, None),
        },
    };
    apply(&options.vm, &mut manifest)?;
    manifest.host.log_level = options.host.log_level.or(manifest.host.log_level);
    manifest.host.check_every = options.host.check_every.or(manifest.host.check_every);
    manifest.host.window = options.host.window.or(manifest.host.window);
    Ok((manifest, hint))
}

fn one(vm: Vm) -> Manifest {
    Manifest { host: crate::manifest::Host::default(), vms: vec![vm] }
}

fn from_file(argument: &str) -> Result<Manifest> {
    let path = Path::new(argument);
    if !path.exists() {
        return Err(Error::usage(format_args!("`{argument}` is neither a guest's name nor a file"))
            .remedy("name minikernel, linux, u-boot or a manifest; a kernel file goes after --kernel"));
    }
    if path.is_file() && path.extension().is_none_or(|extension| extension != "toml") {
        return Err(Error::usage(format_args!(
            "`{argument}` is not a manifest: its name does not end in .toml"
        ))
        .remedy(format_args!("for a kernel write --kernel {argument}")));
    }
    Manifest::load(path)
}

/// A guest's name after its kernel's: what a name may not hold becomes a dash.
fn guest_name(stem: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = stem.chars().map(clean).take(32).collect();
    if name.is_empty() { "guest".to_owned() } else { name }
}

/// What the command line says of the guest goes before what the guest's description says.
fn apply(options: &VmOptions, manifest: &mut Manifest) -> Result<()> {
    for vm in &mut manifest.vms {
        if options.no_reboot {
            vm.on_reset = Reset::Exit;
        }
        vm.rewrite = options.rewrite.map_or(vm.rewrite, bool::from);
        vm.fast = options.fast.map_or(vm.fast, bool::from);
        vm.exact |= options.exact;
    }
    let about_one = options.initrd.is_some()
        || options.append.is_some()
        || options.memory.is_some()
        || options.vcpus.is_some()
        || !options.load.is_empty();
    match manifest.vms.as_mut_slice() {
        [vm] => {
            vm.initrd = options.initrd.clone().or(vm.initrd.take());
            vm.append = options.append.clone().unwrap_or(std::mem::take(&mut vm.append));
            vm.memory = options.memory.unwrap_or(vm.memory);
            vm.vcpus = options.vcpus.unwrap_or(vm.vcpus);
            vm.load.extend(options.load.iter().cloned());
            Ok(())
        }
        _ if about_one => Err(Error::usage("the manifest has several guests, and the options are about one")
            .remedy("put --initrd, --append, --memory, --vcpus and --load into the manifest")),
        _ => Ok(()),
    }
}

fn machine(options: &HostOptions, firmware: PathBuf, boot: Boot<'_>, packed: &Packed) -> Machine {
    let guests: u64 = packed.manifest.vms.iter().map(|vm| vm.memory).sum();
    let enough = guests + packed.payload_len() + HYPERVISOR_MEMORY + BELOW_BUNDLE;
    let enough = Size(enough.next_multiple_of(MEMORY_STEP));
    let is_virt = options.machine.split(',').next() == Some(VIRT);
    let (harts, memory) = match boot {
        // Other machines have monitor harts beside those that a guest gets.
        Boot::Native { vm, .. } => (is_virt.then_some(vm.vcpus), vm.memory),
        Boot::Hypervisor { .. } => (options.harts, options.host_memory.unwrap_or(enough)),
    };
    let mut extra = options.qemu_arg.clone();
    if options.gdb {
        extra.extend(["-s".to_owned(), "-S".to_owned()]);
    }
    let mut machine = Machine {
        program: options.qemu.clone(),
        model: options.machine.clone(),
        cpu: options.cpu.clone(),
        harts,
        memory,
        firmware,
        icount: options.icount,
        extra,
    };
    if machine.cpu.is_none() && is_virt {
        machine.cpu = Some(DEFAULT_CPU.to_owned());
    }
    machine
}

/// The guest's kernel as QEMU can load it.
fn uncompressed(vm: &Vm, scratch: &Path) -> Result<PathBuf> {
    let bytes = fs::read(&vm.kernel).map_err(|error| Error::file("read", &vm.kernel, &error))?;
    if !kernel::is_gzip(&bytes) {
        return Ok(vm.kernel.clone());
    }
    let path = scratch.join("kernel");
    let data = kernel::unpacked(&bytes).map_err(|error| Error::new(error).within(vm.kernel.display()))?;
    fs::write(&path, data).map_err(|error| Error::file("write", &path, &error))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_named_after_its_kernel() {
        assert_eq!(guest_name("Image-6.12"), "Image-6.12");
        assert_eq!(guest_name("my kernel"), "my-kernel");
        assert_eq!(guest_name(""), "guest");
        assert_eq!(guest_name(&"x".repeat(99)).len(), 32);
    }

    #[test]
    fn what_is_neither_guest_nor_file_is_bad_usage() {
        let error = from_file("freebsd").unwrap_err();
        assert_eq!(error.status(), Status::Usage);
        assert!(error.to_string().contains("`freebsd`"));
    }
}
