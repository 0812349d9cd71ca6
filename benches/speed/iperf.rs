//! TCP in bulk by iperf3, with the offloads that the devices have by default.

use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::Setup;
use crate::bed::server;
use crate::ends::Ends;
use crate::host::{run_on, within};
use crate::means::Peer;
use crate::relays::{Kind, Relay, Relays};
use crate::report::{Goal, Line};
use crate::rounds::take_turns;
use crate::spread::Spread;
use crate::traffic::{PORT, SERVICE};

/// Rounds, since each transfer takes longer than a window of the others.
const ROUNDS: u32 = 9;
const BYTES: &str = "250M";

const CASES: [(&str, &[&str]); 2] = [
    ("iperf3, TCP to the server", &[]),
    ("iperf3, TCP to the client", &["--reverse"]),
];

const RELAYS: [Relay; 3] = [
    relay("tc", Kind::Tc),
    relay("routed, no relay", Kind::Routed),
    relay("nft DNAT", Kind::NftDnat),
];

const fn relay(name: &'static str, kind: Kind) -> Relay {
    Relay {
        name,
        kind,
        peer: Peer::Plain,
        divided: false,
    }
}

pub fn lines(relays: &Relays, ends: &Ends, setup: &Setup) -> Result<Vec<Line>> {
    let _server = Server::start(ends)?;
    let mut lines = Vec::new();
    for (case, options) in CASES {
        let ns = take_turns(setup.rounds.min(ROUNDS), &RELAYS, |relay| {
            let asked = match relay.kind {
                Kind::Routed => server(0),
                _ => SERVICE,
            };
            relays.with(relay, &[], || {
                within(&ends.client, || ns_per_bit(asked, options, setup.cpu))
            })
        })?;
        lines.extend(judge(case, &ns));
    }
    Ok(lines)
}

fn judge(case: &str, ns: &[Vec<f64>]) -> Vec<Line> {
    let rate = |(relay, ns): (&Relay, &Vec<f64>)| {
        let gbps = Spread::derived([ns], |[ns]| 1.0 / ns);
        Line::new(case, relay.name, gbps, "Gbit/s")
    };
    let beside = |other: usize, unit, goal| {
        let ratio = Spread::rate_ratio(&ns[0], &ns[other]);
        Line::new(case, RELAYS[0].name, ratio, unit).goal(Goal::AtLeast(goal))
    };
    let ratios = [beside(1, "× routed", 0.9), beside(2, "× nft DNAT", 1.3)];
    RELAYS.iter().zip(ns).map(rate).chain(ratios).collect()
}

/// What a client on that CPU sees.
fn ns_per_bit(server: Ipv4Addr, options: &[&str], cpu: usize) -> Result<f64> {
    run_on(&[cpu])?;
    let (server, port) = (server.to_string(), PORT.to_string());
    let mut command = Command::new("iperf3");
    command.args([
        "--json", "--bytes", BYTES, "--client", &server, "--port", &port,
    ]);
    let output = command
        .args(options)
        .output()
        .context("cannot run iperf3")?;
    let said: Value = serde_json::from_slice(&output.stdout).context("what iperf3 says")?;
    let rate = said["end"]["sum_received"]["bits_per_second"].as_f64();
    ensure!(output.status.success(), "iperf3: {}", said["error"]);
    Ok(1e9 / rate.context("iperf3 names no rate")?)
}

struct Server {
    child: Child,
}

impl Server {
    /// On the CPUs of this thread.
    fn start(ends: &Ends) -> Result<Self> {
        let server = within(&ends.server, || {
            let mut command = Command::new("iperf3");
            command.args(["--server", "--port", &PORT.to_string()]);
            let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
            let child = quiet.spawn().context("cannot run iperf3")?;
            Ok(Self { child })
        })?;
        within(&ends.client, || {
            for _ in 0..100 {
                if TcpStream::connect((self::server(0), PORT)).is_ok() {
                    return Ok(());
                }
                sleep(Duration::from_millis(20));
            }
            bail!("iperf3 does not listen");
        })?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
