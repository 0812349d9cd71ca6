//! `rule add` finds the way to an IPv6 server: route, neighbour, bridge port. Needs root.

use crate::fixture::{Ns, Pins, Run, Tool};

const SERVER_MAC: &str = "02:42:ac:11:00:02";

/// `server eth0 -- wan docker0 host`: the host knows nothing of the server yet.
struct Bed {
    host: Ns,
    server: Ns,
    pins: Pins,
}

impl Bed {
    fn new() -> Bed {
        let bed = Bed {
            host: Ns::dual_stack("host"),
            server: Ns::dual_stack("server"),
            pins: Pins::new(),
        };
        bed.host.veth("lan", &bed.server, "unused");
        bed.host.ip("link add docker0 type bridge");
        bed.host.ip("link add wan type veth peer name eth0");
        bed.host.ip("link set wan master docker0 up");
        bed.host.ip("link set docker0 up");
        bed.host.ip("addr add fd00:17::1/64 dev docker0");
        bed.host.ip("addr add 172.17.0.1/16 dev docker0");
        let namespace = &bed.server.name;
        bed.host.ip(&format!(
            "link set eth0 address {SERVER_MAC} netns {namespace}"
        ));
        bed.server.ip("link set eth0 up");
        bed.server.ip("addr add fd00:17::2/64 dev eth0");
        bed.tool().ok("attach lan --mode skb");
        bed
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.host,
            pins: &self.pins,
        }
    }

    fn add(&self, words: &str) -> Run {
        self.tool().run(&format!("rule add {words} --json"))
    }

    #[track_caller]
    fn finds(&self, words: &str, device: &str) {
        let row = self.add(words).ok().json();
        assert_eq!(row["mac"], SERVER_MAC, "{row}");
        assert_eq!(row["ifname"], device, "{row}");
    }

    /// The server's address on its own link.
    fn link_local(&self) -> String {
        let text = self.server.ip("-6 -o addr show dev eth0 scope link");
        let address = text.split_whitespace().nth(3).expect("it has one");
        let (address, _) = address.split_once('/').expect("it has a length");
        address.to_string()
    }
}

#[test]
fn a_neighbour_that_nobody_has_asked_for_yet_is_found_behind_its_bridge_port() {
    Bed::new().finds("--server fd00:17::2", "wan");
}

#[test]
fn a_server_behind_a_link_local_gateway_gets_the_gateways_mac() {
    let bed = Bed::new();
    let gateway = bed.link_local();
    let via = format!("route add fd00:99::/64 via {gateway} dev docker0");
    bed.host.ip(&via);
    bed.finds("--server fd00:99::9", "wan");
}

#[test]
fn an_ipv4_server_behind_an_ipv6_gateway_gets_the_gateways_mac() {
    let bed = Bed::new();
    let gateway = bed.link_local();
    let via = format!("-4 route add 10.9.0.0/16 via inet6 {gateway} dev docker0");
    bed.host.ip(&via);
    bed.finds("--server 10.9.0.9", "wan");
}

#[test]
fn a_link_local_server_is_found_on_the_device_that_is_given() {
    let bed = Bed::new();
    let server = bed.link_local();
    bed.finds(&format!("--server {server} --dev wan"), "wan");
    // On another device it is another address, which nobody has.
    bed.add(&format!("--server {server} --port 1 --dev lan"))
        .fails(3, &[&server, "doesn't answer on lan", "--mac"]);
}

#[test]
fn a_link_local_server_without_a_device_is_refused() {
    let bed = Bed::new();
    bed.add("--server fe80::2").fails(2, &["fe80::2", "--dev"]);
}

#[test]
fn a_server_that_cannot_be_reached_is_named_with_the_remedy() {
    let bed = Bed::new();
    bed.add("--server fd00:17::77")
        .fails(3, &["fd00:17::77", "doesn't answer on docker0", "--mac"]);
    bed.add("--server fd00:98::1")
        .fails(3, &["fd00:98::1", "no route", "--dev"]);
    bed.add("--server fd00:17::1")
        .fails(2, &["fd00:17::1", "an address of this host"]);
}
