//! Network cards, and devices above them: attach, delivery, doctor. Only the guests of `make kernels`
//! have them (scripts/kernels/nics).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::fixture::lan::{ANYWHERE, mac, socket};
use crate::fixture::routed::{Between, Routed, V4, V6};
use crate::fixture::{self, Ns, Pins, Tool, command, guest};
use serde_json::Value;

/// The last byte of a card's MAC address, which scripts/kernels/nics gives.
const CLIENT: u8 = 0x10;
const VIRTIO: u8 = 0x20;
const FOUR_QUEUES: u8 = 0x21;
const PLAIN: u8 = 0x22;
/// Cards, their drivers, and whether these run XDP natively.
const CARDS: [(u8, &str, bool); 6] = [
    (VIRTIO, "virtio_net", true),
    (FOUR_QUEUES, "virtio_net", true),
    (PLAIN, "virtio_net", true),
    (0x23, "vmxnet3", false),
    (0x24, "igb", true),
    (0x25, "e1000e", false),
];
const LENGTHS: [usize; 6] = [0, 1, 18, 100, 1000, 1400];
const SERVER: &str = "172.17.0.2";
const SOME_PORT: &str = "11.22.33.44:8080";

/// `client nic -- bridge outside the guest -- nic host wan0 -- eth0 server`
struct Bed {
    host: Ns,
    client: Ns,
    server: Ns,
    pins: Pins,
}

/// The name of a card in the guest's own namespace, to which it comes back from one that is removed.
fn card(number: u8) -> Option<String> {
    let address = format!("52:54:00:00:00:{number:02x}");
    let give_up = Instant::now() + Duration::from_secs(20);
    while Instant::now() < give_up {
        let links: Value = serde_json::from_str(&command("ip", &["-j", "link"])).expect("JSON");
        let mut links = links.as_array().expect("links").iter();
        if let Some(link) = links.find(|link| link["address"] == *address) {
            return Some(link["ifname"].as_str().expect("a name").to_string());
        }
    }
    None
}

fn give(ns: &Ns, number: u8, name: &str) {
    let Some(there) = card(number) else {
        guest::not_applicable(&format!("this kernel has no driver for card {number:02x}"));
    };
    command("ip", &["link", "set", &there, "down"]);
    command(
        "ip",
        &["link", "set", &there, "netns", &ns.name, "name", name],
    );
    ns.ip(&format!("link set {name} up"));
}

impl Bed {
    fn new(number: u8) -> Self {
        let (host, client, server) = (Ns::new("host"), Ns::new("client"), Ns::new("server"));
        give(&client, CLIENT, "nic");
        give(&host, number, "nic");
        host.veth("wan0", &server, "eth0");
        host.ip("addr add 172.17.0.1/16 dev wan0");
        server.ip(&format!("addr add {SERVER}/16 dev eth0"));
        // For --keep-ip.
        server.ip("addr add 11.22.33.44/32 dev lo");
        server.ip("route add default via 172.17.0.1");
        server.exec("ethtool -K eth0 gro on");
        host.sysctl("net/ipv4/ip_forward", "1");
        Bed {
            host,
            client,
            server,
            pins: Pins::new(),
        }
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.host,
            pins: &self.pins,
        }
    }

    /// Addresses on the devices that the packets take, and the way from the client by them.
    fn route(&self, at_client: &str, at_host: &str) {
        self.client
            .ip(&format!("addr add 192.168.122.10/24 dev {at_client}"));
        self.host
            .ip(&format!("addr add 192.168.122.1/24 dev {at_host}"));
        self.client.ip("route add default via 192.168.122.1");
        let give_up = Instant::now() + Duration::from_secs(30);
        let ping = [
            "netns",
            "exec",
            &self.client.name,
            "busybox",
            "ping",
            "-c1",
            "-W1",
            "192.168.122.1",
        ];
        while !std::process::Command::new("ip")
            .args(ping)
            .output()
            .expect("ip runs")
            .status
            .success()
        {
            assert!(
                Instant::now() < give_up,
                "the client doesn't reach the host"
            );
        }
    }

    fn add_rules(&self) {
        let mac = mac(&self.server, "eth0");
        for words in ["", "--proto tcp --port 8080 --keep-ip"] {
            let tool = self.tool();
            tool.ok(&format!(
                "rule add --server {SERVER} --mac {mac} --dev wan0 {words}"
            ));
        }
    }

    /// Each datagram that the client sends reaches the server, whole.
    #[track_caller]
    fn delivers(&self, what: &str) {
        let (from, to) = (
            socket(&self.client, "192.168.122.10:0"),
            socket(&self.server, "0.0.0.0:7999"),
        );
        to.set_read_timeout(Some(guest::patience(1000)))
            .expect("a timeout");
        let mut heard = [0; 2048];
        for length in LENGTHS {
            let sent: Vec<u8> = (0..length).map(|i| (i * 31 + length) as u8).collect();
            from.send_to(&sent, ANYWHERE).expect("it is sent");
            let got = to.recv(&mut heard);
            assert_eq!(got.ok(), Some(length), "{what}: {length} bytes");
            assert_eq!(heard[..length], sent, "{what}");
        }
        assert_eq!(checksum_errors(&self.server), 0, "{what}");
    }

    /// TCP from the client to an address that the server has.
    #[track_caller]
    fn converses(&self, what: &str) {
        let listener = self
            .server
            .enter(|| TcpListener::bind(SOME_PORT))
            .expect("a listener");
        let data: Vec<u8> = (0..100_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let heard = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).expect("all of it");
                heard
            });
            self.client.enter(|| {
                let mut stream = TcpStream::connect(SOME_PORT).expect("a connection");
                stream.write_all(&data).expect("it is sent");
            });
            server.join().expect("the server")
        });
        assert!(
            heard == data,
            "{what}: {} of {} bytes",
            heard.len(),
            data.len()
        );
    }

    /// A driver that resets its device for a native program does so for its end, too.
    fn await_link(&self, device: &str) {
        let give_up = Instant::now() + Duration::from_secs(30);
        while !self
            .host
            .ip(&format!("link show {device}"))
            .contains("LOWER_UP")
        {
            assert!(Instant::now() < give_up, "{device} has no link");
        }
    }

    /// In this mode all arrives at the device, and doctor sees no problem.
    #[track_caller]
    fn works(&self, device: &str, mode: &str) {
        let what = format!("{device}, {mode}");
        self.await_link(device);
        let attached = self.tool().ok(&format!("attach {device} --mode {mode}"));
        assert_eq!(attached.err, "", "{what}");
        self.add_rules();
        self.delivers(&what);
        let doctor = self.tool().run("doctor");
        assert_eq!(doctor.code, 0, "{what}: {doctor:?}");
        self.tool().ok("detach --all");
    }

    /// At the tc hook, where the kernel has it, all arrives that comes by the device, and all that leaves by it.
    #[track_caller]
    fn works_at_tc(&self, device: &str, at_client: &str) {
        if !guest::is_kernel(6, 6) {
            return;
        }
        self.works(device, "tc");
        self.tool().ok(&format!("attach {device} --mode tc"));
        self.add_rules();
        self.converses(&format!("{device}, tc"));
        self.tool().ok("detach --all");

        self.tool().ok("attach wan0 --mode tc");
        self.tool().ok(&format!(
            "rule add --server 192.168.122.10 --mac {} --dev {device}",
            mac(&self.client, at_client)
        ));
        let (from, to) = (
            socket(&self.server, "172.17.0.2:0"),
            socket(&self.client, "0.0.0.0:7999"),
        );
        for length in LENGTHS {
            let sent: Vec<u8> = (0..length).map(|i| (i * 31 + length) as u8).collect();
            from.send_to(&sent, "55.66.77.88:7999").expect("it is sent");
            let mut heard = [0; 2048];
            let got = to.recv(&mut heard);
            assert_eq!(got.ok(), Some(length), "out of {device}: {length} bytes");
            assert_eq!(heard[..length], sent);
        }
        // As QUIC sends them: the device divides them, or the kernel.
        fixture::lan::send_together(&from, "55.66.77.88:7999");
        for number in 0..10 {
            let mut heard = [0; 2048];
            assert_eq!(to.recv(&mut heard).ok(), Some(1000), "out of {device}");
            assert_eq!(heard[..1000], [number; 1000]);
        }
        assert_eq!(checksum_errors(&self.client), 0, "out of {device}");
        self.tool().ok("detach --all");
    }

    #[track_caller]
    fn has_no_native_mode(&self, device: &str) {
        let refused = self.tool().run(&format!("attach {device} --mode native"));
        refused.fails(6, &[device, "native", "--mode skb"]);
        assert_eq!(self.mode_of(device), "skb");
    }

    /// What `auto` takes.
    fn mode_of(&self, device: &str) -> String {
        let attached = self.tool().json(&format!("attach {device}"));
        self.tool().ok("detach --all");
        attached[0]["mode"].as_str().expect("a mode").to_string()
    }
}

fn checksum_errors(ns: &Ns) -> u64 {
    let nstat = ns
        .enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))
        .expect("counters");
    let mut lines = nstat.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut all = names.split(' ').zip(values.split(' '));
    let (_, errors) = all
        .find(|(name, _)| *name == "InCsumErrors")
        .expect("a counter");
    errors.parse().expect("a number")
}

/// Each card by itself: `cards_0` is the first.
fn on_card(number: u8) {
    let (_, driver, native) = CARDS
        .into_iter()
        .find(|card| card.0 == number)
        .expect("a card");
    let bed = Bed::new(number);
    bed.route("nic", "nic");
    let features = bed.tool().json("features nic");
    assert_eq!(features[0]["driver"], driver);
    bed.works("nic", "skb");
    if native {
        assert_eq!(bed.mode_of("nic"), "native");
        bed.works("nic", "native");
    }
    for mode in if native {
        &["skb", "native"][..]
    } else {
        &["skb"]
    } {
        bed.tool().ok(&format!("attach nic --mode {mode}"));
        bed.add_rules();
        bed.converses(&format!("{driver}, {mode}"));
        bed.tool().ok("detach --all");
    }
    bed.works_at_tc("nic", "nic");
}

#[test]
#[ignore = "wants network cards of a guest"]
fn virtio_with_one_queue() {
    on_card(VIRTIO);
}

#[test]
#[ignore = "wants network cards of a guest"]
fn virtio_with_four_queues() {
    on_card(FOUR_QUEUES);
}

#[test]
#[ignore = "wants network cards of a guest"]
fn virtio_without_offloads() {
    on_card(PLAIN);
}

#[test]
#[ignore = "wants network cards of a guest"]
fn vmxnet3() {
    on_card(0x23);
}

#[test]
#[ignore = "wants network cards of a guest"]
fn igb() {
    on_card(0x24);
}

#[test]
#[ignore = "wants network cards of a guest"]
fn e1000e() {
    on_card(0x25);
}

/// From a container to the client: a virtio card takes redirected frames once a program is on it.
#[test]
#[ignore = "wants network cards of a guest"]
fn a_card_takes_native_frames_once_it_has_a_program() {
    let bed = Bed::new(VIRTIO);
    bed.route("nic", "nic");
    let to = socket(&bed.client, "0.0.0.0:7999");
    let from = socket(&bed.server, "172.17.0.2:0");
    let add = format!(
        "rule add --server 192.168.122.10 --mac {} --dev nic",
        mac(&bed.client, "nic")
    );
    let arrives = || {
        from.send_to(b"hello ebpf", "55.66.77.88:7999")
            .expect("it is sent");
        to.recv(&mut [0; 64]).is_ok()
    };
    bed.tool().ok("attach wan0 --mode skb");
    bed.tool().ok(&add);
    assert!(arrives(), "skb");
    bed.tool().ok("detach --all");

    bed.tool().ok("attach wan0 --mode native");
    bed.tool().ok(&add);
    assert!(!arrives(), "without a program");
    let doctor = bed.tool().run("doctor");
    assert_eq!(doctor.code, 7, "{doctor:?}");
    assert!(doctor.out.contains("nic"), "{doctor:?}");
    bed.tool().ok("attach nic --mode native");
    assert!(arrives(), "with a program");
    assert_eq!(bed.tool().run("doctor").code, 0);
}

#[test]
#[ignore = "wants network cards of a guest"]
fn a_vlan_device() {
    let bed = Bed::new(VIRTIO);
    for ns in [&bed.client, &bed.host] {
        ns.ip("link add link nic name v100 type vlan id 100");
        ns.ip("link set v100 up");
    }
    bed.route("v100", "v100");
    bed.has_no_native_mode("v100");
    bed.works("v100", "skb");
    bed.works_at_tc("v100", "v100");
}

/// The tagged frames at the card itself.
#[test]
#[ignore = "wants network cards of a guest"]
fn the_card_below_a_vlan_device() {
    let bed = Bed::new(VIRTIO);
    for ns in [&bed.client, &bed.host] {
        ns.ip("link add link nic name v100 type vlan id 100");
        ns.ip("link set v100 up");
    }
    bed.route("v100", "v100");
    let mac = mac(&bed.server, "eth0");
    for mode in guest::modes() {
        bed.tool().ok(&format!("attach nic --mode {mode}"));
        bed.tool().ok(&format!(
            "rule add --vlan 100 --pop-vlan --server {SERVER} --mac {mac} --dev wan0"
        ));
        bed.delivers(mode);
        bed.tool().ok("detach --all");
    }
}

#[test]
#[ignore = "wants network cards of a guest"]
fn a_bond() {
    let bed = Bed::new(VIRTIO);
    give(&bed.host, PLAIN, "nic2");
    bed.host
        .ip("link add bond0 type bond mode active-backup miimon 100");
    for port in ["nic", "nic2"] {
        bed.host.ip(&format!("link set {port} down"));
        bed.host.ip(&format!("link set {port} master bond0"));
    }
    bed.host.ip("link set bond0 up");
    bed.route("nic", "bond0");
    for mode in ["skb", "native"] {
        bed.works("bond0", mode);
    }
    bed.works_at_tc("bond0", "nic");
}

#[test]
#[ignore = "wants network cards of a guest"]
fn a_macvlan_device() {
    let bed = Bed::new(VIRTIO);
    bed.host
        .ip("link add link nic name mv0 type macvlan mode bridge");
    bed.host.ip("link set mv0 up");
    bed.route("nic", "mv0");
    bed.has_no_native_mode("mv0");
    bed.works("mv0", "skb");
    bed.works_at_tc("mv0", "nic");
}

#[test]
#[ignore = "wants network cards of a guest"]
fn a_vxlan_device() {
    let bed = Bed::new(VIRTIO);
    for (ns, own, other) in [
        (&bed.client, "10.8.0.2", "10.8.0.1"),
        (&bed.host, "10.8.0.1", "10.8.0.2"),
    ] {
        ns.ip(&format!("addr add {own}/24 dev nic"));
        ns.ip(&format!(
            "link add vx0 type vxlan id 42 dstport 4789 local {own} remote {other} dev nic"
        ));
        ns.ip("link set vx0 up");
    }
    bed.route("vx0", "vx0");
    bed.has_no_native_mode("vx0");
    bed.works("vx0", "skb");
    bed.works_at_tc("vx0", "vx0");
}

/// Packets that a device has sent.
fn sent_by(ns: &Ns, device: &str) -> u64 {
    let link: Value = serde_json::from_str(&ns.ip(&format!("-s -j link show {device}"))).unwrap();
    let packets = &link[0]["stats64"]["tx"]["packets"];
    packets.as_u64().expect("a number")
}

/// Like veths, but that what is redirected goes to the other end at once.
#[test]
#[ignore = "wants network cards of a guest"]
fn netkit_pairs() {
    guest::needs_kernel(6, 7, "netkit");
    let bed = Routed::new(Between::Netkit);
    bed.tool().ok("attach lan --mode tc");
    for family in [V4, V6] {
        bed.tool().ok(&format!(
            "rule add --dst {} --proto tcp --port 80 --reply nat --server {} --to-port 8080",
            family.elsewhere, family.server
        ));
        bed.sends_there_and_back(&family, 1 << 20); // and neighbours know each other
        let before = ["lan", "wan"].map(|device| sent_by(&bed.host, device));
        bed.sends_there_and_back(&family, 8 << 20);
        let now = ["lan", "wan"].map(|device| sent_by(&bed.host, device));
        for (before, now) in before.iter().zip(now) {
            assert!(now - before < 20, "{} went by the queue", now - before);
        }
    }
    assert!(bed.counted_at("lan", "redirected").1 > 8 << 20);
    assert!(bed.counted_at("wan", "answered").1 > 8 << 20);
    let doctor = bed.tool().run("doctor");
    assert_eq!(doctor.code, 0, "{doctor:?}");
}

#[test]
#[ignore = "wants network cards of a guest"]
fn a_wireguard_device_is_refused() {
    let bed = Bed::new(VIRTIO);
    bed.host.ip("link add wg0 type wireguard");
    bed.host.ip("link set wg0 up");
    for words in ["attach wg0", "attach wg0 --mode skb"] {
        bed.tool()
            .run(words)
            .fails(6, &["wg0", "not an Ethernet device"]);
    }
}

#[test]
#[ignore = "wants network cards of a guest"]
fn a_link_that_reorders_loses_nothing() {
    let bed = Bed::new(VIRTIO);
    bed.route("nic", "nic");
    bed.client
        .exec("tc qdisc add dev nic root netem delay 10ms 5ms reorder 50%");
    bed.tool().ok("attach nic --mode native");
    bed.add_rules();
    let (from, to): (UdpSocket, _) = (
        socket(&bed.client, "192.168.122.10:0"),
        socket(&bed.server, "0.0.0.0:7999"),
    );
    to.set_read_timeout(Some(guest::patience(1000)))
        .expect("a timeout");
    let mut left: Vec<u32> = (0..200).collect();
    left.iter().for_each(|number| {
        from.send_to(&number.to_be_bytes(), ANYWHERE)
            .expect("it is sent");
    });
    let mut heard = [0; 4];
    while !left.is_empty() {
        to.recv(&mut heard)
            .unwrap_or_else(|_| panic!("lost: {left:?}"));
        left.retain(|number| *number != u32::from_be_bytes(heard));
    }
}

/// It has native XDP, but nothing behind it.
#[test]
#[ignore = "wants network cards of a guest"]
fn a_netdevsim_device() {
    let bus = "/sys/bus/netdevsim";
    let _ = std::process::Command::new("modprobe")
        .arg("netdevsim")
        .output();
    if !std::path::Path::new(bus).exists() {
        guest::not_applicable("this kernel has no netdevsim");
    }
    std::fs::write(format!("{bus}/new_device"), "7 1").expect("a device");
    let give_up = Instant::now() + Duration::from_secs(10);
    let name = loop {
        assert!(Instant::now() < give_up, "no device came");
        let there = std::fs::read_dir(format!("{bus}/devices/netdevsim7/net"));
        if let Some(Ok(entry)) = there.ok().and_then(|mut all| all.next()) {
            break entry.file_name().into_string().expect("a name");
        }
    };
    let bed = Bed::new(VIRTIO);
    command(
        "ip",
        &[
            "link",
            "set",
            &name,
            "netns",
            &bed.host.name,
            "name",
            "sim0",
        ],
    );
    bed.host.ip("link set sim0 up");
    for mode in ["skb", "native"] {
        bed.tool().ok(&format!("attach sim0 --mode {mode}"));
        bed.tool().ok("detach --all");
    }
    std::fs::write(format!("{bus}/del_device"), "7").expect("it is removed");
}
