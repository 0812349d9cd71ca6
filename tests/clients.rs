//! Clients and servers as people use them: `dig` with dnsmasq, a TCP conversation by socat. Needs
//! root and the Debian packages bind9-dnsutils, dnsmasq-base and socat.

use std::fs;
use std::process::Output;

use crate::fixture::guest;
use crate::fixture::program::{Server, dns_server, program, snmp};
use crate::fixture::routed::{Between, Family, Routed, V4, V6};

/// The program is attached where requests arrive, and nowhere else.
fn bed(mode: &str) -> Routed {
    let bed = Routed::new(Between::Veth);
    if mode == "native" {
        // A veth takes natively redirected frames only if its peer polls.
        bed.server.exec("ethtool -K eth0 gro on");
    } else if mode == "skb" {
        // In generic mode a large segment would be one frame that no device carries.
        bed.client.exec("ethtool -K eth0 tso off gso off");
    }
    bed.tool().ok(&format!("attach lan --mode {mode}"));
    bed
}

/// The answer would come from another address than was asked, if it came: what counts is that the
/// query arrives.
fn dig(bed: &Routed, family: &Family, words: &str) -> Output {
    let dig = format!("dig -r @{} +tries=1 +time=1 {words}", family.elsewhere);
    program(&bed.client, &dig).output().expect("dig can be run")
}

fn queries_reach_the_dns_server(family: &Family) {
    for mode in guest::modes() {
        let bed = bed(mode);
        let mut server = dns_server(&bed.server);
        let rule = format!("rule add --port 53 --server {}", family.server);
        bed.tool().ok(&rule);
        for (kind, name) in [
            ("A", "hello.example"),
            ("AAAA", "a-much-longer-name-of-an-odd-length.hello.example"),
            ("TXT", "x.example"),
        ] {
            dig(&bed, family, &format!("{name} {kind}"));
            server.await_words(&format!("query[{kind}] {name} from {}", family.client));
        }
        assert_eq!(bed.forwarded(), 3, "{mode}");
    }
}

#[test]
fn a_dns_query_to_an_address_that_nobody_has_reaches_the_dns_server() {
    queries_reach_the_dns_server(&V4);
}

#[test]
fn a_dns_query_over_ipv6_to_an_address_that_nobody_has_reaches_the_dns_server() {
    queries_reach_the_dns_server(&V6);
}

/// Some megabytes that don't repeat at any power of two.
fn data() -> Vec<u8> {
    (0..5_000_001u32)
        .map(|i| ((i % 65_521 * 31) >> 5) as u8)
        .collect()
}

fn a_tcp_conversation_is_whole(family: &Family) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("data");
    fs::write(&file, data()).expect("a file can be written");
    for mode in guest::modes() {
        let bed = bed(mode);
        let elsewhere = family.elsewhere;
        let own = format!("addr add {elsewhere}/{} dev lo", family.host_length);
        bed.server.ip(&own);
        let server = family.server;
        let rule = format!("rule add --proto tcp --port 7000 --server {server} --keep-ip");
        bed.tool().ok(&rule);

        // It sends back what it gets, on any of the server's addresses.
        let listen = "socat -t 30 TCP6-LISTEN:7000,ipv6only=0,reuseaddr,fork EXEC:cat";
        let _echo = Server::listening(&bed.server, listen, "tcp", 7000);
        // After the end of its input the client waits for the rest of the answer.
        let to = family.url(elsewhere, 7000);
        let socat = format!("socat -t 30 STDIO TCP:{to},connect-timeout=10");
        let from = fs::File::open(&file).expect("the file is there");
        let output = program(&bed.client, &socat)
            .stdin(from)
            .output()
            .expect("socat can be run");
        assert!(output.status.success(), "{mode}: {output:?}");
        assert!(output.stdout == data(), "{mode}: other bytes came back");
        assert_eq!(snmp(&bed.server, "Tcp", "InCsumErrors"), 0, "{mode}");
        assert_eq!(snmp(&bed.client, "Tcp", "InCsumErrors"), 0, "{mode}");
        // A full segment has fewer than 1,500 bytes; at the tc hook, one frame has many.
        let largest = if mode == "tc" { 65_536 } else { 1500 };
        let least = data().len() as u64 / largest;
        assert!(bed.forwarded() > least, "{mode}: {}", bed.forwarded());
    }
}

#[test]
fn a_tcp_conversation_with_a_server_that_has_the_address_is_whole() {
    a_tcp_conversation_is_whole(&V4);
}

#[test]
fn a_tcp_conversation_over_ipv6_with_a_server_that_has_the_address_is_whole() {
    a_tcp_conversation_is_whole(&V6);
}
