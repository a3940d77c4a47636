//! The sandbox's view of the file system: the machine's programs and libraries, read-only, a small
//! `/etc` of its own, private `/proc`, `/dev` and `/tmp`, and what the spec adds. Nothing else of
//! the machine, and in particular not the region's directory, has a path here.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Step, step};
use crate::sys;
use crate::{Mount, Spec};

/// `nobody`, the unprivileged user of every Linux.
pub(super) const NOBODY: u32 = 65_534;

/// Where the machine's own root is while the new one is being built.
const OLD: &str = "/.machine";

/// Programs and libraries. On a merged-usr system all but the first are symbolic links.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What programs need of `/etc` and what tells nothing about the machine's owner.
const ETC: [&str; 19] = [
    "alternatives",
    "bash.bashrc",
    "bindresvport.blacklist",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "os-release",
    "profile",
    "protocols",
    "rpc",
    "services",
    "terminfo",
    "timezone",
];

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Kernel interfaces that real root may write even without capabilities, or that tell about the
/// whole machine. The first group is shown read-only, the second not at all.
const PROC_READ_ONLY: [&str; 5] = ["sys", "bus", "fs", "irq", "acpi"];
const PROC_MASKED: [&str; 8] = [
    "sysrq-trigger",
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "latency_stats",
    "timer_list",
    "sched_debug",
];

const HARDENED: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Builds the new root and moves into it.
pub(super) fn enter(spec: &Spec) -> Result<(), Step> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(step("have mounts of its own"))?;
    // Any directory will do to mount the new root on; after the pivot the old /tmp is as it was.
    tmpfs(Path::new("/tmp"), "mode=755,size=16m")?;
    std::env::set_current_dir("/tmp").map_err(step("enter the new root"))?;
    fs::create_dir(".machine").map_err(step("build the new root"))?;
    nix::unistd::pivot_root(".", ".machine").map_err(step("change the root"))?;
    std::env::set_current_dir("/").map_err(step("enter the new root"))?;

    system()?;
    etc(spec)?;
    private_parts()?;
    for mount in &spec.mounts {
        show(mount)?;
    }
    proc()?;

    umount2(OLD, MntFlags::MNT_DETACH).map_err(step("let go of the machine's root"))?;
    fs::remove_dir(OLD).map_err(step("let go of the machine's root"))?;
    sys::mount_setattr(c"/", HARDENED, false).map_err(step("make the root read-only"))
}

fn system() -> Result<(), Step> {
    for name in SYSTEM {
        let old = Path::new(OLD).join(name);
        let new = Path::new("/").join(name);
        let Ok(kind) = fs::symlink_metadata(&old) else { continue };
        if kind.is_symlink() {
            fs::read_link(&old)
                .and_then(|target| symlink(target, &new))
                .map_err(step(format!("link /{name}")))?;
        } else {
            show(&Mount::read_only(Path::new("/").join(name), new))?;
        }
    }
    Ok(())
}

fn etc(spec: &Spec) -> Result<(), Step> {
    dir("/etc", 0o755)?;
    for name in ETC {
        let new = Path::new("/etc").join(name);
        // A link such as localtime's leads into /usr, which is here as well.
        let Ok(kind) = fs::symlink_metadata(Path::new(OLD).join("etc").join(name)) else {
            continue;
        };
        if kind.is_symlink() {
            fs::read_link(Path::new(OLD).join("etc").join(name))
                .and_then(|target| symlink(target, &new))
                .map_err(step(format!("link {}", new.display())))?;
        } else {
            show(&Mount::read_only(&new, &new))?;
        }
    }

    let mut hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\t{}\n",
        super::host_name(&spec.name)
    );
    for (address, name) in &spec.hosts {
        let _ = writeln!(hosts, "{address}\t{name}");
    }
    file("/etc/hosts", &hosts)?;
    file("/etc/hostname", &format!("{}\n", super::host_name(&spec.name)))?;
    // Nothing answers there: names are in /etc/hosts, and an unknown one fails at once.
    file("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
    file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n")?;
    file(
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/tmp:/usr/sbin/nologin\n",
    )?;
    file("/etc/group", "root:x:0:\nnogroup:x:65534:\n")?;

    dir("/etc/ssl", 0o755)?;
    dir("/etc/ssl/certs", 0o755)?;
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let source = spec.ca_bundle.clone().or_else(|| {
        // Where Debian, Fedora and Alpine keep theirs.
        [bundle, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| old(path).exists())
    });
    if let Some(source) = source {
        show(&Mount::read_only(source, bundle))?;
        // OpenSSL looks for /usr/lib/ssl/cert.pem, which Debian links to this.
        symlink("certs/ca-certificates.crt", "/etc/ssl/cert.pem")
            .map_err(step("link /etc/ssl/cert.pem"))?;
    }
    let openssl = Path::new("/etc/ssl/openssl.cnf");
    if old(openssl).exists() {
        show(&Mount::read_only(openssl, openssl))?;
    }
    Ok(())
}

fn private_parts() -> Result<(), Step> {
    for name in ["/home", "/root", "/opt", "/srv", "/mnt", "/var", "/var/lib", "/var/log"] {
        dir(name, 0o755)?;
    }
    for (name, options) in [("/tmp", "mode=1777"), ("/run", "mode=755"), ("/var/tmp", "mode=1777")]
    {
        dir(name, 0o755)?;
        tmpfs(Path::new(name), options)?;
    }
    symlink("/run", "/var/run").map_err(step("link /var/run"))?;

    dir("/dev", 0o755)?;
    tmpfs(Path::new("/dev"), "mode=755,size=64k")?;
    for device in DEVICES {
        let device = Path::new("/dev").join(device);
        if old(&device).exists() {
            bind(&device, &device)?;
        }
    }
    for (target, link) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ] {
        symlink(target, link).map_err(step(format!("link {link}")))?;
    }
    dir("/dev/shm", 0o755)?;
    tmpfs(Path::new("/dev/shm"), "mode=1777")?;
    sys::mount_setattr(c"/dev", libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID, false)
        .map_err(step("make /dev read-only"))
}

fn proc() -> Result<(), Step> {
    dir("/proc", 0o555)?;
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), hardened, None::<&str>)
        .map_err(step("mount /proc"))?;
    for name in PROC_READ_ONLY {
        let path = format!("/proc/{name}");
        if Path::new(&path).exists() {
            rebind(Path::new(&path), Path::new(&path))?;
            let path = sys::cstring(path).map_err(step("name a path"))?;
            sys::mount_setattr(&path, HARDENED, true)
                .map_err(step(format!("protect /proc/{name}")))?;
        }
    }
    for name in PROC_MASKED {
        let path = Path::new("/proc").join(name);
        if path.exists() {
            rebind(Path::new("/dev/null"), &path)?;
        }
    }
    Ok(())
}

/// The path of something of the machine while the new root is being built.
fn old(path: &Path) -> PathBuf {
    Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path))
}

/// Shows a directory or file of the machine.
fn show(mount: &Mount) -> Result<(), Step> {
    bind(&mount.source, &mount.target)?;
    let target = sys::cstring(mount.target.as_os_str()).map_err(step("name a path"))?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if mount.read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    sys::mount_setattr(&target, attributes, true)
        .map_err(step(format!("protect {}", mount.target.display())))
}

fn bind(source: &Path, target: &Path) -> Result<(), Step> {
    let source = old(source);
    let kind = fs::metadata(&source).map_err(step(format!("show {}", target.display())))?;
    make_target(target, kind.is_dir()).map_err(step(format!("make {}", target.display())))?;
    rebind(&source, target)
}

fn rebind(source: &Path, target: &Path) -> Result<(), Step> {
    let none = None::<&str>;
    // Recursive: the kernel refuses to show a directory without the mounts that may hide parts of it.
    mount(Some(source), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(step(format!("show {}", target.display())))
}

/// Makes the file or directory to mount on, with its parents. A target may lie in a directory that
/// the program can write (a mount in a mount), so a symbolic link on the way is refused: the program
/// could have laid it to lead elsewhere.
fn make_target(target: &Path, directory: bool) -> io::Result<()> {
    let mut path = PathBuf::from("/");
    let mut parts = target.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(part) = part else {
            if part == Component::RootDir {
                continue;
            }
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain absolute path"));
        };
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(kind) if kind.is_symlink() => {
                let what = format!("{} is a symbolic link", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            Ok(_) => {}
            Err(_) if directory || parts.peek().is_some() => fs::create_dir(&path)?,
            Err(_) => drop(fs::File::create_new(&path)?),
        }
    }
    Ok(())
}

fn dir(path: &str, mode: u32) -> Result<(), Step> {
    let make = || -> io::Result<()> {
        if !Path::new(path).is_dir() {
            fs::create_dir(path)?;
        }
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    make().map_err(step(format!("make {path}")))
}

fn file(path: &str, content: &str) -> Result<(), Step> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644)))
        .map_err(step(format!("write {path}")))
}

fn tmpfs(target: &Path, options: &str) -> Result<(), Step> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options))
        .map_err(step(format!("mount {}", target.display())))
}
