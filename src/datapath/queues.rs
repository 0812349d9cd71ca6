//! One socket for each queue of a device.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use nix::libc;

use super::abi;
use super::af_xdp::{Means, ONE_BUFFER, Socket};
use crate::error::{Exit, failure};
use crate::host::device::Device;
use crate::host::{features, queues};
use crate::model::Mode;

/// Buffers, of a page each: of a queue, and of all queues, as long as each has its least.
const MOST_BUFFERS: u32 = 4096;
const ALL_BUFFERS: u32 = 32768;
const LEAST_BUFFERS: u32 = 256;

/// The kernel releases a queue a moment after the process that read it has ended.
const RELEASED_WITHIN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes in front of an IP packet: Ethernet's header and two tags.
const LINK_HEADERS: u32 = 14 + 2 * 4;

/// A socket for each queue, or for that one.
pub fn bind_all(device: &Device, mode: Mode, queue: Option<u32>) -> Result<Vec<Socket>> {
    let told = queues::of(&device.name).map(|queues| queues.now);
    let count = told.filter(|&now| now > 0).unwrap_or(device.rx_queues);
    let count = count.clamp(1, abi::MAX_SOCKETS);
    let wanted = match queue {
        Some(queue) if queue < count => queue..queue + 1,
        Some(queue) => return Err(no_queue(device, queue, count)),
        None => 0..count,
    };
    let buffers = buffers(wanted.len() as u32);
    let mut means = means(device, mode)?;
    let mut sockets: Vec<Socket> = Vec::new();
    for queue in wanted {
        match bind(device, queue, buffers, &mut means) {
            Ok(socket) => sockets.push(socket),
            // It has fewer than it may have, and does not say so.
            Err(error) if is_invalid(&error) && told.is_none() && queue > 0 => {
                if sockets.is_empty() {
                    return Err(no_queue(device, queue, queue));
                }
                break;
            }
            Err(error) => return Err(not_bound(device, queue, error)),
        }
    }
    Ok(sockets)
}

/// For each of so many queues: a power of two.
fn buffers(queues: u32) -> u32 {
    let share = (ALL_BUFFERS / queues.max(1)).clamp(LEAST_BUFFERS, MOST_BUFFERS);
    1 << share.ilog2()
}

/// What to try, the best first.
fn means(device: &Device, mode: Mode) -> Result<Vec<Means>> {
    let means = |zero_copy, several_buffers| Means {
        zero_copy,
        several_buffers,
    };
    let mut all = vec![means(false, true), means(false, false)];
    if mode == Mode::Native && features::xdp_of(device)?.zero_copy != Some(false) {
        all.insert(0, means(true, device.mtu + LINK_HEADERS > ONE_BUFFER));
    }
    Ok(all)
}

/// By the first of these means that works; those before it are not tried again.
fn bind(device: &Device, queue: u32, buffers: u32, means: &mut Vec<Means>) -> io::Result<Socket> {
    let start = Instant::now();
    loop {
        let [first, others @ ..] = &means[..] else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        match Socket::bind(device.ifindex, queue, buffers, *first) {
            Err(error) if !others.is_empty() && depends_on_means(&error) => {
                *means = others.to_vec();
            }
            Err(error) if is_busy(&error) && start.elapsed() < RELEASED_WITHIN => sleep(PAUSE),
            bound => return bound,
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}

fn is_invalid(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

fn depends_on_means(error: &io::Error) -> bool {
    /// The kernel's own, which drivers answer with, too.
    const ENOTSUPP: i32 = 524;
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)
    )
}

fn no_queue(device: &Device, queue: u32, count: u32) -> Error {
    let name = &device.name;
    let has = match count {
        1 => "has one queue: 0".to_string(),
        count => format!("has {count} queues: 0 to {}", count - 1),
    };
    failure(Exit::NotFound, format!("queue {queue}: {name} {has}"))
}

fn not_bound(device: &Device, queue: u32, error: io::Error) -> Error {
    let name = &device.name;
    let (exit, why) = match error.raw_os_error() {
        _ if is_busy(&error) => (
            Exit::Conflict,
            "another socket (AF_XDP) reads it: end that program first".into(),
        ),
        Some(libc::ENETDOWN) => (Exit::Failed, "the device is down: set it up first".into()),
        Some(libc::ENODEV | libc::ENXIO) => (Exit::NotFound, "the device is gone".into()),
        Some(libc::EPERM | libc::EACCES) => (
            Exit::Permission,
            "a socket (AF_XDP) needs root, or CAP_NET_RAW".into(),
        ),
        Some(libc::EAFNOSUPPORT) => (
            Exit::Unsupported,
            "this kernel has no such sockets (AF_XDP): boot one with CONFIG_XDP_SOCKETS".into(),
        ),
        Some(libc::ENOBUFS | libc::ENOMEM) => (
            Exit::Failed,
            "there is not enough memory for its buffers: free some, or raise `ulimit -l`".into(),
        ),
        _ => (Exit::Failed, error.to_string()),
    };
    failure(exit, format!("{name}, queue {queue}: {why}"))
}
