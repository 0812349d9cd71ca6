//! Network namespaces.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket};

use super::sys::NetnsCookie;
use super::{kernel, netlink};
use crate::error::{Exit, failure};

pub const NAMED: &str = "/run/netns";

/// Enters the network namespace of a name or path, and no mount namespace: pins are found there, and
/// survive.
pub fn enter(name: &str) -> Result<()> {
    let file = open(name)?;
    netlink::leave_namespace();
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        Errno::EINVAL => {
            let message = format!("{} is not a network namespace", path(name).display());
            failure(Exit::Usage, message)
        }
        Errno::EPERM => failure(Exit::Permission, "needs root (CAP_SYS_ADMIN)"),
        _ => errno.into(),
    })?;
    Ok(())
}

/// Does work in another network namespace, on a thread of its own: only that one enters.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let context = || format!("cannot enter the network namespace {}", path.display());
    let file = file(path).with_context(context)?;
    let enter_and_work = || {
        setns(&file, CloneFlags::CLONE_NEWNET).with_context(context)?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter_and_work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Opens the namespace of a name or path.
pub fn open(name: &str) -> Result<File> {
    let path = path(name);
    let missing = format!("no such network namespace ({})", path.display());
    open_or(&path, missing)
}

/// Opens the namespace of a process.
pub fn of_process(pid: u32) -> Result<File> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    open_or(&path, format!("pid {pid}: no such process"))
}

fn open_or(path: &Path, missing: String) -> Result<File> {
    file(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => failure(Exit::NotFound, missing),
        _ => anyhow::Error::from(error).context(path.display().to_string()),
    })
}

/// Opens a file that may be a namespace. The path may also name a pipe without a writer, on which an
/// ordinary open would hang.
pub fn file(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true).custom_flags(nix::libc::O_NONBLOCK);
    options.open(path)
}

/// Whether that is the namespace that we are in.
pub fn is_current(namespace: &File) -> Result<bool> {
    let own = File::open("/proc/thread-self/ns/net").context("is /proc mounted?")?;
    let (own, other) = (own.metadata()?, namespace.metadata()?);
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

/// A name stands under /run/netns; whatever has a slash is a path.
pub fn path(name: &str) -> PathBuf {
    if name.contains('/') {
        PathBuf::from(name)
    } else {
        Path::new(NAMED).join(name)
    }
}

/// The number that this namespace has for another one. None where it has given it none, as it does
/// where it has a device with a link there.
pub fn nsid(namespace: &File) -> Result<Option<i32>> {
    let mut request = NsidMessage::default();
    let fd = namespace.as_fd().as_raw_fd() as u32;
    request.attributes.push(NsidAttribute::Fd(fd));
    let answer = netlink::get(RouteNetlinkMessage::GetNsId(request))?;
    let Some(RouteNetlinkMessage::NewNsId(answer)) = answer else {
        return Ok(None);
    };
    let id = |attribute: &NsidAttribute| match attribute {
        NsidAttribute::Id(nsid) => Some(*nsid).filter(|&nsid| nsid >= 0),
        _ => None,
    };
    Ok(answer.attributes.iter().find_map(id))
}

/// The number by which the kernel's own structures name the current namespace.
pub fn inode() -> Result<u32> {
    let metadata = fs::metadata("/proc/thread-self/ns/net")
        .context("cannot find out which network namespace this is: is /proc mounted?")?;
    Ok(metadata.ino() as u32)
}

/// What tells the current namespace from all others until the next boot.
pub fn cookie() -> Result<u64> {
    let (family, kind) = (AddressFamily::Inet, SockType::Datagram);
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None);
    let socket = socket.context("cannot open a socket")?;
    getsockopt(&socket, NetnsCookie).map_err(|errno| match errno {
        Errno::ENOPROTOOPT => {
            let (kernel, newer) = (kernel::release(), kernel::BOOT_NEWER);
            let message = format!(
                "this kernel ({kernel}) cannot tell network namespaces apart (SO_NETNS_COOKIE): {newer}"
            );
            failure(Exit::Unsupported, message)
        }
        _ => anyhow::Error::from(errno).context("cannot find out which network namespace this is"),
    })
}
