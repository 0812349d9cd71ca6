//! What the bed asks of the host: a CPU, mounts, namespaces and devices of its own.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::mem::replace;
use std::os::fd::AsRawFd;
use std::process::{self, Command};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;

pub const BPFFS: &str = "/sys/fs/bpf";

const SETTLE_TIME: Duration = Duration::from_secs(1);
const SETTLE_TRIES: u32 = 10;
const SETTLED: u64 = 1 << 20;

/// The CPU on which the generator runs, and all work that its packets cause. This thread and its
/// children keep off it, if there is another CPU, and on those that are returned besides.
pub fn reserve_cpu() -> Result<(usize, Vec<usize>)> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cpus: Vec<_> = (0..CpuSet::count())
        .filter(|&cpu| allowed.is_set(cpu).unwrap_or(false))
        .collect();
    let cpu = cpus.pop().context("no CPU to run on")?;
    if cpus.is_empty() {
        cpus.push(cpu);
    }
    run_on(&cpus)?;
    Ok((cpu, cpus))
}

pub fn run_on(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

pub fn mount_bpffs() -> Result<()> {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace: run as root")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).context("cannot make mounts private")?;
    mount(
        Some("bpf"),
        BPFFS,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=0700"),
    )
    .with_context(|| format!("cannot mount a bpffs on {BPFFS}"))
}

pub fn enter_new_network_namespace() -> Result<File> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    silence_ipv6()?;
    // The stack must not drop packets because no route leads back to their sources.
    set_sysctl("net/ipv4/conf/all/rp_filter", "0")?;
    set_sysctl("net/ipv4/conf/default/rp_filter", "0")?;
    Ok(File::open("/proc/thread-self/ns/net")?)
}

pub fn set_sysctl(name: &str, value: &str) -> Result<()> {
    fs::write(format!("/proc/sys/{name}"), value).with_context(|| format!("cannot set {name}"))
}

/// Switches IPv6 off. Its timers send solicitations from other CPUs, and a busy NAPI instance stays
/// on the CPU that woke it, so packets would be processed off the measured CPU.
fn silence_ipv6() -> Result<()> {
    match fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.context("cannot switch IPv6 off in a namespace of our own"),
    }
}

/// Runs `work` on a thread that is in the network namespace.
pub fn within<T: Send>(netns: &File, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let enter_and_work = || {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    thread::scope(|scope| {
        scope
            .spawn(enter_and_work)
            .join()
            .expect("no panic in a namespace")
    })
}

/// A pair of devices, each with its name and MAC address.
pub fn add_veth(far: &File, near: [&str; 2], far_end: [&str; 2]) -> Result<()> {
    let netns = format!("/proc/{}/fd/{}", process::id(), far.as_raw_fd());
    let near = ["link", "add", near[0], "address", near[1], "up"];
    let peer = ["peer", "name", far_end[0], "address", far_end[1]];
    run(
        "ip",
        &[&near[..], &["type", "veth"], &peer, &["netns", &netns]].concat(),
    )?;
    within(far, || run("ip", &["link", "set", far_end[0], "up"]))
}

pub fn ifindex(name: &str) -> Result<u32> {
    if_nametoindex(name).with_context(|| format!("no device {name}"))
}

/// As `uname -r` prints it.
pub fn kernel_release() -> Result<String> {
    let uname = nix::sys::utsname::uname()?;
    Ok(uname.release().to_string_lossy().into_owned())
}

pub fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        said.trim()
    );
    Ok(())
}

/// Bytes that the kernel has allocated for itself, including BPF maps, once the number is stable.
pub fn kernel_memory() -> Result<u64> {
    let mut memory = allocated()?;
    for _ in 0..SETTLE_TRIES {
        sleep(SETTLE_TIME);
        let before = replace(&mut memory, allocated()?);
        if memory.abs_diff(before) < SETTLED {
            break;
        }
    }
    Ok(memory)
}

fn allocated() -> Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let kilobytes = meminfo.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let counts = ["Slab", "Percpu", "VmallocUsed"].contains(&name);
        counts.then(|| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())?
    });
    Ok(kilobytes.sum::<u64>() * 1024)
}
