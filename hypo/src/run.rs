//! `hypo run`: from options to a manifest, from that to a bundle and a machine, and then one session.

use crate::attach::Attachments;
use crate::cli::{HostOptions, RunOptions, VmOptions};
use crate::dry_run;
use crate::firmware::Firmware;
use crate::hardware::{host_words, native_words};
use crate::load::load;
use crate::manifest::{Manifest, Vm};
use crate::pack::{Packed, Seed, scratch_folder};
use crate::placement::{LOW, Loader};
use crate::session::Session;
use crate::watch::Watch;
use crate::{host_memory, image, kernel};
use bundle::OnReset;
use devicetree::HostInfo;
use hypo_common::cache::Cache;
use hypo_common::error::{Error, Result};
use hypo_common::qemu::{self, Boot, Machine, NativeGuest, VIRT, Words};
use hypo_common::size::Size;
use hypo_common::status::Status;
use hypo_common::{say, setup};
use hypo_debian::guests::{Named, forget_disk};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// H hides what the hypervisor is for, so it is off unless asked for.
const DEFAULT_CPU: &str = "rv64,h=off";

/// Carries out `hypo run`.
///
/// # Errors
/// The options contradict each other, a file is wrong, or set-up fails.
pub fn run(options: &RunOptions) -> Result<Status> {
    let scratch = scratch_folder()?;
    let manifest = guests(options, scratch.path())?;
    let seed = if options.host.icount { Seed::FIXED } else { Seed::for_one_boot()? };
    let mut packed = Packed::new(&manifest, seed)?;
    setup::ensure_qemu(&options.host.qemu, options.host.firmware == Firmware::Default)?;
    let firmware = options.host.firmware.prepare(Cache::open)?;

    let native;
    let (image, bundle);
    let (boot, memory) = if options.host.native {
        let [vm] = manifest.vms.as_slice() else {
            return Err(Error::usage("--native boots one guest, and the manifest has several"));
        };
        native = native_guest(vm, scratch.path())?;
        host_memory::this_machine_has(vm.memory)?;
        (Boot::Native(&native), vm.memory)
    } else {
        setup::ensure_target()?;
        let flat = image::hypervisor()?;
        // What a dry run prints can be typed, so its files stay.
        let folder = if options.run.dry_run { flat.parent() } else { None }.unwrap_or(scratch.path());
        bundle = folder.join("bundle.bin");
        let len = packed.write(&bundle)?;
        let loader = Loader::of_version(qemu::version(&options.host.qemu)?);
        let place = host_memory::choose(options.host.host_memory, &packed, len, loader)?;
        image = if place.image == LOW { flat } else { image::loaded_at(&flat, place.image, folder)? };
        (Boot::Hypervisor { image: &image, bundle: &bundle }, Size(place.memory))
    };
    let machine = machine(&options.host, firmware, boot, memory, &manifest, &packed)?;
    if !options.host.native && !machine.has_finisher() {
        machine_that_works(&machine, scratch.path())?;
    }
    if options.run.dry_run {
        dry_run::print(&packed, &machine, boot, scratch.path())?;
        return Ok(Status::PoweredOff);
    }
    packed.attachments.create_files()?;
    for hint in &manifest.hints {
        say::tell(hint);
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
        drives: &machine.devices.drives,
    };
    let status = session.run()?;
    if status != Status::PoweredOff {
        say::tell(format_args!("{} (exit status {})", status.meaning(), status.code()));
    }
    Ok(status)
}

/// The guests to run.
fn guests(options: &RunOptions, scratch: &Path) -> Result<Manifest> {
    let named = options.guest.as_deref().and_then(Named::from_name);
    if options.vm.fresh {
        if named != Some(Named::Debian) {
            return Err(Error::usage(
                "--fresh is for `hypo run debian`, which keeps its disk from run to run",
            )
            .remedy("leave --fresh out; --snapshot drops what a guest writes to any disk"));
        }
        forget_disk(&Cache::open()?)?;
    }
    let mut manifest = match (&options.vm.kernel, options.guest.as_deref()) {
        (Some(kernel), _) => {
            let name = kernel.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
            Manifest::of(Vm::new(&guest_name(&name), kernel.clone()))
        }
        (None, guest) => match Named::from_name(guest.unwrap_or("minikernel")) {
            Some(named) => {
                let ready = named.ready(scratch)?;
                let mut manifest = Manifest::of(Vm::from(&ready));
                manifest.hints.extend(ready.hint);
                manifest
            }
            None => from_file(guest.unwrap_or_default(), scratch)?,
        },
    };
    apply(&options.vm, &mut manifest)?;
    if options.vm.snapshot {
        // What is not written needs no copy.
        let disks = manifest.vms.iter_mut().flat_map(|vm| &mut vm.disks);
        disks.for_each(|disk| disk.snapshot = !disk.readonly);
    }
    manifest.host.log_level = options.host.log_level.or(manifest.host.log_level);
    manifest.host.check_every = options.host.check_every.or(manifest.host.check_every);
    manifest.host.drop_caches_every = options.host.drop_caches_every.or(manifest.host.drop_caches_every);
    manifest.host.window = options.host.window.or(manifest.host.window);
    Ok(manifest)
}

fn from_file(argument: &str, scratch: &Path) -> Result<Manifest> {
    let path = Path::new(argument);
    if !path.exists() {
        return Err(Error::usage(format_args!("`{argument}` is neither a guest's name nor a file")).remedy(
            format_args!(
                "name {} or a manifest; a kernel file goes after --kernel",
                Named::names().join(", ")
            ),
        ));
    }
    if path.is_file() && path.extension().is_none_or(|extension| extension != "toml") {
        return Err(Error::usage(format_args!(
            "`{argument}` is not a manifest: its name does not end in .toml"
        ))
        .remedy(format_args!("for a kernel write --kernel {argument}")));
    }
    load(path, |named| named.ready(scratch))
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
            vm.on_reset = OnReset::Exit;
        }
        vm.virtio = options.virtio.map_or(vm.virtio, |transport| transport.0);
        vm.rewrite = options.rewrite.map_or(vm.rewrite, bool::from);
        vm.fast = options.fast.map_or(vm.fast, bool::from);
        vm.exact |= options.exact;
    }
    let about_one = options.initrd.is_some()
        || options.append.is_some()
        || options.memory.is_some()
        || options.vcpus.is_some()
        || !options.load.is_empty()
        || !options.disk.is_empty()
        || !options.net.is_empty();
    if about_one {
        manifest.detach();
    }
    match manifest.vms.as_mut_slice() {
        [vm] => {
            vm.initrd = options.initrd.clone().or(vm.initrd.take());
            vm.append = options.append.clone().unwrap_or(std::mem::take(&mut vm.append));
            vm.memory = options.memory.unwrap_or(vm.memory);
            vm.vcpus = options.vcpus.unwrap_or(vm.vcpus);
            vm.load.extend(options.load.iter().cloned());
            vm.disks.extend(options.disk.iter().cloned());
            vm.nets.extend(options.net.iter().cloned());
            Ok(())
        }
        _ if about_one => Err(Error::usage("the manifest has several guests, and the options are about one")
            .remedy("put --initrd, --append, --memory, --vcpus, --load, --disk and --net into the manifest")),
        _ => Ok(()),
    }
}

fn machine(
    options: &HostOptions,
    firmware: PathBuf,
    boot: Boot<'_>,
    memory: Size,
    manifest: &Manifest,
    packed: &Packed,
) -> Result<Machine> {
    let is_virt = options.machine.split(',').next() == Some(VIRT);
    let Attachments { drives, nics, guests, .. } = &packed.attachments;
    if !is_virt && packed.manifest.vms.iter().any(|vm| !vm.disks.is_empty() || !vm.nets.is_empty()) {
        return Err(Error::usage(format_args!(
            "QEMU's machine `{}` has no virtio disks and NICs",
            options.machine
        ))
        .remedy("leave --machine out, or run guests without disks and nets"));
    }
    // Other machines have monitor harts beside those that a guest gets.
    let (harts, devices) = match boot {
        Boot::Native(_) if is_virt => {
            let guest = manifest.vms.first().zip(guests.first());
            let (vm, devices) = guest.ok_or_else(|| Error::new("there is no guest"))?;
            (Some(vm.vcpus), native_words(manifest, devices, drives)?)
        }
        Boot::Native(_) => (None, Words::default()),
        Boot::Hypervisor { .. } => (options.harts, host_words(drives, nics)),
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
        devices,
        extra,
    };
    if machine.cpu.is_none() && is_virt {
        machine.cpu = Some(DEFAULT_CPU.to_owned());
    }
    Ok(machine)
}

/// Whether the hypervisor can run on a machine other than `virt`: it says nothing where it finds no console.
fn machine_that_works(machine: &Machine, scratch: &Path) -> Result<()> {
    let refused = |why: &str| {
        Error::usage(format_args!("the hypervisor cannot run on QEMU's machine `{}`: {why}", machine.model))
            .remedy("leave --machine out for `virt`; or use `--machine sifive_u`")
    };
    let tree = machine.device_tree(None, scratch).map_err(|error| {
        // What QEMU does not know needs no word of ours.
        if error.to_string().contains("unsupported machine") {
            error
        } else {
            refused("it has no device tree")
        }
    })?;
    let host = HostInfo::parse(&tree).map_err(|error| refused(&format!("its device tree has {error}")))?;
    match (host.console, host.plic) {
        (None, _) => Err(refused("it has no UART that the hypervisor drives")),
        (_, None) => Err(refused("it has no PLIC")),
        _ => Ok(()),
    }
}

/// The guest as QEMU boots it.
fn native_guest(vm: &Vm, scratch: &Path) -> Result<NativeGuest> {
    Ok(NativeGuest {
        kernel: uncompressed(vm, scratch)?,
        initrd: vm.initrd.clone(),
        append: vm.append.clone(),
        loads: vm.load.iter().map(|load| (load.file.clone(), load.address)).collect(),
        reset_ends: vm.on_reset == OnReset::Exit,
    })
}

/// The guest's kernel as QEMU can load it.
fn uncompressed(vm: &Vm, scratch: &Path) -> Result<PathBuf> {
    let bytes = fs::read(&vm.kernel).map_err(|error| Error::file("read", &vm.kernel, &error))?;
    let len = bytes.len();
    let data = kernel::unpacked(bytes, vm.memory.0)
        .map_err(|error| Error::sentence(error).within(vm.kernel.display()))?;
    if data.len() == len {
        return Ok(vm.kernel.clone());
    }
    let path = scratch.join("kernel");
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
        let error = from_file("freebsd", Path::new("")).unwrap_err();
        assert_eq!(error.status(), Status::Usage);
        assert!(error.to_string().contains("`freebsd`"));
    }
}
