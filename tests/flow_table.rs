//! The table of connections where it is full, and where two CPUs want the same.

use std::net::Ipv4Addr;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::fixture::connections::{Entry, Table};
use crate::fixture::lan::Lan;
use crate::fixture::packet::{Frame, TCP, UDP};
use crate::fixture::run::{Loaded, XDP_DROP, XDP_PASS, XDP_REDIRECT};

const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
const SERVER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

const ONE_WAY: u8 = 0;
const BOTH_WAYS: u8 = 1;
const OPENING: u8 = 2;
const ANSWERED: u8 = 3;
const ESTABLISHED: u8 = 4;
const FIN_REQUEST: u8 = 5;
const CLOSED: u8 = 7;
const RESET: u8 = 8;

/// A rule for TCP and UDP, and the programs that see requests and answers.
struct Bed {
    lan: Lan,
    table: Table,
    requests: Loaded,
    answers: Loaded,
    devices: [u32; 2],
}

impl Bed {
    fn new(buckets: u32) -> Self {
        let lan = Lan::new(false, 1);
        for device in ["lan", "wan0"] {
            lan.tool().ok(&format!("attach {device} --mode skb"));
        }
        for proto in ["udp", "tcp"] {
            let rule = format!("--dst {VIP} --proto {proto} --port 80 --reply nat");
            lan.add_backend(0, &rule);
        }
        let table = Table::open(&lan.pins, buckets, (10000, 32767));
        let devices = ["lan", "wan0"].map(|name| lan.host.ifindex(name));
        let status = lan.tool().json("status");
        Bed {
            requests: Loaded::on(&status, "lan"),
            answers: Loaded::on(&status, "wan0"),
            table,
            lan,
            devices,
        }
    }

    /// The verdict.
    fn request(&self, client: u32, proto: u8, flags: u8) -> u32 {
        let frame = frame(proto, flags, (address(client), 40000), (VIP, 80));
        let run = || self.requests.run_at(self.devices[0], &frame).0;
        self.lan.host.enter(run)
    }

    fn answer(&self, client: u32, proto: u8, flags: u8) -> u32 {
        let frame = frame(proto, flags, (SERVER, 80), (address(client), 40000));
        let run = || self.answers.run_at(self.devices[1], &frame).0;
        self.lan.host.enter(run)
    }

    fn establish(&self, client: u32) {
        assert_eq!(self.request(client, TCP, SYN), XDP_REDIRECT);
        assert_eq!(self.answer(client, TCP, SYN | ACK), XDP_REDIRECT);
        assert_eq!(self.request(client, TCP, ACK), XDP_REDIRECT);
    }

    fn converse(&self, client: u32) {
        assert_eq!(self.request(client, UDP, 0), XDP_REDIRECT);
        assert_eq!(self.answer(client, UDP, 0), XDP_REDIRECT);
    }

    fn entry(&self, client: u32) -> Option<Entry> {
        let is_it = |entry: &Entry| {
            let flow = entry.any_flow();
            entry.is_request() && flow.src.0 == address(client)
        };
        self.table.entries().into_iter().find(is_it)
    }

    /// None where it is not remembered.
    fn state(&self, client: u32) -> Option<u8> {
        self.entry(client).map(|entry| entry.state())
    }

    fn age(&self, client: u32, seconds: u64) {
        let entry = self.entry(client).expect("it is remembered");
        self.table.age(entry, Duration::from_secs(seconds));
    }
}

fn address(client: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xc0a8_0000 + client)
}

fn frame(proto: u8, flags: u8, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Vec<u8> {
    let frame = Frame {
        src: src.0,
        sport: src.1,
        dst: dst.0,
        dport: dst.1,
        proto,
        ..Frame::default()
    };
    let mut bytes = frame.bytes();
    // As Ethernet pads it. A shorter one takes another path through the program.
    bytes.resize(bytes.len().max(60), 0);
    if proto == TCP {
        bytes[14 + 20 + 13] = flags;
    }
    bytes
}

#[test]
fn a_flood_of_new_connections_ends_none_that_is_established() {
    let bed = Bed::new(1); // of 8 connections
    for client in 0..6 {
        bed.establish(client);
    }
    for client in 100..1100 {
        assert_eq!(bed.request(client, TCP, SYN), XDP_REDIRECT);
    }
    for client in 0..6 {
        assert_eq!(bed.state(client), Some(ESTABLISHED));
        assert_eq!(bed.request(client, TCP, ACK), XDP_REDIRECT);
    }
    assert_eq!(bed.state(1099), Some(OPENING));
    bed.table.check();
    assert_eq!(bed.table.stats(), [1006, 0, 998, 0]);
}

#[test]
fn where_all_are_established_a_new_one_is_refused() {
    let bed = Bed::new(1);
    for client in 0..8 {
        bed.establish(client);
    }
    assert_eq!(bed.request(8, TCP, SYN), XDP_DROP);
    assert_eq!(bed.request(8, UDP, 0), XDP_DROP);
    assert_eq!(bed.table.stats(), [8, 0, 0, 2]);
    // One that is half closed stays, one that is closed goes.
    bed.request(0, TCP, FIN | ACK);
    assert_eq!(bed.state(0), Some(FIN_REQUEST));
    assert_eq!(bed.request(8, TCP, SYN), XDP_DROP);
    bed.answer(0, TCP, FIN | ACK);
    assert_eq!(bed.state(0), Some(CLOSED));
    assert_eq!(bed.request(8, TCP, SYN), XDP_REDIRECT);
    assert_eq!(bed.state(0), None);
    assert_eq!(bed.table.stats(), [9, 0, 1, 3]);
    bed.table.check();
}

#[test]
fn one_way_flows_go_before_conversations_and_the_oldest_goes_first() {
    let bed = Bed::new(1);
    bed.converse(0);
    bed.age(0, 100);
    for client in 1..8 {
        bed.request(client, UDP, 0);
    }
    bed.age(3, 60);
    bed.request(8, UDP, 0);
    assert_eq!(bed.state(3), None, "it was seen longest ago");
    assert_eq!(bed.state(0), Some(BOTH_WAYS), "it goes both ways");
    for client in [1, 2, 4, 5, 6, 7, 8] {
        bed.converse(client);
    }
    bed.request(9, UDP, 0);
    assert_eq!(bed.state(0), None, "all go both ways");
    assert_eq!(bed.state(9), Some(ONE_WAY));
    bed.table.check();
    assert_eq!(bed.table.stats(), [10, 0, 2, 0]);
}

#[test]
fn one_whose_time_is_over_goes_first_even_if_it_is_established() {
    let bed = Bed::new(1);
    bed.establish(0);
    for client in 1..8 {
        bed.request(client, TCP, SYN);
    }
    bed.age(0, 7441);
    bed.request(8, TCP, SYN);
    assert_eq!(bed.state(0), None);
    assert_eq!(bed.table.stats(), [9, 1, 0, 0]);
}

/// The protocol; who sends what after the first packet: an answer or a request, with which flags; the
/// state after that, and its time.
type Lifetime = (u8, &'static [(bool, u8)], u8, u64);

#[test]
fn time_is_over_when_the_documents_say_so() {
    let bed = Bed::new(64);
    let cases: [Lifetime; 9] = [
        (UDP, &[], ONE_WAY, 120),
        (UDP, &[(true, 0)], BOTH_WAYS, 300),
        (TCP, &[], OPENING, 240),
        (TCP, &[(true, SYN | ACK)], ANSWERED, 240),
        // Servers drop what acknowledges nothing in silence.
        (TCP, &[(true, SYN | ACK), (false, 0)], ANSWERED, 240),
        (TCP, &[(true, SYN | ACK), (false, FIN)], ANSWERED, 240),
        (TCP, &[(true, ACK)], ESTABLISHED, 7440),
        (TCP, &[(true, ACK), (false, FIN), (true, FIN)], CLOSED, 240),
        (TCP, &[(true, RST)], RESET, 10),
    ];
    for (client, (proto, packets, state, seconds)) in cases.into_iter().enumerate() {
        let client = client as u32;
        bed.request(client, proto, SYN);
        for (is_answer, flags) in packets {
            match is_answer {
                true => bed.answer(client, proto, *flags),
                false => bed.request(client, proto, *flags),
            };
        }
        assert_eq!(bed.state(client), Some(state));
        // Two seconds, because they are rounded.
        bed.age(client, seconds - 2);
        let id = bed.entry(client).unwrap().id();
        bed.answer(client, proto, ACK);
        assert_eq!(bed.entry(client).map(|e| e.id()), Some(id), "{state}");
        let state = bed.state(client).unwrap();
        let seconds = if state == ESTABLISHED { 7440 } else { seconds };
        let seconds = if state == BOTH_WAYS { 300 } else { seconds };
        bed.age(client, seconds + 2);
        bed.answer(client, proto, ACK);
        assert_eq!(bed.state(client), None, "{state}");
    }
    assert_eq!(bed.table.stats()[1], 9);
}

/// Most stand where their hash says. In a bucket that is full, many stand elsewhere.
#[test]
fn each_packet_is_counted_once_wherever_its_entry_stands() {
    let bed = Bed::new(1);
    for turn in 1..=3 {
        for client in 0..8 {
            bed.converse(client);
        }
        let entries = bed.table.entries();
        assert_eq!(entries.len(), 16);
        for entry in entries {
            assert_eq!(entry.counted().0, turn, "{entry:?}");
        }
    }
}

/// As the command leaves it where it is killed between the two entries of a connection.
#[test]
fn half_a_connection_ends_when_its_clock_is_looked_at() {
    let bed = Bed::new(64);
    bed.converse(0);
    let request = bed.entry(0).expect("it is remembered");
    let answer = bed.table.entry(request.peer());
    bed.table.remove_only(&request);
    bed.table.age(answer, Duration::ZERO);
    assert_eq!(bed.answer(0, UDP, 0), XDP_PASS);
    assert_eq!(bed.table.entries().len(), 0);
}

#[test]
fn a_client_may_use_its_port_again() {
    let bed = Bed::new(64);
    for reset in [false, true] {
        bed.establish(0);
        bed.request(0, TCP, if reset { RST } else { FIN });
        bed.answer(0, TCP, FIN);
        let id = bed.entry(0).unwrap().id();
        // What is still on its way changes nothing.
        bed.request(0, TCP, ACK);
        assert_eq!(bed.entry(0).unwrap().id(), id);
        bed.request(0, TCP, SYN);
        assert_eq!(bed.state(0), Some(OPENING));
        assert_ne!(bed.entry(0).unwrap().id(), id);
    }
    bed.table.check();
}

#[test]
fn a_flow_that_would_be_its_own_answer_leaves_from_another_port() {
    let bed = Bed::new(64);
    bed.lan.add_backend(
        0,
        &format!("--dst {SERVER} --proto udp --port 80 --reply nat"),
    );
    let frame = frame(UDP, 0, (SERVER, 80), (SERVER, 80));
    let run = || bed.requests.run_at(bed.devices[0], &frame).0;
    assert_eq!(bed.lan.host.enter(run), XDP_REDIRECT);
    bed.table.check();
    let entries = bed.table.entries();
    let request = entries.iter().find(|entry| entry.is_request());
    assert!(request.expect("it is remembered").port().is_some());
}

#[test]
fn two_cpus_that_begin_the_same_flows_begin_each_once() {
    begin_on_two_cpus(&Bed::new(1024));
}

/// Both choose the same source port.
#[test]
fn two_cpus_that_begin_the_same_flows_begin_each_once_with_another_source_too() {
    let bed = Bed::new(1024);
    let snat = "--snat 172.17.0.1 --reply nat";
    bed.lan
        .add_backend(0, &format!("--dst {VIP} --proto udp --port 80 {snat}"));
    begin_on_two_cpus(&bed);
}

fn begin_on_two_cpus(bed: &Bed) {
    const FLOWS: u32 = 3000;
    let start = Barrier::new(2);
    let mut total = 0;
    for turn in 0..4u32 {
        let start = &start;
        let begin = move |cpu: usize| {
            let mut only = nix::sched::CpuSet::new();
            only.set(cpu).unwrap();
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &only).unwrap();
            let mut lost = 0;
            for client in 0..FLOWS {
                let frame = frame(UDP, 0, (address(client), 40000 + turn as u16), (VIP, 80));
                if client % 100 == 0 {
                    start.wait();
                }
                let (verdict, _) = bed.requests.run_at(bed.devices[0], &frame);
                // After the last barrier, or the other would wait for ever.
                lost += u32::from(verdict != XDP_REDIRECT);
            }
            lost
        };
        let lost = bed.lan.host.enter(|| {
            thread::scope(|scope| {
                let both = [0, 1].map(|cpu| scope.spawn(move || begin(cpu)));
                both.map(|one| one.join().expect("it ends"))
            })
        });
        // The kernel may stop a thread of a test, though no softirq, while it has a lock.
        let [new, expired, evicted, refused] = bed.table.stats();
        total += lost.iter().sum::<u32>();
        assert_eq!(
            [new, refused],
            [u64::from(FLOWS * (turn + 1)), total.into()]
        );
        assert_eq!([expired, evicted], [0, 0]);
        bed.table.check();
        assert_eq!(bed.table.entries().len() as u32, 2 * FLOWS);
        let counted = bed
            .table
            .entries()
            .iter()
            .map(|e| e.counted().0)
            .sum::<u64>();
        assert!(counted <= 2 * u64::from(FLOWS));
        bed.table.clear();
    }
}
