//! The shipped binary, and what the verifier says of its program.

use std::fs::File;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{PrintLevel, set_print};

use crate::bed::{self, Bed};
use crate::host;
use crate::subject::Programs;

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unsafe_code,
    dead_code
)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/xdpredir.skel.rs"));
}

const BINARY: &str = env!("CARGO_BIN_EXE_xdpredir");

/// `BPF_LOG_STATS` of the kernel's `include/linux/bpf_verifier.h`.
const LOG_STATS: u32 = 4;

#[derive(Clone, Copy, PartialEq)]
pub enum Ledger {
    On,
    Off,
}

/// To which a rule redirects.
pub struct Backend {
    pub server: IpAddr,
    pub egress: u32,
}

impl Backend {
    /// The first server, behind dut1.
    pub fn first(bed: &Bed) -> Self {
        Self {
            server: bed::server(0).into(),
            egress: bed.dut1,
        }
    }
}

/// The binary with a pin directory of its own, run in the namespaces of this process.
pub struct Product {
    pins: String,
    devices: &'static [&'static str],
}

impl Product {
    /// To be attached to dut0.
    pub fn new(name: &str) -> Self {
        Self::at(name, &["dut0"])
    }

    /// To be attached to these devices.
    pub fn at(name: &str, devices: &'static [&'static str]) -> Self {
        Self {
            pins: format!("{}/{name}", host::BPFFS),
            devices,
        }
    }

    pub fn run(&self, args: &[&str]) -> Result<()> {
        host::run(BINARY, &[&["--pin-dir", &self.pins], args].concat())
    }

    pub fn attach(&self, mode: &str) -> Result<()> {
        self.attach_with(mode, &[])
    }

    pub fn attach_with(&self, mode: &str, options: &[&str]) -> Result<()> {
        self.run(&[&["attach"], self.devices, &["--mode", mode], options].concat())
    }

    /// Detaches and keeps the rules.
    pub fn detach(&self) -> Result<()> {
        self.run(&[&["detach"], self.devices, &["--keep-rules"]].concat())
    }

    /// Attaches for as long as `prepare` runs.
    pub fn prepare(&self, prepare: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        self.attach("native")?;
        prepare(self)?;
        self.detach()
    }

    /// What runs when attached, at the first device, to be attached in turns; the rules stay.
    pub fn programs(&self, mode: &str, ledger: Ledger) -> Result<Programs> {
        Ok(self.all_programs(mode, ledger)?.swap_remove(0))
    }

    /// The same at each device.
    pub fn all_programs(&self, mode: &str, ledger: Ledger) -> Result<Vec<Programs>> {
        match ledger {
            Ledger::On => self.attach(mode)?,
            Ledger::Off => self.attach_with(mode, &["--no-ledger"])?,
        }
        let pins = Path::new(&self.pins);
        let pinned = |device: &&str| Programs::pinned(pins, host::ifindex(device)?);
        let programs = self.devices.iter().map(pinned).collect();
        self.detach()?;
        programs
    }

    /// A rule for the client and the port, unless the options say otherwise. Answers are not translated.
    pub fn add_rule(&self, options: &[&str], backend: &Backend) -> Result<()> {
        self.add_conversation(&[options, &["--reply", "none"]].concat(), backend)
    }

    /// The same, whose options say how answers come back.
    pub fn add_conversation(&self, options: &[&str], backend: &Backend) -> Result<()> {
        let [server, egress] = [backend.server.to_string(), backend.egress.to_string()];
        let adjacency = ["--mac", bed::SINK_MAC, "--ifindex", &egress];
        let rule = [
            &["rule", "add"],
            options,
            &["--server", &server],
            &adjacency,
        ];
        self.run(&rule.concat())
    }

    /// Not yet run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["--pin-dir", &self.pins]).args(args);
        command
    }

    /// Loads rules, one JSON object a line.
    pub fn load(&self, rules: File) -> Result<()> {
        let output = self.command(&["rule", "load", "-"]).stdin(rules).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rule load: {}", said.trim());
        Ok(())
    }
}

static LOG: Mutex<String> = Mutex::new(String::new());

/// Bytes of stack that the program takes, of its main function and each that it calls.
pub fn stack_depth() -> Result<Vec<u32>> {
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::XdpredirSkelBuilder::default().open(&mut storage)?;
    open.progs.xdpredir.set_log_level(LOG_STATS);
    let printed = set_print(Some((PrintLevel::Debug, keep)));
    let loaded = open.load();
    set_print(printed);
    loaded?;

    let log = LOG.lock().expect("no panic while it is held");
    log.split_once("stack depth ")
        .and_then(|(_, rest)| {
            rest.lines()
                .next()?
                .split('+')
                .map(|n| n.parse().ok())
                .collect()
        })
        .context("the verifier does not say the stack depth")
}

fn keep(_: PrintLevel, message: String) {
    LOG.lock()
        .expect("no panic while it is held")
        .push_str(&message);
}
