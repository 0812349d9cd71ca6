//! Removes a bed, or what there is of one.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Lab, commands, namespace};
use crate::error::{Exit, failure};

/// An interactive shell ends at SIGHUP alone.
const ASK_TO_END: &[Signal] = &[Signal::SIGTERM, Signal::SIGHUP];

/// How long processes have after those, and again after SIGKILL.
const PROCESSES_END_WITHIN: Duration = Duration::from_secs(1);

impl Lab<'_> {
    pub(super) fn remove_all(&self) -> Result<()> {
        if namespace::present().is_empty() {
            self.say("no lab is up");
            return Ok(());
        }
        commands::require(&["ip"])?;
        self.remove()?;
        self.say("the lab is down");
        Ok(())
    }

    /// Goes on where a step fails, to leave as little as possible, and returns the first error.
    pub(super) fn remove(&self) -> Result<()> {
        let hosts = namespace::present();
        refuse_from_inside(&hosts)?;
        let live = || hosts.iter().filter(|host| namespace::is_live(host));
        let detached: Vec<_> = live().map(|host| self.detach_from(host)).collect();
        let ended: Vec<_> = live().map(|host| self.end_processes(host)).collect();
        let deleted: Vec<_> = hosts.iter().map(|host| self.delete(host)).collect();
        detached.into_iter().chain(ended).chain(deleted).collect()
    }

    fn detach_from(&self, host: &str) -> Result<()> {
        let command = (self.detach)(&namespace::name(host))?;
        self.run_unless(command, Some(Exit::NotFound as i32))
    }

    fn end_processes(&self, host: &str) -> Result<()> {
        for signals in [ASK_TO_END, &[Signal::SIGKILL]] {
            let pids = processes(host)?;
            if pids.is_empty() {
                break;
            }
            signals.iter().for_each(|signal| self.kill(*signal, &pids));
            wait_until_gone(host)?;
        }
        Ok(())
    }

    fn kill(&self, signal: Signal, pids: &[Pid]) {
        let list = pids.iter().map(Pid::to_string).collect::<Vec<_>>();
        let name = signal.as_str().trim_start_matches("SIG");
        self.say(&format!("+ kill -{name} {}", list.join(" ")));
        for pid in pids {
            // It may have ended by itself.
            let _ = kill(*pid, signal);
        }
    }

    fn delete(&self, host: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["netns", "del", &namespace::name(host)]);
        self.run(command)
    }
}

/// The shell that asks would be among the processes to end.
pub fn refuse_from_inside(hosts: &[&str]) -> Result<()> {
    match hosts.iter().find(|host| namespace::is_ours(host)) {
        None => Ok(()),
        Some(host) => Err(failure(
            Exit::Conflict,
            format!("this runs inside the lab's {host}: leave it first"),
        )),
    }
}

fn processes(host: &str) -> Result<Vec<Pid>> {
    let mut command = Command::new("ip");
    command.args(["netns", "pids", &namespace::name(host)]);
    let pids = commands::ask(command)?;
    Ok(pids
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw)
        .collect())
}

fn wait_until_gone(host: &str) -> Result<()> {
    let deadline = Instant::now() + PROCESSES_END_WITHIN;
    while Instant::now() < deadline && !processes(host)?.is_empty() {
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
