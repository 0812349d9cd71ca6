//! Bridges that carry packets past the program.

use super::bed::{Bed, CLIENT, SERVER, no_datagrams_together, send};
use crate::fixture::lan::{Lan, mac, receive, socket};
use crate::fixture::{Ns, guest};

#[test]
fn a_bridge_that_sends_replies_past_the_client_is_a_warning() {
    let lan = Lan::new(true, 1);
    let bed = Bed::of(lan);
    bed.host().ip("addr add 172.17.0.1/16 dev wan0");
    bed.host().sysctl("net/ipv4/ip_forward", "1");
    bed.server().ip("route add default via 172.17.0.1");
    let other = Ns::new("other");
    bed.host().veth("lan2", &other, "eth0");
    bed.host().ip("link set lan2 master virbr0");
    bed.tool().ok("attach lan");
    bed.tool()
        .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
    let (from, to) = (bed.lan.vm_socket(), bed.lan.server_socket(0));
    from.set_read_timeout(Some(guest::patience(500))).unwrap();
    let answered = || {
        send(&from);
        let (_, client) = receive(&to);
        to.send_to(b"answer", client).expect("it is sent");
        from.recv(&mut [0; 64]).is_ok()
    };
    assert!(answered());
    bed.finds_nothing();
    let vm = mac(&bed.lan.vm, "eth0");
    bed.host()
        .exec(&format!("bridge fdb replace {vm} dev lan2 master static"));
    assert!(!answered());
    bed.finds("bridge-entry", "warning", &["virbr0", &vm, "lan2"]);
}

#[test]
fn a_bridge_that_switches_past_the_program_is_a_warning() {
    let lan = Lan::new(true, 1);
    let bed = Bed::of(lan);
    bed.host().ip("link set wan0 master virbr0");
    bed.server().ip("addr flush dev eth0");
    bed.server().ip("addr add 192.168.122.20/24 dev eth0");
    bed.tool().ok("attach virbr0");
    bed.tool().ok("rule add --server 192.168.122.20");
    bed.finds("bridge", "warning", &["wan0", "its ports"]);
    bed.host().ip("link set virbr0 promisc on");
    bed.finds_nothing();
}

#[test]
fn a_bridge_whose_clients_ports_are_attached_too_is_none() {
    let lan = Lan::new(true, 1);
    let bed = Bed::of(lan);
    bed.host().ip("link set wan0 master virbr0");
    bed.server().ip("addr flush dev eth0");
    bed.server().ip("addr add 192.168.122.20/24 dev eth0");
    bed.tool().ok("attach lan");
    bed.tool().ok("rule add --server 192.168.122.20");
    // It is attached later, and looks at all that are.
    assert_eq!(bed.tool().ok("attach virbr0").err, "");
    bed.finds_nothing();

    let (other, at) = (Ns::new("other"), "192.168.122.11");
    bed.host().veth("lan2", &other, "eth0");
    bed.host().ip("link set lan2 master virbr0");
    other.ip(&format!("addr add {at}/24 dev eth0"));
    no_datagrams_together(&other);
    // What goes to the server itself is switched from port to port.
    let to = socket(bed.server(), "0.0.0.0:7999");
    let forwarded = || bed.backend()["forward_packages"].as_u64().unwrap();
    let switch = |client: &Ns| {
        let from = socket(client, "0.0.0.0:0");
        from.send_to(b"hello", "192.168.122.20:7999")
            .expect("it is sent");
        receive(&to);
    };
    switch(&bed.lan.vm);
    assert_eq!(forwarded(), 1);
    switch(&other);
    assert_eq!(forwarded(), 1);
    bed.finds("bridge", "warning", &["wan0", "lan2"]);
    bed.tool().ok("detach virbr0 --keep-rules");
    bed.tool().ok("attach lan2 virbr0");
    switch(&other);
    assert_eq!(forwarded(), 2);
    bed.finds_nothing();
}
