//! Into the stack of another namespace: xdpredir beside the kernel's other ways to rewrite a
//! packet and hand it on.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread::sleep;

use anyhow::{Context as _, Result};

use crate::bed::{self, Bed, CLIENT, FIRST_PORT, PORT, SINK_MAC, Traffic};
use crate::host::{run, set_sysctl};
use crate::product::Product;
use crate::receiver::Receiver;
use crate::redirect::{check_rewritten, packet_rate};
use crate::report::{Goal, Line, Section, Spread};
use crate::rounds::take_turns;
use crate::tc::Tc;
use crate::{Setup, WARM_UP};

#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Native,
    Generic,
    Tc,
    NftIngress,
    NftDnat,
}

const PEERS: [Peer; 5] = [
    Peer::Native,
    Peer::Generic,
    Peer::Tc,
    Peer::NftIngress,
    Peer::NftDnat,
];

const GOALS: [(Peer, Peer, &str, f64); 3] = [
    (Peer::Native, Peer::Tc, "× tc", 1.15),
    (Peer::Native, Peer::NftDnat, "× nft DNAT", 2.7),
    (Peer::Generic, Peer::Tc, "× tc", 1.0),
];

struct Ways<'obj> {
    product: Product,
    tc: Tc<'obj>,
}

pub fn measure(setup: &Setup) -> Result<Section> {
    let (mut storage, mut tc_storage) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let mut bed = Bed::new(&mut storage, setup.cpu)?;
    prepare_host()?;
    let far = bed.far.try_clone()?;
    let ends = [(server(), PORT), (CLIENT, FIRST_PORT)];
    let [server, client] = ends.map(|(address, port)| SocketAddrV4::new(address, port));
    let receiver = Receiver::new(&far, server, client)?;
    let product = Product::new("stack");
    product.prepare(|product| product.add_rule(&bed, &CLIENT.to_string(), 0))?;

    let tc = Tc::new(&mut tc_storage, &bed)?;
    let mut ways = Ways { product, tc };
    let peers = ways.those_that_work();
    let rewritten = |bed: &Bed| packet_rate(bed, |seen| check_rewritten(seen, 1));
    let sink = bed.attach_stack_sink()?;
    let to_stack = ways.mpps(&mut bed, setup.rounds, &peers, rewritten)?;
    drop(sink);
    let to_socket = ways.mpps(&mut bed, setup.rounds, &peers, |_| receiver.datagram_rate())?;
    let to_stack = lines("to the stack", &peers, &to_stack, |goal, line| {
        line.goal(goal)
    });
    let to_socket = lines("to a socket", &peers, &to_socket, |_, line| line);
    Ok(Section {
        name: "stack",
        about: "from veth to veth, rewritten, into the stack there; 1 flow, 1 backend",
        lines: to_stack.into_iter().chain(to_socket).collect(),
    })
}

fn lines(
    case: &str,
    peers: &[Peer],
    mpps: &[Vec<f64>],
    judged: impl Fn(Goal, Line) -> Line,
) -> Vec<Line> {
    let samples = |peer| Some(&mpps[peers.iter().position(|&other| other == peer)?]);
    let rate = |peer: &Peer| {
        let value = Spread::of(samples(*peer)?, |&mpps| mpps);
        Some(Line::new(case, peer.name(), value, "Mpps"))
    };
    let ratio = |&(peer, reference, unit, goal): &(Peer, Peer, _, f64)| {
        let value = Spread::ratio(samples(peer)?, samples(reference)?, |&mpps| mpps);
        let line = Line::new(case, peer.name(), value, unit);
        Some(judged(Goal::AtLeast(goal), line))
    };
    let rates = peers.iter().filter_map(rate);
    rates.chain(GOALS.iter().filter_map(ratio)).collect()
}

fn server() -> Ipv4Addr {
    bed::server(0)
}

/// What nft's DNAT needs; the others take no notice of it.
fn prepare_host() -> Result<()> {
    set_sysctl("net/ipv4/ip_forward", "1")?;
    let (server, gateway) = (server().to_string(), "10.0.1.254/24");
    run("ip", &["address", "add", gateway, "dev", "dut1"])?;
    let neighbour = ["neighbour", "add", &server, "lladdr", SINK_MAC];
    run("ip", &[&neighbour[..], &["dev", "dut1"]].concat())?;
    // Frames enter a veth that has no XDP program only so.
    run("ethtool", &["-K", "dut0", "gro", "on"])?;
    Ok(())
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "xdpredir native",
            Self::Generic => "xdpredir generic",
            Self::Tc => "tc redirect_peer",
            Self::NftIngress => "nft ingress fwd",
            Self::NftDnat => "nft DNAT",
        }
    }
}

impl Ways<'_> {
    /// A kernel need not have nft's.
    fn those_that_work(&mut self) -> Vec<Peer> {
        let mut works = |peer: &Peer| match self.install(*peer).and_then(|()| self.remove(*peer)) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("left out: {}: {error:#}", peer.name());
                false
            }
        };
        PEERS.into_iter().filter(|peer| works(peer)).collect()
    }

    fn install(&mut self, peer: Peer) -> Result<()> {
        match peer {
            Peer::Native => self.product.attach("native"),
            Peer::Generic => self.product.attach("skb"),
            Peer::Tc => self.tc.attach(),
            Peer::NftIngress => nft(&format!(
                "table netdev bench {{ chain ingress {{
                    type filter hook ingress device dut0 priority 0;
                    ip saddr {CLIENT} udp dport {PORT} ether daddr set {SINK_MAC} \
                        ip daddr set {} fwd to \"dut1\"; }}; }}",
                server()
            )),
            Peer::NftDnat => nft(&format!(
                "table ip bench {{ chain prerouting {{
                    type nat hook prerouting priority -100;
                    ip saddr {CLIENT} udp dport {PORT} dnat to {}; }}; }}",
                server()
            )),
        }
    }

    fn remove(&mut self, peer: Peer) -> Result<()> {
        match peer {
            Peer::Native | Peer::Generic => self.product.detach(),
            Peer::Tc => self.tc.detach(),
            Peer::NftIngress | Peer::NftDnat => nft("flush ruleset"),
        }
    }

    /// The packet rates of the peers, as `arriving` sees them.
    fn mpps(
        &mut self,
        bed: &mut Bed,
        rounds: u32,
        peers: &[Peer],
        arriving: impl Fn(&Bed) -> Result<f64>,
    ) -> Result<Vec<Vec<f64>>> {
        take_turns(rounds, peers, |peer| {
            self.install(peer)?;
            let mpps = bed.transmitting(Traffic::flows(1), |bed| {
                sleep(WARM_UP);
                arriving(bed).with_context(|| peer.name())
            })?;
            self.remove(peer)?;
            Ok(mpps)
        })
    }
}

fn nft(commands: &str) -> Result<()> {
    run("nft", &[commands])
}
