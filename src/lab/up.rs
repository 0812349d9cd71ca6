//! Makes a bed.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::beds::Bed;
use super::inspect::{self, State};
use super::{Lab, commands, namespace};
use crate::error::{Exit, failure};

/// Links report carrier within milliseconds of being set up.
const LINKS_COME_UP_WITHIN: Duration = Duration::from_secs(5);

pub fn up(lab: &Lab, bed: &'static Bed) -> Result<()> {
    commands::require(&programs(bed))?;
    match inspect::state()? {
        State::Up(there) if there.name == bed.name => {
            lab.say(&format!("the bed {} is already up", bed.name));
            return Ok(());
        }
        State::Up(other) => {
            let other = other.name;
            return Err(failure(
                Exit::Conflict,
                format!("the bed {other} is up: remove it first with `xdpredir lab down`"),
            ));
        }
        State::Incomplete => {
            lab.say("an incomplete bed is there: removing it");
            lab.remove()?;
        }
        State::Absent => {}
    }
    make(lab, bed).map_err(|error| undo(lab, error))?;
    let hosts = bed.hosts.join(", ");
    lab.say(&format!("the bed {} is up: {hosts}", bed.name));
    let first = bed.first_steps[0];
    lab.say(&format!(
        "now try `{first}`; `xdpredir lab status` has more"
    ));
    Ok(())
}

fn programs(bed: &Bed) -> Vec<&'static str> {
    let mut programs = vec!["ip", "nsenter"];
    programs.extend(bed.rows().map(|(_, command)| command[0]));
    programs
}

/// The mark comes last: a bed that has it is whole.
fn make(lab: &Lab, bed: &'static Bed) -> Result<()> {
    for host in bed.hosts {
        make_host(lab, host, bed.routers.contains(host))?;
    }
    let is_possible = |words: &[&str]| has_ipv6() || !words.iter().any(|word| word.contains("::"));
    for (host, command) in bed.rows().filter(|(_, words)| is_possible(words)) {
        lab.run(namespace::command(host, &command))?;
    }
    wait_for_links(bed.hosts)?;
    lab.run(inspect::mark(bed))
}

fn make_host(lab: &Lab, host: &str, forwards: bool) -> Result<()> {
    let mut add = Command::new("ip");
    add.args(["netns", "add", &namespace::name(host)]);
    lab.run(add)?;
    lab.run(namespace::command(host, &["sh", "-ec", &sysctls(forwards)]))?;
    lab.run(namespace::command(host, &["ip", "link", "set", "lo", "up"]))
}

/// Strict reverse-path filters would drop redirected packets, because their source address is routed
/// elsewhere. Duplicate address detection would make an IPv6 address wait before it can be used.
fn sysctls(forwards: bool) -> String {
    let forward = u8::from(forwards);
    format!(
        "cd /proc/sys/net; echo {forward} >ipv4/ip_forward; \
         for c in all default; do echo 0 >ipv4/conf/$c/rp_filter; [ -d ipv6 ] || continue; \
         echo {forward} >ipv6/conf/$c/forwarding; echo 0 >ipv6/conf/$c/disable_ipv6; \
         echo 0 >ipv6/conf/$c/accept_dad; done"
    )
}

/// On a kernel that was started without IPv6, the beds have IPv4 alone.
fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").is_dir()
}

fn wait_for_links(hosts: &[&str]) -> Result<()> {
    let deadline = Instant::now() + LINKS_COME_UP_WITHIN;
    loop {
        let down = inspect::down_devices(hosts)?;
        if down.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(anyhow!("these links don't come up: {}", down.join(", ")));
        }
        sleep(Duration::from_millis(20));
    }
}

fn undo(lab: &Lab, error: anyhow::Error) -> anyhow::Error {
    lab.say("that failed: removing what was made");
    match lab.remove() {
        Ok(()) => error,
        Err(second) => anyhow!("{error:#}; then, removing what was made: {second:#}"),
    }
}
