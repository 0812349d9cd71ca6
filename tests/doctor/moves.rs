//! A server's address that moved to another host, as with VRRP, is followed.

use std::time::{Duration, Instant};

use super::bed::findings;
use crate::fixture::lan::{ANYWHERE, Lan, mac, receive, socket};
use crate::fixture::{Ns, Tool};
use serde_json::Value;

const SERVER: &str = "172.17.0.2";
/// How long the kernel has to do what it does in no time.
const SOON: Duration = Duration::from_secs(10);

/// Two containers, the first of which is the server.
struct Bed {
    lan: Lan,
}

impl Bed {
    /// Each behind a device of its own, without a bridge.
    fn routed() -> Self {
        let lan = Lan::new(false, 2);
        lan.host.sysctl("net/ipv4/ip_forward", "1");
        lan.host.ip("addr add 172.17.0.1/16 dev wan0");
        for server in &lan.servers {
            server.ip("route add default via 172.17.0.1");
        }
        lan.vm.exec("ethtool -K eth0 tx-udp-segmentation off");
        let bed = Bed { lan };
        bed.tool().ok("attach lan --mode skb");
        bed
    }

    /// At a bridge.
    fn new() -> Self {
        let lan = Lan::new(false, 2);
        let host = &lan.host;
        host.sysctl("net/ipv4/ip_forward", "1");
        host.ip("link add docker0 type bridge");
        // A neighbour may speak up with another MAC address at once.
        host.sysctl("net/ipv4/neigh/docker0/locktime", "0");
        host.ip("link set docker0 up");
        host.ip("addr add 172.17.0.1/16 dev docker0");
        for (number, server) in lan.servers.iter().enumerate() {
            host.ip(&format!("link set wan{number} master docker0"));
            server.ip("route add default via 172.17.0.1");
        }
        lan.vm.exec("ethtool -K eth0 tx-udp-segmentation off");
        let bed = Bed { lan };
        bed.tool().ok("attach lan --mode skb");
        bed.tool().ok(&format!("rule add --server {SERVER}"));
        bed
    }

    fn tool(&self) -> Tool<'_> {
        self.lan.tool()
    }

    fn findings(&self) -> Vec<Value> {
        findings(&self.tool())
    }

    /// A fix leads to the other device, and undoing it back.
    fn is_fixed_at(&self, new: &Ns) {
        self.tool().ok("doctor --fix --yes");
        assert_eq!(self.backend()["ifname"], "wan1");
        assert_eq!(self.backend()["state"], "up");
        self.arrives_at(new);
        assert!(self.findings().is_empty(), "{:#?}", self.findings());
        self.tool().ok("doctor --undo");
        assert_eq!(self.backend()["ifname"], "wan0");
    }

    fn backend(&self) -> Value {
        self.tool().json("rule list")[0].clone()
    }

    /// Moves the server's address to the other container, which then speaks up.
    fn fail_over(&self) {
        let [old, new] = &self.lan.servers[..] else {
            panic!("two servers");
        };
        old.ip(&format!("addr del {SERVER}/16 dev eth0"));
        new.ip("addr flush dev eth0");
        new.ip(&format!("addr add {SERVER}/16 dev eth0"));
        new.ip("route add default via 172.17.0.1");
        let from = socket(new, "0.0.0.0:0");
        from.send_to(b"here", "172.17.0.1:9").expect("it is sent");
        self.learned(&mac(new, "eth0"));
    }

    /// Waits until the host has heard of a MAC address for the server.
    fn learned(&self, mac: &str) {
        let show = format!("neigh show {SERVER}");
        let deadline = Instant::now() + SOON;
        while !self.lan.host.ip(&show).contains(mac) {
            assert!(Instant::now() < deadline, "the host never hears of {mac}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn arrives_at(&self, server: &Ns) {
        let at = socket(server, "0.0.0.0:7999");
        let from = self.lan.vm_socket();
        from.send_to(b"hello ebpf", ANYWHERE).expect("it is sent");
        assert_eq!(receive(&at).0, "hello ebpf");
    }
}

#[test]
fn an_address_that_moved_is_stale_and_fixed_not_added_back() {
    let bed = Bed::new();
    let [old, new] = &bed.lan.servers[..] else {
        panic!("two servers");
    };
    bed.arrives_at(old);
    assert_eq!(bed.backend()["state"], "up");
    assert!(bed.findings().is_empty(), "{:#?}", bed.findings());

    bed.fail_over();
    assert_eq!(bed.backend()["state"], "stale_mac");
    let found = bed.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        (&found[0]["check"], &found[0]["severity"]),
        (&"mac".into(), &"problem".into())
    );
    let evidence = found[0]["evidence"].as_str().expect("a text");
    assert!(evidence.contains(&mac(new, "eth0")), "{evidence}");
    assert!(evidence.ends_with("behind wan1"), "{evidence}");
    let remedy = found[0]["mend"].as_str().expect("a text");
    assert!(
        remedy.contains("rule refresh --server 172.17.0.2`"),
        "{remedy}"
    );

    bed.is_fixed_at(new);
}

#[test]
fn a_refresh_follows_an_address_that_moved() {
    let bed = Bed::new();
    bed.fail_over();
    bed.tool().ok("rule refresh");
    assert_eq!(bed.backend()["mac"], mac(&bed.lan.servers[1], "eth0"));
    bed.arrives_at(&bed.lan.servers[1]);
}

/// The neighbour table may be what is out of date: the server itself knows its address.
#[test]
fn a_server_that_still_has_its_address_did_not_move() {
    let bed = Bed::new();
    let stale = format!("neigh replace {SERVER} lladdr 02:00:00:00:00:77 nud stale dev docker0");
    bed.lan.host.ip(&stale);
    assert_eq!(bed.backend()["state"], "up");
    assert!(bed.findings().is_empty(), "{:#?}", bed.findings());
    bed.arrives_at(&bed.lan.servers[0]);
}

/// The same MAC address at another port, as after a live migration.
#[test]
fn a_mac_address_behind_another_port_is_stale_too() {
    let bed = Bed::new();
    let [old, new] = &bed.lan.servers[..] else {
        panic!("two servers");
    };
    new.ip(&format!("link set eth0 address {}", mac(old, "eth0")));
    bed.fail_over();
    let deadline = Instant::now() + SOON;
    while bed.backend()["state"] != "stale_mac" {
        assert!(Instant::now() < deadline, "the bridge never sees it");
        std::thread::sleep(Duration::from_millis(10));
    }
    let found = bed.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["check"], "bridge-port");
    bed.tool().ok("doctor --fix --yes");
    assert_eq!(bed.backend()["ifname"], "wan1");
    assert_eq!(bed.backend()["state"], "up");
    bed.arrives_at(new);
}

#[test]
fn a_server_whose_route_leaves_by_another_device_is_stale_and_fixed() {
    let bed = Bed::routed();
    let [old, new] = &bed.lan.servers[..] else {
        panic!("two servers");
    };
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    bed.arrives_at(old);
    // It is there still.
    let by_another = format!("route replace {SERVER}/32 dev wan1 src 172.17.0.1");
    bed.lan.host.ip(&by_another);
    assert_eq!(bed.backend()["state"], "up");
    assert!(bed.findings().is_empty(), "{:#?}", bed.findings());

    old.ip(&format!("addr del {SERVER}/16 dev eth0"));
    new.ip(&format!("addr add {SERVER}/16 dev eth0"));
    assert_eq!(bed.backend()["state"], "stale_mac");
    let found = bed.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    let text = |key: &str| found[0][key].as_str().expect("a text");
    assert_eq!((text("check"), text("severity")), ("route", "problem"));
    let evidence = text("evidence");
    assert!(evidence.contains("wan0") && evidence.contains("wan1"));
    assert!(text("mend").contains("rule refresh --server 172.17.0.2`"));

    bed.is_fixed_at(new);
}

#[test]
fn a_server_behind_another_gateway_is_stale_too() {
    let bed = Bed::routed();
    let host = &bed.lan.host;
    host.ip(&format!("route add 10.99.0.0/24 via {SERVER}"));
    bed.tool().ok("rule add --server 10.99.0.5");
    assert_eq!(bed.backend()["state"], "up");
    host.ip("route replace 10.99.0.0/24 via 172.17.0.3 dev wan1 onlink");
    assert_eq!(bed.backend()["state"], "stale_mac");
    let found = bed.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["check"], "route");
    // A device that is down has no routes: what is wrong is the link.
    host.ip("link set wan0 down");
    assert_eq!(bed.backend()["state"], "link_down");
    let found = bed.findings();
    assert!(found.iter().all(|f| f["check"] != "route"), "{found:#?}");
}
