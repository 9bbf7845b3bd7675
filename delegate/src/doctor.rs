//! What stands between a model and an accelerator: checks in order, each with what to try.
//!
//! Devices are found in the file system that Linux shows them in, without a library.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::driver::{self, DriverError};
use crate::spec::{DriverSpec, EdgeTpuDevice, Library};

/// An accelerator that the system shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is, such as `/sys/bus/usb/devices/2-1` or `/dev/apex_0`.
    pub id: String,
    /// What it is.
    pub description: String,
    /// The file by which a driver reaches it.
    pub node: PathBuf,
    /// Whether it waits for its firmware.
    pub is_bare: bool,
    /// Megabits a second of its USB port.
    pub mbit: Option<u32>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing to do.
    Good,
    /// It works, or may work, but something deserves a look.
    Doubtful,
    /// What was asked for cannot work.
    Bad,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked, stable over versions: `no-device`, `usb`, `usb-speed`, `pci`, `pci-module`, `page-size`, `busy`, `temperature`,
    /// `driver`, `devices`, `options`.
    pub name: &'static str,
    /// How it ended.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to try, if something is not good.
    pub hint: Option<String>,
}

/// The ids of the Edge TPU on USB, before and after its firmware is loaded. Source: coral.ai's udev rules.
const USB_IDS: [(&str, &str, bool); 2] = [("1a6e", "089a", true), ("18d1", "9302", false)];

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            health: Health::Good,
            found: found.into(),
            hint: None,
        }
    }

    fn wrong(
        name: &'static str,
        health: Health,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            name,
            health,
            found: found.into(),
            hint: Some(hint.into()),
        }
    }
}

/// The Edge TPUs on USB and PCI Express that the file system at `root` shows, in the order of their places.
pub fn scan(root: &Path) -> Vec<Found> {
    let mut found = usb(root);
    let names = names(&root.join("dev"));
    let apex = names.iter().filter(|name| name.starts_with("apex_"));
    found.extend(apex.map(|name| Found {
        id: format!("/dev/{name}"),
        description: "Edge TPU on PCI Express".to_owned(),
        node: root.join("dev").join(name),
        is_bare: false,
        mbit: None,
    }));
    found
}

fn usb(root: &Path) -> Vec<Found> {
    let folder = root.join("sys/bus/usb/devices");
    let read = |name: &str, file: &str| {
        let text = fs::read_to_string(folder.join(name).join(file)).ok()?;
        Some(text.trim().to_owned())
    };
    let device = |name: String| {
        let (vendor, product) = (read(&name, "idVendor")?, read(&name, "idProduct")?);
        let known = USB_IDS
            .iter()
            .find(|id| (id.0, id.1) == (&vendor[..], &product[..]));
        let &(.., is_bare) = known?;
        let number = |file| read(&name, file)?.parse::<u32>().ok();
        let (bus, device) = (number("busnum")?, number("devnum")?);
        let mbit = number("speed");
        let speed = mbit.map_or(String::new(), |mbit| format!(", {mbit} Mbit/s"));
        let state = match is_bare {
            true => "without its firmware yet",
            false => "ready",
        };
        Some(Found {
            id: format!("/sys/bus/usb/devices/{name}"),
            description: format!("Edge TPU on USB ({vendor}:{product}, {state}{speed})"),
            node: root.join(format!("dev/bus/usb/{bus:03}/{device:03}")),
            is_bare,
            mbit,
        })
    };
    names(&folder).into_iter().filter_map(device).collect()
}

/// The names in a folder, sorted; none where there is no such folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Checks what the system shows, and `spec`'s driver if there is one. `root` is `/`, or a copy of what matters of it.
pub fn examine(root: &Path, spec: Option<&DriverSpec>) -> Vec<Check> {
    let mut checks = system(root, spec);
    if let Some(spec) = spec.filter(|&spec| *spec != DriverSpec::Cpu) {
        let driver = library(spec);
        let is_found = |check: &Check| check.name == "devices" && check.health == Health::Good;
        if driver.iter().any(is_found) {
            // In a container a library may reach what the file system does not show.
            let is_unseen = |c: &&mut Check| c.name == "no-device" && c.health == Health::Bad;
            let unseen = checks.iter_mut().find(is_unseen);
            unseen.into_iter().for_each(|c| c.health = Health::Doubtful);
        }
        checks.extend(driver);
    }
    checks
}

/// What is wrong with the Edge TPU at `path`, or with all of them, and what to try: for a library that gives no reasons.
pub(crate) fn edge_tpu_trouble(root: &Path, path: Option<&Path>) -> String {
    let spec = DriverSpec::EdgeTpu {
        device: Default::default(),
        options: Default::default(),
    };
    let found = scan(root);
    let one = path.and_then(|path| found.iter().find(|found| Path::new(&found.id) == path));
    let checks = match one {
        Some(found) => device(root, found),
        None => system(root, Some(&spec)),
    };
    let told = |check: &Check| Some(format!("{}; try: {}", check.found, check.hint.as_ref()?));
    let told: Vec<String> = checks.iter().filter_map(told).collect();
    match told.is_empty() {
        true => {
            "the library gives no reason; option verbosity=10 makes it say what it does".to_owned()
        }
        false => told.join("; "),
    }
}

fn system(root: &Path, spec: Option<&DriverSpec>) -> Vec<Check> {
    let found = scan(root);
    let mut checks: Vec<Check> = found.iter().flat_map(|found| device(root, found)).collect();
    checks.extend(cards(root));
    if checks.is_empty() {
        checks.push(no_device(spec));
    }
    checks
}

fn device(root: &Path, found: &Found) -> Vec<Check> {
    let more = [busy(root, found), speed(found), page_size(root, found)];
    let mut checks = vec![node(found)];
    checks.extend(more.into_iter().flatten());
    checks.extend(temperature(root, found));
    checks
}

/// A card on PCI Express that no module has taken. Its ids: coral.ai's guide to the M.2 card.
fn cards(root: &Path) -> Option<Check> {
    let folder = root.join("sys/bus/pci/devices");
    let is = |name: &str, file: &str, id: &str| {
        let text = fs::read_to_string(folder.join(name).join(file));
        text.is_ok_and(|text| text.trim() == id)
    };
    let names = names(&folder);
    let mut cards = names
        .iter()
        .filter(|name| is(name, "vendor", "0x1ac1") && is(name, "device", "0x089a"));
    let card = cards.next()?;
    let is_taken = self::names(&root.join("dev"))
        .iter()
        .any(|name| name.starts_with("apex_"));
    let has_module = root.join("sys/module/apex").exists();
    (!is_taken).then(|| {
        Check::wrong(
            "pci-module",
            Health::Bad,
            format!("an Edge TPU is at PCI {card}, and there is no /dev/apex_*"),
            match has_module {
                true => "the module apex is loaded and has not taken it: `dmesg | grep apex` says why",
                false => {
                    "install gasket-dkms and `modprobe apex`; under Secure Boot the module has to be signed, and a newer \
                     kernel needs a newer gasket"
                }
            },
        )
    })
}

/// The processes that hold a device open.
fn busy(root: &Path, found: &Found) -> Option<Check> {
    let node = found.node.strip_prefix(root).unwrap_or(&found.node);
    let node = Path::new("/").join(node);
    let proc = root.join("proc");
    let own = std::process::id().to_string();
    let holds = |pid: &&String| {
        let is_process = pid.bytes().all(|byte| byte.is_ascii_digit()) && **pid != own;
        let fds = is_process.then(|| fs::read_dir(proc.join(pid).join("fd")).ok())?;
        let mut links = fds?
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        links.any(|link| link == node).then_some(())
    };
    let names = names(&proc);
    let mut holders = names.iter().filter(|pid| holds(pid).is_some());
    let pid = holders.next()?;
    let name = fs::read_to_string(proc.join(pid).join("comm")).unwrap_or_default();
    Some(Check::wrong(
        "busy",
        Health::Doubtful,
        format!("{} is held by process {pid} ({})", found.id, name.trim()),
        "an Edge TPU serves one process at a time: end that one, or give this one another device",
    ))
}

fn speed(found: &Found) -> Option<Check> {
    let mbit = found.mbit.filter(|&mbit| mbit < 5000)?;
    Some(Check::wrong(
        "usb-speed",
        Health::Doubtful,
        format!("{} is connected at {mbit} Mbit/s", found.id),
        "use a USB 3 port and the cable that came with it: models that do not fit the cache, and large inputs, are slower here",
    ))
}

/// The module for cards maps memory in pages of 4 KiB.
fn page_size(root: &Path, found: &Found) -> Option<Check> {
    if found.id.contains("/usb/") {
        return None;
    }
    let text = fs::read_to_string(root.join("proc/self/smaps")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("KernelPageSize:"))?;
    let kib: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    (kib != 4).then(|| {
        Check::wrong(
            "page-size",
            Health::Bad,
            format!("the kernel's pages have {kib} KiB"),
            "boot a kernel with pages of 4 KiB; on a Raspberry Pi 5, kernel=kernel8.img in config.txt",
        )
    })
}

/// The chip's temperature, which cards tell.
fn temperature(root: &Path, found: &Found) -> Option<Check> {
    let name = found.id.strip_prefix("/dev/")?;
    let path = root.join("sys/class/apex").join(name).join("temp");
    let degrees = fs::read_to_string(path).ok()?.trim().parse::<i64>().ok()? / 1000;
    let text = format!("{}: {degrees} degrees Celsius", found.id);
    Some(match degrees {
        ..85 => Check::good("temperature", text),
        _ => Check::wrong(
            "temperature",
            Health::Doubtful,
            text,
            "the chip slows down when it is hot, and stops at 105 degrees: cool it",
        ),
    })
}

/// That nothing was found matters only to whoever wants an Edge TPU.
fn no_device(spec: Option<&DriverSpec>) -> Check {
    let found = "no Edge TPU on USB (1a6e:089a, 18d1:9302) and no /dev/apex_*";
    match spec {
        Some(DriverSpec::EdgeTpu { .. }) => Check::wrong(
            "no-device",
            Health::Bad,
            found,
            "check the cable and `lsusb`; a container needs --device /dev/bus/usb and a virtual machine both USB ids; \
             on PCI Express the modules gasket and apex must be loaded",
        ),
        _ => Check::good("no-device", found),
    }
}

/// Whether a device can be opened.
fn node(found: &Found) -> Check {
    let is_usb = found.id.contains("/usb/");
    let name = if is_usb { "usb" } else { "pci" };
    let text = format!("{}: {}", found.id, found.description);
    let opened = OpenOptions::new().read(true).write(true).open(&found.node);
    let node = found.node.display();
    match opened.map_err(|error| error.kind()) {
        Ok(_) if found.is_bare => Check::wrong(
            name,
            Health::Doubtful,
            text,
            "the first use loads the firmware, and the device comes back as 18d1:9302; rules for udev, containers and \
             virtual machines must name both ids",
        ),
        Ok(_) => Check::good(name, text),
        Err(io::ErrorKind::PermissionDenied) if is_usb => Check::wrong(
            name,
            Health::Bad,
            format!("{text}; {node} may not be opened"),
            "put SUBSYSTEM==\"usb\", ATTRS{idVendor}==\"1a6e\", GROUP=\"plugdev\" and the same for 18d1 into \
             /etc/udev/rules.d/99-edgetpu.rules, join the group plugdev, plug the device in again",
        ),
        Err(io::ErrorKind::PermissionDenied) => Check::wrong(
            name,
            Health::Bad,
            format!("{text}; {node} may not be opened"),
            "put SUBSYSTEM==\"apex\", MODE=\"0660\", GROUP=\"apex\" into /etc/udev/rules.d/65-apex.rules and join the group apex",
        ),
        Err(kind) => Check::wrong(
            name,
            Health::Bad,
            format!("{text}; {node} cannot be opened: {kind}"),
            "in a container, map the device node into it; another process may hold the device",
        ),
    }
}

/// Whether the driver loads and what it finds. A delegate may end its process, so it gets one of its own where that can be had.
fn library(spec: &DriverSpec) -> Vec<Check> {
    let mut tried = spec.clone();
    if let DriverSpec::EdgeTpu { options, .. } | DriverSpec::Tflite(Library { options, .. }) =
        &mut tried
        && driver::can_isolate()
        && options.get("isolate").is_none()
    {
        options.0.push(("isolate".to_owned(), "1".to_owned()));
    }
    let driver = match driver::open(&tried) {
        Ok(driver) => driver,
        Err(error) => {
            let hint = hint(&error);
            return vec![Check::wrong("driver", Health::Bad, error.to_string(), hint)];
        }
    };
    let info = driver.info();
    let target = info.target.as_deref().unwrap_or("no target that it names");
    let mut checks = vec![Check::good(
        "driver",
        format!("{spec}: {info}, for {target}"),
    )];
    checks.push(match driver.devices() {
        Err(error) => {
            let hint = hint(&error);
            Check::wrong("devices", Health::Bad, error.to_string(), hint)
        }
        Ok(devices) if devices.is_empty() => Check::wrong(
            "devices",
            Health::Bad,
            "the driver has found no device",
            "check the cable and the permissions; models run on the CPU path meanwhile",
        ),
        Ok(devices) => {
            let list: Vec<String> = devices
                .iter()
                .map(|device| format!("{} ({})", device.id, device.description))
                .collect();
            Check::good("devices", list.join(", "))
        }
    });
    checks.extend(unnumbered(spec));
    checks
}

/// Options of an Edge TPU that is not named: the library itself would drop them.
fn unnumbered(spec: &DriverSpec) -> Option<Check> {
    match spec {
        DriverSpec::EdgeTpu {
            device: EdgeTpuDevice::Any,
            options,
        } if !options.0.is_empty() => Some(Check::wrong(
            "options",
            Health::Doubtful,
            format!("the options of {spec} are for the first device"),
            "name one: edgetpu:usb:0",
        )),
        _ => None,
    }
}

/// What to try against an error of a driver.
pub fn hint(error: &DriverError) -> String {
    match error {
        DriverError::Load { cause, .. } if cause.starts_with("libusb-1.0") => {
            "install libusb: `apt-get install libusb-1.0-0`, `dnf install libusb1`".to_owned()
        }
        DriverError::Load { path, cause } if path.contains("edgetpu") && cause.contains(path) => {
            "install the Edge TPU runtime (libedgetpu1-std, https://coral.ai/software/), or name the library: \
             edgetpu?library=PATH, or BANTAM_LIBEDGETPU=PATH"
                .to_owned()
        }
        DriverError::Symbol { symbol, .. } if symbol.contains("edgetpu_") => {
            "it is no libedgetpu; a delegate of TFLite is named tflite:LIB".to_owned()
        }
        DriverError::Load { path, cause } if cause.contains("No such file") => {
            if cause.contains(path) {
                "check the path; a bare name is searched for as the system does, see LD_LIBRARY_PATH".to_owned()
            } else {
                "a library that it needs is missing: `ldd` of the driver lists them".to_owned()
            }
        }
        DriverError::Load { cause, .. } if cause.contains("cannot open shared object file") => {
            "a library that it needs is missing: `ldd` of the driver lists them".to_owned()
        }
        DriverError::Load { cause, .. }
            if cause.contains("invalid ELF") || cause.contains("wrong ELF") || cause.contains("file too short") =>
        {
            "the file is no library for this processor: compare `file` of it with `uname -m`".to_owned()
        }
        DriverError::Load { .. } => {
            "ask whoever makes the library; `bantam doctor --conformance LIB` shows what is wrong with it".to_owned()
        }
        DriverError::Symbol { .. } => {
            "it is no driver for bantam_driver.h; a delegate of TFLite is named tflite:LIB".to_owned()
        }
        DriverError::Version { theirs, ours } if theirs > ours => {
            "take a newer bantam, or an older driver".to_owned()
        }
        DriverError::Version { .. } => "take a newer driver, or an older bantam".to_owned(),
        DriverError::Option { .. } => "look at the driver's documentation for its options".to_owned(),
        DriverError::NoDevice { .. } => "`bantam devices --driver SPEC` lists what there is".to_owned(),
        DriverError::Unavailable { .. } => "`--driver cpu`, or leave --driver away".to_owned(),
        DriverError::Refused(_) => "`bantam check` says what the target takes".to_owned(),
        DriverError::DeviceLost(_) => {
            "check the cable and the power supply; `bantam doctor` looks at the devices".to_owned()
        }
        DriverError::Deadline { .. } | DriverError::Cancelled => {
            "give it more time, or plug the device in again".to_owned()
        }
        DriverError::Died(_) | DriverError::Garbage(_) | DriverError::Failed(_) => {
            "report it to whoever makes the driver; `bantam doctor --conformance LIB` shows what is wrong with it"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system with these files; an id that ends in `/` is a folder.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const STICK: [(&str, &str); 6] = [
        ("sys/bus/usb/devices/2-1/idVendor", "18d1\n"),
        ("sys/bus/usb/devices/2-1/idProduct", "9302\n"),
        ("sys/bus/usb/devices/2-1/busnum", "2\n"),
        ("sys/bus/usb/devices/2-1/devnum", "7\n"),
        ("sys/bus/usb/devices/2-1/speed", "5000\n"),
        ("sys/bus/usb/devices/usb1/idVendor", "1d6b\n"),
    ];

    #[test]
    fn finds_sticks_and_cards() {
        let mut files = STICK.to_vec();
        files.extend([
            ("dev/bus/usb/002/007", ""),
            ("dev/apex_0", ""),
            ("dev/apex", ""),
        ]);
        let root = system(&files);
        let found = scan(root.path());
        let ids: Vec<&str> = found.iter().map(|f| &f.id[..]).collect();
        assert_eq!(ids, ["/sys/bus/usb/devices/2-1", "/dev/apex_0"]);
        assert_eq!(
            found[0].description,
            "Edge TPU on USB (18d1:9302, ready, 5000 Mbit/s)"
        );
        let checks = examine(root.path(), None);
        assert!(checks.iter().all(|check| check.health == Health::Good));
    }

    #[test]
    fn says_what_is_wrong_with_a_device() {
        let root = system(&STICK);
        let checks = examine(root.path(), None);
        assert_eq!(checks[0].health, Health::Bad);
        assert!(checks[0].found.contains("002/007 cannot be opened"));
        let mut files = STICK.to_vec();
        files[0].1 = "1a6e";
        files[1].1 = "089a";
        files.push(("dev/bus/usb/002/007", ""));
        let checks = examine(system(&files).path(), None);
        assert_eq!(checks[0].health, Health::Doubtful);
        assert!(checks[0].hint.as_ref().unwrap().contains("18d1:9302"));
        let edgetpu = "edgetpu?library=/nowhere/libedgetpu.so.1".parse().unwrap();
        let checks = examine(system(&[]).path(), Some(&edgetpu));
        assert_eq!(
            (checks[0].name, checks[0].health),
            ("no-device", Health::Bad)
        );
        assert_eq!((checks[1].name, checks[1].health), ("driver", Health::Bad));
        let hint = checks[1].hint.as_ref().unwrap();
        assert!(hint.contains("BANTAM_LIBEDGETPU"), "{hint}");
    }

    /// Names and health of the checks on `files`.
    fn checked(files: &[(&str, &str)]) -> Vec<(&'static str, Health)> {
        let checks = examine(system(files).path(), None);
        assert!(
            checks
                .iter()
                .all(|check| check.hint.is_some() == (check.health != Health::Good))
        );
        checks.into_iter().map(|c| (c.name, c.health)).collect()
    }

    #[test]
    fn a_slow_port_and_another_process_deserve_a_look() {
        let mut files = STICK.to_vec();
        files[4].1 = "480";
        files.extend([
            ("dev/bus/usb/002/007", ""),
            ("proc/4294967295/comm", "python3\n"),
        ]);
        let slow = [("usb", Health::Good), ("usb-speed", Health::Doubtful)];
        assert_eq!(checked(&files), slow);
        files[4].1 = "5000";
        let root = system(&files);
        let fds = root.path().join("proc/4294967295/fd");
        fs::create_dir_all(&fds).unwrap();
        std::os::unix::fs::symlink("/dev/bus/usb/002/007", fds.join("7")).unwrap();
        let checks = examine(root.path(), None);
        let text = "/sys/bus/usb/devices/2-1 is held by process 4294967295 (python3)";
        assert_eq!((checks[1].name, &checks[1].found[..]), ("busy", text));
        let path = Path::new("/sys/bus/usb/devices/2-1");
        let trouble = edge_tpu_trouble(root.path(), Some(path));
        assert!(trouble.starts_with(text), "{trouble}");
    }

    #[test]
    fn cards_need_a_module_small_pages_and_air() {
        let card = [
            ("sys/bus/pci/devices/0000:05:00.0/vendor", "0x1ac1\n"),
            ("sys/bus/pci/devices/0000:05:00.0/device", "0x089a\n"),
        ];
        assert_eq!(checked(&card), [("pci-module", Health::Bad)]);
        let mut files = card.to_vec();
        files.extend([
            ("dev/apex_0", ""),
            ("sys/class/apex/apex_0/temp", "45500\n"),
            (
                "proc/self/smaps",
                "00 r-xp\nSize: 4 kB\nKernelPageSize:        4 kB\n",
            ),
        ]);
        assert_eq!(
            checked(&files),
            [("pci", Health::Good), ("temperature", Health::Good)]
        );
        files[3].1 = "99000";
        files[4].1 = "KernelPageSize:       16 kB\n";
        let bad = [
            ("pci", Health::Good),
            ("page-size", Health::Bad),
            ("temperature", Health::Doubtful),
        ];
        assert_eq!(checked(&files), bad);
    }

    #[test]
    fn looks_at_the_driver() {
        let root = system(&[]);
        let health = |spec: &str| {
            let spec = spec.parse().unwrap();
            let checks = examine(root.path(), Some(&spec));
            checks
                .iter()
                .skip(1)
                .map(|c| (c.name, c.health))
                .collect::<Vec<_>>()
        };
        let good = [("driver", Health::Good), ("devices", Health::Good)];
        assert_eq!(health("virtual"), good);
        assert_eq!(health("virtual?devices=0")[1].1, Health::Bad);
        assert_eq!(health("bantam:/nowhere.so"), [("driver", Health::Bad)]);
        assert_eq!(health("cpu"), []);
    }
}
