//! What brings a client's packets to the server and back, one at a time.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::bed::{self, Hook, server};
use crate::ends::{DEVICES, Ends};
use crate::host::{ifindex, run, within};
use crate::means::{Peer, nft};
use crate::product::{Backend, Ledger, Product};
use crate::subject::Programs;
use crate::sys;
use crate::traffic::{PORT, SERVICE};

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Native(Ledger),
    Generic(Ledger),
    /// Generic where requests arrive, native where answers do: what is chosen on veths.
    Chosen(Ledger),
    /// At the tc hook, without ledger.
    Tc,
    NftDnat,
    /// The client asks the server itself.
    Routed,
    /// It ends connections, and makes others to the server. TCP only.
    HaProxy,
}

#[derive(Clone, Copy, PartialEq)]
pub struct Relay {
    pub name: &'static str,
    pub kind: Kind,
    /// How client and server take frames.
    pub peer: Peer,
    /// Client and server send frames of the MTU, as those of a network are, and no longer ones.
    pub divided: bool,
}

pub struct Relays<'a> {
    ends: &'a Ends,
    pass: BorrowedFd<'a>,
    /// With the ledger, and without.
    native: [Vec<Programs>; 2],
    generic: [Vec<Programs>; 2],
    /// None where the kernel has no tcx.
    tc: Option<Vec<Programs>>,
    proxy: Option<HaProxy>,
}

impl<'a> Relays<'a> {
    pub fn new(ends: &'a Ends, pass: BorrowedFd<'a>) -> Result<Self> {
        let product = Product::at("relays", &DEVICES);
        let backend = Backend {
            server: server(0).into(),
            egress: ifindex("dut1")?,
        };
        let [to, port] = [SERVICE.to_string(), PORT.to_string()];
        let add = |product: &Product| {
            ["udp", "tcp"].into_iter().try_for_each(|proto| {
                let service = ["--dst", &to, "--proto", proto, "--port", &port];
                product.add_conversation(&[&service[..], &["--reply", "nat"]].concat(), &backend)
            })
        };
        product.prepare(add)?;
        let programs = |mode| -> Result<_> {
            let with = product.all_programs(mode, Ledger::On)?;
            Ok([with, product.all_programs(mode, Ledger::Off)?])
        };
        // The product asks, when it is attached, who takes frames that are redirected.
        replace_peers(ends, pass, Peer::Plain, Peer::Gro)?;
        let native = programs("native")?;
        replace_peers(ends, pass, Peer::Gro, Peer::Plain)?;
        Ok(Self {
            ends,
            pass,
            native,
            generic: programs("skb")?,
            tc: product
                .all_programs("tc", Ledger::Off)
                .map_err(|error| eprintln!("left out: tc: {error:#}"))
                .ok(),
            proxy: HaProxy::start()
                .map_err(|error| eprintln!("left out: HAProxy: {error:#}"))
                .ok(),
        })
    }

    pub fn has_tc(&self) -> bool {
        self.tc.is_some()
    }

    pub fn has(&self, relay: &Relay) -> bool {
        match relay.kind {
            Kind::HaProxy => self.proxy.is_some(),
            Kind::Tc => self.has_tc(),
            _ => true,
        }
    }

    /// What `measure` returns while the relay is there. A proxy runs on those CPUs.
    pub fn with<T>(
        &self,
        relay: &Relay,
        cpus: &[usize],
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        replace_peers(self.ends, self.pass, Peer::Plain, relay.peer)?;
        self.divide(relay, "off")?;
        let tracing = self.install(relay, cpus)?;
        let measured = measure().context(relay.name);
        self.remove(relay)?;
        drop(tracing);
        self.divide(relay, "on")?;
        replace_peers(self.ends, self.pass, relay.peer, Peer::Plain)?;
        measured
    }

    /// Of XDP, where requests and where answers arrive. Empty where it is somebody else's.
    fn programs(&self, relay: &Relay) -> Vec<(&Programs, Hook)> {
        let native = |ledger| of(&self.native, ledger).iter().map(|it| (it, Hook::Native));
        let generic = |ledger| {
            of(&self.generic, ledger)
                .iter()
                .map(|it| (it, Hook::Generic))
        };
        match relay.kind {
            Kind::Native(ledger) => native(ledger).collect(),
            Kind::Generic(ledger) => generic(ledger).collect(),
            Kind::Chosen(ledger) => generic(ledger)
                .take(1)
                .chain(native(ledger).skip(1))
                .collect(),
            Kind::Tc | Kind::NftDnat | Kind::Routed | Kind::HaProxy => Vec::new(),
        }
    }

    /// What is returned must be kept until the relay is removed.
    fn install(&self, relay: &Relay, cpus: &[usize]) -> Result<Vec<OwnedFd>> {
        if relay.kind == Kind::NftDnat {
            let server = server(0);
            nft(&format!(
                "table ip bench {{ chain prerouting {{
                    type nat hook prerouting priority -100;
                    ip daddr {SERVICE} udp dport {PORT} dnat to {server};
                    ip daddr {SERVICE} tcp dport {PORT} dnat to {server}; }}; }}",
            ))?;
        }
        if relay.kind == Kind::HaProxy {
            self.proxy.as_ref().expect("it was found").run_on(cpus)?;
        }
        if relay.kind == Kind::Tc {
            let programs = self.tc.iter().flatten().zip(DEVICES);
            let attach = |(program, device): (&Programs, _)| -> Result<_> {
                Ok(sys::attach_ingress(program.as_fd(), ifindex(device)?)?)
            };
            return programs.map(attach).collect();
        }
        let programs = self.programs(relay);
        for ((program, hook), device) in programs.iter().zip(DEVICES) {
            bed::attach(program.as_fd(), ifindex(device)? as i32, *hook)?;
        }
        programs
            .first()
            .map_or(Ok(Vec::new()), |(first, _)| first.trace())
    }

    fn remove(&self, relay: &Relay) -> Result<()> {
        if relay.kind == Kind::NftDnat {
            nft("flush ruleset")?;
        }
        for ((_, hook), device) in self.programs(relay).into_iter().zip(DEVICES) {
            bed::detach(self.pass, ifindex(device)? as i32, hook)?;
        }
        Ok(())
    }

    fn divide(&self, relay: &Relay, offload: &str) -> Result<()> {
        if !relay.divided {
            return Ok(());
        }
        self.ends
            .namespaces()
            .into_iter()
            .try_for_each(|end| within(end, || run("ethtool", &["-K", "eth0", "tso", offload])))
    }
}

fn of(programs: &[Vec<Programs>; 2], ledger: Ledger) -> &[Programs] {
    match ledger {
        Ledger::On => &programs[0],
        Ledger::Off => &programs[1],
    }
}

fn replace_peers(ends: &Ends, pass: BorrowedFd<'_>, before: Peer, peer: Peer) -> Result<()> {
    if before == peer {
        return Ok(());
    }
    let mut ends = ends.namespaces().into_iter();
    ends.try_for_each(|end| within(end, || peer.replace(before, "eth0", pass)))
}

/// On one thread, since it may run on one CPU at a time.
struct HaProxy {
    child: Child,
}

impl HaProxy {
    fn start() -> Result<Self> {
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f", "/dev/stdin"]);
        let piped = command.stdin(Stdio::piped()).stderr(Stdio::null());
        let child = piped.stdout(Stdio::null()).spawn();
        let mut proxy = Self {
            child: child.context("it cannot be run")?,
        };
        let mut config = proxy.child.stdin.take().expect("it is piped");
        write!(
            config,
            "global\n nbthread 1\n\
             defaults\n mode tcp\n option splice-auto\n\
             timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             listen service\n bind {SERVICE}:{PORT}\n server first {}:{PORT}\n",
            server(0)
        )?;
        drop(config);
        proxy.wait()?;
        Ok(proxy)
    }

    fn wait(&self) -> Result<()> {
        for _ in 0..100 {
            if TcpStream::connect((SERVICE, PORT)).is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(100));
        }
        bail!("it does not listen");
    }

    fn run_on(&self, cpus: &[usize]) -> Result<()> {
        let mut set = CpuSet::new();
        for &cpu in cpus {
            set.set(cpu)?;
        }
        let pid = Pid::from_raw(self.child.id() as i32);
        Ok(sched_setaffinity(pid, &set)?)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
