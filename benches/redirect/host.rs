//! What the bed asks of the host: a CPU, mounts, namespaces and devices of its own.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::process::{self, Command};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;

pub const BPFFS: &str = "/sys/fs/bpf";

/// The CPU of the generator and of all that its packets cause. This thread and its children leave
/// it alone where there is another one.
pub fn reserve_cpu() -> Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cpus: Vec<_> = (0..CpuSet::count())
        .filter(|&cpu| allowed.is_set(cpu).unwrap_or(false))
        .collect();
    let cpu = cpus.pop().context("no CPU to run on")?;
    if !cpus.is_empty() {
        run_on(&cpus)?;
    }
    Ok(cpu)
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
    Ok(File::open("/proc/thread-self/ns/net")?)
}

/// Timers send its solicitations from other CPUs, and a busy NAPI stays on the CPU that woke it.
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

pub fn add_veth(far: &File, near_name: &str, far_name: &str, far_mac: &str) -> Result<()> {
    let netns = format!("/proc/{}/fd/{}", process::id(), far.as_raw_fd());
    let near = ["link", "add", near_name, "up", "type", "veth"];
    let peer = ["peer", "name", far_name, "address", far_mac];
    run("ip", &[&near[..], &peer, &["netns", &netns]].concat())?;
    within(far, || run("ip", &["link", "set", far_name, "up"]))
}

pub fn ifindex(name: &str) -> Result<u32> {
    if_nametoindex(name).with_context(|| format!("no device {name}"))
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
