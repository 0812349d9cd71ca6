//! Questions and their answers, by clients and servers as people use them: what the client asked is
//! an address that nobody has, and the answer comes from it. Needs root and the Debian packages
//! bind9-dnsutils, busybox-static, curl, dnsmasq-base, iperf3, netcat-openbsd and openssl.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Output, Stdio};

use crate::fixture::guest::{is_kernel, kernels_at_tc, modes_and_kernels};
use crate::fixture::lan::socket;
use crate::fixture::packet::{Checksum, UDP, sum};
use crate::fixture::program::{Server, dns_server, listens, program, snmp};
use crate::fixture::routed::{Between, Family, Routed, V4, V6};
use crate::fixture::tap::Tap;
use crate::fixture::{Ns, command, eventually};
use serde_json::Value;

const FAMILIES: [Family; 2] = [V4, V6];

/// As a new user has it: only where requests arrive, and rules do the rest.
const AUTO: &str = "auto";

/// The program is attached where requests and where answers arrive.
fn bed(between: Between, mode: &str) -> Routed {
    let bed = Routed::new(between);
    if mode == "native" {
        // A veth takes natively redirected frames only if its peer polls.
        bed.client.exec("ethtool -K eth0 gro on");
        bed.next().exec("ethtool -K eth0 gro on");
    } else if mode != "tc" {
        // In generic mode a large segment would be one frame that no device carries.
        bed.client.exec("ethtool -K eth0 tso off gso off");
    }
    bed.tool().ok(&format!("attach lan --mode {mode}"));
    if mode != AUTO {
        // A bridge has no native mode; its ports have.
        let device = match (between, mode) {
            (Between::Bridge, "skb" | "tc") => "br0",
            _ => "wan",
        };
        if mode != "tc" {
            bed.server.exec("ethtool -K eth0 tso off gso off");
        }
        bed.tool().ok(&format!("attach {device} --mode {mode}"));
    }
    bed
}

/// A service of the address that nobody has, over UDP and TCP.
fn serve(bed: &Routed, family: &Family, port: u16, to_port: u16) {
    let Family {
        elsewhere, server, ..
    } = family;
    for proto in ["udp", "tcp"] {
        bed.tool().ok(&format!(
            "rule add --dst {elsewhere} --proto {proto} --port {port} --reply nat \
             --server {server} --to-port {to_port}"
        ));
    }
}

/// Runs a client with this input, which must end well.
#[track_caller]
fn client(bed: &Routed, words: &str, input: &str) -> String {
    let mut child = program(&bed.client, words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nsenter can be run");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// No answer was taken for an error, and none went to the client but through the program.
#[track_caller]
fn assert_answered(bed: &Routed, mode: &str) {
    for ns in [&bed.client, &bed.server] {
        assert_eq!(snmp(ns, "Tcp", "InCsumErrors"), 0);
        assert_eq!(snmp(ns, "Udp", "InCsumErrors"), 0);
    }
    let outcomes = ["answered", "answer_passed", "too_long"].map(|name| bed.counted(name) > 0);
    // Before 6.3, the kernel does not say what a veth takes, and the stack sends answers on; as it does those of
    // several segments.
    let redirected = mode != "native" || is_kernel(6, 3);
    let passed = match mode {
        AUTO => outcomes[1],
        _ => !redirected,
    };
    assert_eq!(outcomes, [redirected, passed, false]);
}

fn dig_is_answered(bed: &Routed, family: &Family) {
    serve(bed, family, 53, 53);
    let _server = dns_server(&bed.server);
    for (name, kind, answer) in [
        ("a.example", "A", "192.0.2.1\n"),
        (
            "a-much-longer-name-of-an-odd-length.example",
            "AAAA",
            "2001:db8::1\n",
        ),
    ] {
        for how in ["+notcp", "+tcp"] {
            let words = format!(
                "dig -r @{} +short +tries=1 +time=5 {how} {name} {kind}",
                family.elsewhere
            );
            assert_eq!(client(bed, &words, ""), answer, "{words}");
        }
    }
}

fn nc_is_answered(bed: &Routed, family: &Family) {
    serve(bed, family, 70, 7000);
    let at = family.elsewhere;
    // The server's side of each has its answer ready.
    for (proto, server, words) in [
        ("tcp", "nc -N -l 7000", format!("nc -N {at} 70")),
        ("udp", "nc -u -l 7000", format!("nc -u -W 1 {at} 70")),
    ] {
        let server = if family.host_length == 128 {
            server.replace("nc ", "nc -6 ")
        } else {
            server.to_string()
        };
        let mut nc = program(&bed.server, &server);
        let input = tempfile::tempfile().expect("a file");
        (&input).write_all(b"the answer\n").expect("a file");
        let _server = Server::run(nc.stdin(rewound(input)));
        eventually("nc listens", || listens(&bed.server, proto, 7000));
        assert_eq!(
            client(bed, &words, "a question\n"),
            "the answer\n",
            "{words}"
        );
    }
}

fn rewound(mut file: File) -> File {
    use std::io::Seek as _;
    file.rewind().expect("a file");
    file
}

fn dtls_is_answered(bed: &Routed, family: &Family) {
    serve(bed, family, 853, 4433);
    let version = if family.host_length == 32 { "-4" } else { "-6" };
    let keys = "-dtls -psk 00112233445566778899aabbccddeeff";
    let words = format!("openssl s_server {version} -accept 4433 {keys} -nocert -quiet");
    let mut openssl = program(&bed.server, &words);
    let mut server = Server::run(openssl.stdin(Stdio::piped()));
    eventually("openssl listens", || listens(&bed.server, "udp", 4433));
    let to = family.url(family.elsewhere, 853);
    let words = format!("openssl s_client {version} -connect {to} {keys} -cipher PSK");
    let said = client(bed, &words, "a question over DTLS\n");
    assert!(said.contains("DTLSv1.2"), "{said}");
    server.await_words("a question over DTLS");
}

/// A socket that is connected takes nothing from another address.
fn large_datagrams_are_answered(bed: &Routed, family: &Family) {
    serve(bed, family, 123, 9999);
    let server = socket(&bed.server, "[::]:9999");
    let any = if family.host_length == 32 {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let client = socket(&bed.client, any);
    client
        .connect((family.elsewhere, 123))
        .expect("there is a route");
    let mut buffer = vec![0; 65536];
    for (question, answer) in [
        (10, 10),
        (10, 8192),
        (8192, 10),
        (8191, 8193),
        (20_000, 30_000),
    ] {
        let [question, answer] = [(question, 3), (answer, 5)].map(|(size, step)| noise(size, step));
        client.send(&question).expect("it is sent");
        let (size, from) = server.recv_from(&mut buffer).expect("the question arrives");
        assert!(buffer[..size] == question, "another question");
        server.send_to(&answer, from).expect("it is sent");
        let size = client.recv(&mut buffer).expect("the answer arrives");
        assert!(buffer[..size] == answer, "another answer");
    }
}

/// Bytes that don't repeat at any power of two.
fn noise(size: usize, step: usize) -> Vec<u8> {
    (0..size)
        .map(|i| ((i % 65_521 * step) >> 3) as u8)
        .collect()
}

fn small_questions_are_answered(between: Between) {
    for (mode, _kernel) in modes_and_kernels().chain([(AUTO, None)]) {
        let bed = bed(between, mode);
        for family in &FAMILIES {
            dig_is_answered(&bed, family);
            nc_is_answered(&bed, family);
            dtls_is_answered(&bed, family);
            large_datagrams_are_answered(&bed, family);
        }
        assert_answered(&bed, mode);
    }
}

#[test]
fn a_container_behind_a_veth_answers() {
    small_questions_are_answered(Between::Veth);
}

#[test]
fn a_container_behind_a_bridge_answers() {
    small_questions_are_answered(Between::Bridge);
}

#[test]
fn a_host_behind_a_gateway_answers() {
    small_questions_are_answered(Between::Gateway);
}

/// As on a gateway whose services are elsewhere. Where the stack sends answers on, it takes those of IPv4 for forged,
/// unless it is told that its own address may come from there.
#[test]
fn the_hosts_own_address_answers_in_the_name_of_a_server() {
    let own = || [("192.168.122.1", V4), ("fd00:122::1", V6)];
    for (mode, _kernel) in modes_and_kernels().chain([(AUTO, None)]) {
        let bed = bed(Between::Veth, mode);
        if mode == AUTO || !is_kernel(6, 3) {
            bed.host.sysctl("net/ipv4/conf/wan/accept_local", "1");
        }
        for (elsewhere, family) in own() {
            dig_is_answered(
                &bed,
                &Family {
                    elsewhere,
                    ..family
                },
            );
        }
        assert_answered(&bed, mode);
    }
}

/// A directory with a file of ten megabytes, and an HTTP server of it, which sends back what is posted to it.
struct Web {
    directory: tempfile::TempDir,
    _server: Server,
}

/// Bytes of a body.
const BODY: usize = 10 << 20;

impl Web {
    fn new(ns: &Ns) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        fs::write(at.join("body"), noise(BODY, 7)).expect("a file");
        fs::create_dir(at.join("cgi-bin")).expect("a directory");
        let echo = at.join("cgi-bin/echo");
        let script =
            "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nhead -c $CONTENT_LENGTH\n";
        fs::write(&echo, script).expect("a file");
        fs::set_permissions(&echo, fs::Permissions::from_mode(0o755)).expect("chmod");
        let words = format!("busybox httpd -f -p 8080 -h {}", at.display());
        let _server = Server::listening(ns, &words, "tcp", 8080);
        Web { directory, _server }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// What a client gets of it.
    fn curl(&self, bed: &Routed, family: &Family, words: &str) -> (Output, Vec<u8>) {
        let [to, got] = [family.url(family.elsewhere, 80), self.path("got")];
        let words = format!("curl -sS -g --max-time 30 --noproxy * -o {got} http://{to}{words}");
        let output = program(&bed.client, &words).output();
        let got = fs::read(&got).unwrap_or_default();
        (output.expect("nsenter can be run"), got)
    }

    /// Gets the body, and posts it and gets it back.
    fn is_whole(&self, bed: &Routed, family: &Family) {
        let body = fs::read(self.path("body")).expect("the file is there");
        let post = format!("/cgi-bin/echo --data-binary @{}", self.path("body"));
        for words in ["/body", &post] {
            let (output, got) = self.curl(bed, family, words);
            assert!(output.status.success(), "{words}: {output:?}");
            assert!(got == body, "{words}: {} other bytes", got.len());
        }
    }
}

#[test]
fn bodies_of_ten_megabytes_are_whole_at_both_ends_of_http() {
    for (between, mode) in [
        (Between::Gateway, "native"),
        (Between::Bridge, "skb"),
        (Between::Veth, AUTO),
        (Between::Bridge, AUTO),
        (Between::Veth, "tc"),
        (Between::Bridge, "tc"),
        (Between::Gateway, "tc"),
    ] {
        for _kernel in kernels_at_tc().take(if mode == "tc" { 2 } else { 1 }) {
            let bed = bed(between, mode);
            let web = Web::new(&bed.server);
            for family in &FAMILIES {
                serve(&bed, family, 80, 8080);
                web.is_whole(&bed, family);
            }
            assert_answered(&bed, mode);
        }
    }
}

/// In generic mode a local server's segments are longer than any device carries. The stack divides them, and sends
/// them on.
#[test]
fn large_segments_of_answers_are_sent_on_by_the_stack_and_doctor_says_whose_they_are() {
    let bed = bed(Between::Veth, "skb");
    bed.server.exec("ethtool -K eth0 tso on gso on");
    let web = Web::new(&bed.server);
    serve(&bed, &V4, 80, 8080);
    let segments = || {
        let all = bed.tool().json("doctor");
        let mut all = all.as_array().expect("findings").clone();
        all.retain(|finding| finding["check"] == "segments");
        all
    };
    web.is_whole(&bed, &V4);
    let outcomes = ["answered", "answer_passed", "too_long"].map(|name| bed.counted(name) > 0);
    assert_eq!(outcomes, [true, true, false]);
    let said = segments();
    let [finding] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(finding["subject"], "wan");
    let remedy = finding["mend"].as_str().expect("a command");
    let first = remedy.split('`').nth(1).expect("a command");
    command("sh", &["-c", first]);
    assert_eq!(segments(), [Value::Null; 0]);
    web.is_whole(&bed, &V4);
}

#[test]
fn iperf3_measures_parallel_streams_both_ways_over_tcp_and_udp() {
    for (mode, _kernel) in modes_and_kernels() {
        let bed = bed(Between::Veth, mode);
        let _server = Server::listening(&bed.server, "iperf3 --server", "tcp", 5201);
        for family in &FAMILIES {
            serve(&bed, family, 5201, 5201);
            for (how, sum) in [
                ("--bytes 10M --parallel 8", "sum_received"),
                ("--bytes 10M --parallel 8 --reverse", "sum_received"),
                ("--bytes 1M --udp --bitrate 10M --parallel 8", "sum"),
                (
                    "--bytes 1M --udp --bitrate 10M --parallel 8 --reverse",
                    "sum",
                ),
            ] {
                let words = format!(
                    "iperf3 --connect-timeout 5000 --client {} --json {how}",
                    family.elsewhere
                );
                let said: Value = serde_json::from_str(&client(&bed, &words, "")).expect("JSON");
                let bytes = said["end"][sum]["bytes"].as_u64();
                let bytes = bytes.unwrap_or_else(|| panic!("{mode}, {words}: {said:#}"));
                assert!(bytes >= 1 << 20, "{words}: {said:#}");
            }
        }
        assert_answered(&bed, mode);
    }
}

/// The fragments that the stack sends on, where the client's device takes none that are redirected.
#[test]
fn large_datagrams_are_answered_through_the_stack_as_well() {
    for (mode, _kernel) in modes_and_kernels() {
        let bed = bed(Between::Veth, mode);
        bed.client.exec("ethtool -K eth0 gro off");
        bed.tool().ok("detach lan --keep-rules");
        bed.tool().ok(&format!("attach lan --mode {mode}"));
        for family in &FAMILIES {
            large_datagrams_are_answered(&bed, family);
        }
        let outcomes = ["answered", "answer_passed"].map(|name| bed.counted(name) > 0);
        assert_eq!(outcomes, [mode != "native", mode == "native"]);
    }
}

/// A VM sends back the next datagram that it gets.
fn echo(tap: &mut Tap, checksum: Checksum) {
    let mut frame = loop {
        let frame = tap.read().expect("the question arrives");
        if is_udp(&frame) {
            break frame;
        }
    };
    let ip = &mut frame[14..];
    let (addresses, size, udp) = if ip[0] >> 4 == 4 {
        (12, 4, 20)
    } else {
        (8, 16, 40)
    };
    let (source, destination) = ip[addresses..].split_at_mut(size);
    source.swap_with_slice(&mut destination[..size]);
    let pseudo = ip[addresses..addresses + 2 * size].to_vec();
    let datagram = &mut ip[udp..];
    let (source, destination) = datagram.split_at_mut(2);
    source.swap_with_slice(&mut destination[..2]);
    if checksum == Checksum::Partial {
        let pseudo = [&pseudo[..], &datagram[4..6], &[0, UDP]].concat();
        datagram[6..8].copy_from_slice(&sum(&pseudo).to_be_bytes());
    }
    let (destination, source) = frame.split_at_mut(6);
    destination.swap_with_slice(&mut source[..6]);
    tap.write(&frame, checksum);
}

fn is_udp(frame: &[u8]) -> bool {
    match frame[12..14] {
        [8, 0] => frame[14 + 9] == UDP,
        [0x86, 0xdd] => frame[14 + 6] == UDP,
        _ => false,
    }
}

/// It leaves checksums to its device, as VMs do, or has none of that.
#[test]
fn a_vm_behind_a_tap_answers() {
    for (mode, _kernel) in modes_and_kernels() {
        for (offload, checksum) in [
            (false, Checksum::Full),
            (true, Checksum::Full),
            (true, Checksum::Partial),
        ] {
            let bed = Routed::new(Between::Veth);
            bed.client.exec("ethtool -K eth0 gro on");
            let mut vm = Tap::new(&bed.host, "tap0", offload);
            bed.tool().ok(&format!("attach lan --mode {mode}"));
            for family in &FAMILIES {
                let Family { elsewhere, .. } = family;
                let server = family.server.replace("17", "18");
                bed.tool().ok(&format!(
                    "rule add --dst {elsewhere} --port 7 --reply nat --server {server} \
                     --mac 02:00:00:00:00:77 --dev tap0"
                ));
                let any = if family.host_length == 32 {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                };
                let client = socket(&bed.client, any);
                client.connect((*elsewhere, 7)).expect("there is a route");
                let mut buffer = [0; 2000];
                for size in [1, 10, 999, 1400] {
                    let question = noise(size, 3);
                    client.send(&question).expect("it is sent");
                    echo(&mut vm, checksum);
                    let size = client.recv(&mut buffer).expect("the answer arrives");
                    assert!(buffer[..size] == question, "{mode} {offload} {checksum:?}");
                }
            }
            assert_answered(&bed, mode);
        }
    }
}
