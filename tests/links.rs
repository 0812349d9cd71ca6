//! New flows go past backends whose link is down: real datagrams, each flow of its own, over real devices.

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use crate::fixture::lan::{ANYWHERE, Lan, socket};
use crate::fixture::tap::Tap;
use crate::fixture::{self, Ns, Tool, eventually};

const MODES: [&str; 2] = ["native", "skb"];
const FLOWS: usize = 48;
/// The program looks at links once in a tick of the kernel's clock, which takes 10 ms at most.
const TICKS: Duration = Duration::from_millis(30);

/// A VM with many flows, and servers behind one rule.
struct Bed {
    lan: Lan,
    flows: Vec<UdpSocket>,
    servers: Vec<UdpSocket>,
}

impl Bed {
    /// Nothing is attached yet.
    fn new(servers: usize) -> Self {
        let lan = Lan::new(false, servers);
        // No datagram waits for the neighbour.
        let gateway = fixture::lan::mac(&lan.host, "lan");
        lan.vm.ip(&format!(
            "neigh replace 192.168.122.1 lladdr {gateway} dev eth0 nud permanent"
        ));
        let flow = |number: usize| {
            let port = 30_000 + 11 * number * number;
            socket(&lan.vm, &format!("192.168.122.10:{port}"))
        };
        let flows = (0..FLOWS).map(flow).collect();
        let sockets = (0..servers).map(|number| lan.server_socket(number));
        let servers: Vec<_> = sockets.collect();
        for server in &servers {
            server.set_nonblocking(true).expect("a flag");
        }
        Bed {
            lan,
            flows,
            servers,
        }
    }

    /// With a backend for each server.
    fn attached(servers: usize, words: &str) -> Self {
        let bed = Bed::new(servers);
        bed.tool().ok(&format!("attach lan {words}"));
        (0..servers).for_each(|number| bed.lan.add_backend(number, ""));
        bed
    }

    fn tool(&self) -> Tool<'_> {
        self.lan.tool()
    }

    /// Sends a datagram of each flow.
    fn send(&self) {
        for (number, flow) in self.flows.iter().enumerate() {
            flow.send_to(&[number as u8], ANYWHERE).expect("it is sent");
        }
    }

    /// The server that each flow is at.
    #[track_caller]
    fn places(&self) -> Vec<usize> {
        self.send();
        let mut places = vec![None; FLOWS];
        eventually("every flow arrives", || {
            for (server, socket) in self.servers.iter().enumerate() {
                let mut number = [0];
                while socket.recv(&mut number).is_ok() {
                    places[usize::from(number[0])] = Some(server);
                }
            }
            places.iter().all(Option::is_some)
        });
        places.into_iter().flatten().collect()
    }

    #[track_caller]
    fn all_are_at(&self, server: usize) {
        assert_eq!(self.places(), [server; FLOWS]);
    }
}

fn set(ns: &Ns, device: &str, state: &str) {
    ns.ip(&format!("link set {device} {state}"));
    sleep(TICKS);
}

#[test]
fn new_flows_go_past_a_backend_whose_link_is_down_at_either_end_and_come_back() {
    for mode in MODES {
        let bed = Bed::attached(3, &format!("--mode {mode}"));
        let before = bed.places();
        assert!((0..3).all(|server| before.contains(&server)), "{before:?}");
        for (ns, device) in [(&bed.lan.host, "wan0"), (&bed.lan.servers[0], "eth0")] {
            set(ns, device, "down");
            let now = bed.places();
            assert!(!now.contains(&0), "{mode} {device}: {now:?}");
            let moves = before.iter().zip(&now);
            let (moved, stayed): (Vec<_>, Vec<_>) = moves.partition(|(before, _)| **before == 0);
            assert!(stayed.iter().all(|(before, now)| before == now), "{mode}");
            // Each of the others takes some of them.
            assert!(
                [1, 2].map(|at| moved.iter().any(|(_, now)| **now == at)) == [true; 2],
                "{moved:?}"
            );
            set(ns, device, "up");
            assert_eq!(bed.places(), before, "{mode} {device}");
        }
        // Nothing was lost.
        let rows = bed.tool().json("stats")["rules"].clone();
        for row in rows.as_array().expect("rows") {
            assert_eq!(row["delivered"], row["forward_packages"], "{row}");
        }
    }
}

#[test]
fn a_tap_takes_flows_while_somebody_reads_from_it() {
    for mode in MODES {
        let bed = Bed::new(1);
        let host = &bed.lan.host;
        host.ip("tuntap add tap0 mode tap");
        set(host, "tap0", "up");
        bed.tool().ok(&format!("attach lan --mode {mode}"));
        bed.lan.add_backend(0, "");
        bed.tool()
            .ok("rule add --server 172.17.0.9 --mac 02:42:ac:11:00:09 --dev tap0");
        // It had no carrier when the program was attached.
        bed.all_are_at(0);
        let mut tap = Tap::new(host, "tap0", false);
        sleep(TICKS);
        bed.send();
        let served = |frame: Vec<u8>| frame[..6] == [2, 0x42, 0xac, 0x11, 0, 9];
        assert!(std::iter::from_fn(|| tap.read()).any(served), "{mode}");
        drop(tap);
        sleep(TICKS);
        // What is on its way from before.
        while bed.servers[0].recv(&mut [0]).is_ok() {}
        bed.all_are_at(0);
    }
}

/// As if nobody skipped any: the kernel loses them, and the ledger says where.
#[test]
fn where_all_links_are_down_flows_stay_where_they_are_and_are_counted_as_lost() {
    for mode in MODES {
        let bed = Bed::attached(2, &format!("--mode {mode}"));
        let before = bed.places();
        let at = |server| before.iter().filter(|place| **place == server).count() as u64;
        let host = &bed.lan.host;
        let set_both = |state| {
            let devices = ["wan0", "wan1"].into_iter();
            devices.for_each(|device| set(host, device, state));
        };
        set_both("down");
        bed.send();
        eventually("all are counted", || {
            let rows = bed.tool().json("stats")["rules"].clone();
            let mut rows = rows.as_array().expect("rows").iter();
            rows.all(|row| {
                let server = usize::from(row["server"] == "172.17.0.3");
                let lost = &row["failures"]["link_down"];
                row["forward_packages"] == 2 * at(server) && *lost == at(server)
            })
        });
        set_both("up");
        assert_eq!(bed.places(), before, "{mode}");
    }
}

#[test]
fn a_device_that_is_gone_is_worse_than_one_without_a_link() {
    for mode in MODES {
        let bed = Bed::attached(3, &format!("--mode {mode}"));
        let host = &bed.lan.host;
        host.ip("link del wan0");
        set(host, "wan1", "down");
        bed.all_are_at(2);
        set(host, "wan2", "down");
        bed.send();
        // Nothing passes to the host: the kernel loses them all.
        eventually("all are counted", || {
            let stats = bed.tool().json("stats");
            let outcomes = &stats["interfaces"][0]["outcomes"];
            assert_eq!(outcomes["no_device"]["packets"], 0);
            outcomes["redirected"]["packets"] == 2 * FLOWS
        });
        set(host, "wan1", "up");
        bed.all_are_at(1);
    }
}

#[test]
fn each_network_namespace_has_links_of_its_own() {
    let beds = [0, 1].map(|_| Bed::attached(2, "--mode skb"));
    let [one, other] = &beds;
    assert_eq!(
        one.lan.host.ifindex("wan0"),
        other.lan.host.ifindex("wan0"),
        "devices with the same index"
    );
    set(&one.lan.host, "wan0", "down");
    one.all_are_at(1);
    let places = other.places();
    assert!(places.contains(&0) && places.contains(&1), "{places:?}");
}

#[test]
fn doctor_says_what_becomes_of_the_flows() {
    let bed = Bed::attached(2, "--mode skb");
    let says = |consequence: &str| {
        let found = bed.tool().run("doctor --json").json();
        let mut found = found.as_array().expect("findings").iter();
        let link = found.find(|finding| finding["check"] == "link");
        assert_eq!(link.expect("it is found")["consequence"], consequence);
    };
    set(&bed.lan.host, "wan0", "down");
    says("new flows go to other backends, and what is still redirected to it is lost");
    set(&bed.lan.host, "wan1", "down");
    says("what is redirected to it is lost");
}
