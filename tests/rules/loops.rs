//! Hosts that redirect to each other: the TTL ends what would go round for ever. Needs root.

use crate::fixture::lan::{mac, receive, socket};
use crate::fixture::{Ns, Pins, Tool};

/// A packet with that many hops to go makes one redirect less.
const HOPS: u64 = 255;

/// `left0` is in one namespace, its peer `right0` in the other, and each redirects to the other.
struct Bed {
    hosts: [Ns; 2],
    pins: [Pins; 2],
}

const DEVICES: [&str; 2] = ["left0", "right0"];
/// The addresses of both.
const FAMILIES: [[&str; 2]; 2] = [["10.0.0.1", "10.0.0.2"], ["fd00::1", "fd00::2"]];
/// For each family, any address and one that nobody has, with ports.
const TARGETS: [[&str; 2]; 2] = [
    ["0.0.0.0:7999", "11.22.33.44:7999"],
    ["[::]:7999", "[2001:db8::44]:7999"],
];

impl Bed {
    fn new(modes: [&str; 2]) -> Self {
        let bed = Bed {
            hosts: ["left", "right"].map(Ns::dual_stack),
            pins: [Pins::new(), Pins::new()],
        };
        let [left, right] = &bed.hosts;
        left.veth(DEVICES[0], right, DEVICES[1]);
        for (here, mode) in modes.into_iter().enumerate() {
            bed.prepare(here, mode);
        }
        bed
    }

    fn prepare(&self, here: usize, mode: &str) {
        let (there, host, device) = (1 - here, &self.hosts[here], DEVICES[here]);
        host.sysctl("net/ipv4/ip_default_ttl", &HOPS.to_string());
        host.sysctl(
            &format!("net/ipv6/conf/{device}/hop_limit"),
            &HOPS.to_string(),
        );
        // A native program redirects to a veth whose peer has GRO or a native program, too.
        host.exec(&format!("ethtool -K {device} gro on"));
        let tool = self.tool(here);
        tool.ok(&format!("attach {device} --mode {mode}"));
        let mac = mac(&self.hosts[there], DEVICES[there]);
        for (addrs, len) in FAMILIES.iter().zip([24, 64]) {
            host.ip(&format!("addr add {}/{len} dev {device}", addrs[here]));
            let next = addrs[there];
            host.ip(&format!("neigh add {next} lladdr {mac} dev {device}"));
            host.ip(&format!("route add default via {next} dev {device}"));
            tool.ok(&format!(
                "rule add --server {next} --mac {mac} --dev {device}"
            ));
        }
    }

    fn tool(&self, here: usize) -> Tool<'_> {
        Tool {
            ns: &self.hosts[here],
            pins: &self.pins[here],
        }
    }

    /// Of both hosts.
    fn packets(&self, outcome: &str) -> u64 {
        let of = |here| {
            let stats = self.tool(here).json("stats");
            let packets = &stats["interfaces"][0]["outcomes"][outcome]["packets"];
            packets.as_u64().expect("a number")
        };
        of(0) + of(1)
    }
}

#[test]
fn a_packet_between_hosts_that_redirect_to_each_other_ends() {
    for modes in [["native", "native"], ["skb", "skb"], ["native", "skb"]] {
        let bed = Bed::new(modes);
        let mut sent = 0;
        for [any, nobody] in TARGETS {
            // The last redirect is the right host's, for the number of them is even.
            let end = socket(&bed.hosts[0], any);
            let from = socket(&bed.hosts[1], &any.replace("7999", "0"));
            from.send_to(b"round", nobody).expect("it is sent");
            assert_eq!(receive(&end).0, "round", "{modes:?}");
            sent += 1;
            assert_eq!(bed.packets("redirected"), sent * (HOPS - 1), "{modes:?}");
            assert_eq!(bed.packets("ttl_exceeded"), sent, "{modes:?}");
        }
    }
}
