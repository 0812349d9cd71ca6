//! The shipped binary, and what the verifier says of its program.

use std::fs::File;
use std::mem::MaybeUninit;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{PrintLevel, set_print};

use crate::bed::{self, Bed};
use crate::host;

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

/// The binary with pin directory of its own, run in the namespaces of this process.
#[derive(Clone)]
pub struct Product {
    pins: String,
}

impl Product {
    pub fn new(name: &str) -> Self {
        Self {
            pins: format!("{}/{name}", host::BPFFS),
        }
    }

    pub fn run(&self, args: &[&str]) -> Result<()> {
        host::run(BINARY, &[&["--pin-dir", &self.pins], args].concat())
    }

    pub fn attach(&self, mode: &str) -> Result<()> {
        self.run(&["attach", "dut0", "--mode", mode])
    }

    pub fn attach_without_ledger(&self) -> Result<()> {
        self.run(&["attach", "dut0", "--mode", "native", "--no-ledger"])
    }

    /// Detaches and keeps the rules.
    pub fn detach(&self) -> Result<()> {
        self.run(&["detach", "dut0", "--keep-rules"])
    }

    /// Attaches for as long as `prepare` runs.
    pub fn prepare(&self, prepare: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        self.attach("native")?;
        prepare(self)?;
        self.detach()
    }

    pub fn add_rule(&self, bed: &Bed, source: &str, server: usize) -> Result<()> {
        let [port, server] = [bed::PORT.to_string(), bed::server(server).to_string()];
        let egress = bed.dut1.to_string();
        let rule = ["rule", "add", "--src", source, "--port", &port];
        let backend = ["--server", &server, "--mac", bed::SINK_MAC];
        self.run(&[&rule[..], &backend, &["--ifindex", &egress]].concat())
    }

    /// Loads rules, one JSON object a line.
    pub fn load(&self, rules: File) -> Result<()> {
        let mut command = Command::new(BINARY);
        command.args(["--pin-dir", &self.pins, "rule", "load", "-"]);
        let status = command.stdin(rules).status()?;
        ensure!(status.success(), "rule load: {status}");
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
