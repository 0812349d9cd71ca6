//! Into the stack of another namespace: xdpredir beside other means of the kernel to rewrite a
//! packet and send it there.

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
enum Subject {
    Native,
    Generic,
    Tc,
    NftIngress,
    NftDnat,
}

const SUBJECTS: [Subject; 5] = [
    Subject::Native,
    Subject::Generic,
    Subject::Tc,
    Subject::NftIngress,
    Subject::NftDnat,
];

const GOALS: [(Subject, Subject, &str, f64); 3] = [
    (Subject::Native, Subject::Tc, "× tc", 1.15),
    (Subject::Native, Subject::NftDnat, "× nft DNAT", 2.7),
    (Subject::Generic, Subject::Tc, "× tc", 1.0),
];

struct Programs<'obj> {
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
    let mut programs = Programs { product, tc };
    let subjects = programs.find_working();
    let rewritten = |bed: &Bed| packet_rate(bed, |seen| check_rewritten(seen, 1));
    let sink = bed.attach_stack_sink()?;
    let to_stack = programs.mpps(&mut bed, setup.rounds, &subjects, rewritten)?;
    drop(sink);
    let to_socket = programs.mpps(&mut bed, setup.rounds, &subjects, |_| {
        receiver.datagram_rate()
    })?;
    let to_stack = lines("to the stack", &subjects, &to_stack, |goal, line| {
        line.goal(goal)
    });
    let to_socket = lines("to a socket", &subjects, &to_socket, |_, line| line);
    Ok(Section {
        name: "stack",
        about: "from veth to veth, rewritten, into the stack there; 1 flow, 1 backend",
        lines: to_stack.into_iter().chain(to_socket).collect(),
    })
}

fn lines(
    case: &str,
    subjects: &[Subject],
    mpps: &[Vec<f64>],
    judged: impl Fn(Goal, Line) -> Line,
) -> Vec<Line> {
    let samples = |subject| Some(&mpps[subjects.iter().position(|&other| other == subject)?]);
    let rate = |subject: &Subject| {
        let value = Spread::of(samples(*subject)?, |&mpps| mpps);
        Some(Line::new(case, subject.name(), value, "Mpps"))
    };
    let ratio = |&(subject, reference, unit, goal): &(Subject, Subject, _, f64)| {
        let value = Spread::ratio(samples(subject)?, samples(reference)?, |&mpps| mpps);
        let line = Line::new(case, subject.name(), value, unit);
        Some(judged(Goal::AtLeast(goal), line))
    };
    let rates = subjects.iter().filter_map(rate);
    rates.chain(GOALS.iter().filter_map(ratio)).collect()
}

fn server() -> Ipv4Addr {
    bed::server(0)
}

/// What nft's DNAT needs; it makes no difference to the others.
fn prepare_host() -> Result<()> {
    set_sysctl("net/ipv4/ip_forward", "1")?;
    let (server, gateway) = (server().to_string(), "10.0.1.254/24");
    run("ip", &["address", "add", gateway, "dev", "dut1"])?;
    let neighbour = ["neighbour", "add", &server, "lladdr", SINK_MAC];
    run("ip", &[&neighbour[..], &["dev", "dut1"]].concat())?;
    // A veth without an XDP program takes no redirected frames unless its GRO is on.
    run("ethtool", &["-K", "dut0", "gro", "on"])?;
    Ok(())
}

impl Subject {
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

impl Programs<'_> {
    /// Some kernels lack nft.
    fn find_working(&mut self) -> Vec<Subject> {
        let mut works =
            |subject: &Subject| match self.install(*subject).and_then(|()| self.remove(*subject)) {
                Ok(()) => true,
                Err(error) => {
                    eprintln!("left out: {}: {error:#}", subject.name());
                    false
                }
            };
        SUBJECTS
            .into_iter()
            .filter(|subject| works(subject))
            .collect()
    }

    fn install(&mut self, subject: Subject) -> Result<()> {
        match subject {
            Subject::Native => self.product.attach("native"),
            Subject::Generic => self.product.attach("skb"),
            Subject::Tc => self.tc.attach(),
            Subject::NftIngress => nft(&format!(
                "table netdev bench {{ chain ingress {{
                    type filter hook ingress device dut0 priority 0;
                    ip saddr {CLIENT} udp dport {PORT} ether daddr set {SINK_MAC} \
                        ip daddr set {} fwd to \"dut1\"; }}; }}",
                server()
            )),
            Subject::NftDnat => nft(&format!(
                "table ip bench {{ chain prerouting {{
                    type nat hook prerouting priority -100;
                    ip saddr {CLIENT} udp dport {PORT} dnat to {}; }}; }}",
                server()
            )),
        }
    }

    fn remove(&mut self, subject: Subject) -> Result<()> {
        match subject {
            Subject::Native | Subject::Generic => self.product.detach(),
            Subject::Tc => self.tc.detach(),
            Subject::NftIngress | Subject::NftDnat => nft("flush ruleset"),
        }
    }

    /// The packet rates of the subjects, as `arriving` sees them.
    fn mpps(
        &mut self,
        bed: &mut Bed,
        rounds: u32,
        subjects: &[Subject],
        arriving: impl Fn(&Bed) -> Result<f64>,
    ) -> Result<Vec<Vec<f64>>> {
        take_turns(rounds, subjects, |subject| {
            self.install(subject)?;
            let mpps = bed.transmitting(Traffic::flows(1), |bed| {
                sleep(WARM_UP);
                arriving(bed).with_context(|| subject.name())
            })?;
            self.remove(subject)?;
            Ok(mpps)
        })
    }
}

fn nft(commands: &str) -> Result<()> {
    run("nft", &[commands])
}
