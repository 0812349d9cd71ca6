//! `dump`: frames that are taken away from the host, and rules that hand packets to it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use crate::fixture::lan::socket;
use crate::fixture::packet::{Checksum, Frame, TCP, fragments};
use crate::fixture::tap::Tap;
use crate::fixture::{Ns, Pins, Run, Tool, command, eventually};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;
use tempfile::TempDir;

const HOST: &str = "192.168.9.1";
const FAR: &str = "192.168.9.10";
const QUEUES: usize = 4;

/// `host lan -- eth0 far`, with several queues each.
struct Bed {
    host: Ns,
    far: Ns,
    pins: Pins,
}

impl Bed {
    fn new() -> Self {
        let (host, far) = (Ns::dual_stack("host"), Ns::dual_stack("far"));
        let queues = format!("numrxqueues {QUEUES} numtxqueues {QUEUES}");
        host.ip(&format!(
            "link add lan {queues} type veth peer name eth0 {queues} netns {}",
            far.name
        ));
        host.ip(&format!("addr add {HOST}/24 dev lan"));
        far.ip(&format!("addr add {FAR}/24 dev eth0"));
        host.ip("link set lan up");
        far.ip("link set eth0 up");
        let pins = Pins::new();
        Bed { host, far, pins }
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.host,
            pins: &self.pins,
        }
    }

    fn listen(&self, port: u16) -> UdpSocket {
        socket(&self.host, &format!("{HOST}:{port}"))
    }

    /// Sends a datagram from each of so many ports, and tells which these are.
    fn send(&self, count: usize, port: u16) -> BTreeSet<u16> {
        // All at once, so that no two have the same port.
        let sockets = (0..count).map(|_| socket(&self.far, &format!("{FAR}:0")));
        let sockets: Vec<UdpSocket> = sockets.collect();
        let send = |socket: &UdpSocket| {
            let sent = socket.send_to(b"hello", (HOST, port));
            sent.expect("it is sent");
            socket.local_addr().expect("it is bound").port()
        };
        sockets.iter().map(send).collect()
    }
}

/// A run of `dump` that takes frames.
struct Dump {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
    /// What it said first.
    begun: String,
}

impl Dump {
    #[track_caller]
    fn start(tool: &Tool, words: &str) -> Self {
        let mut child = tool.spawn(&format!("dump {words}"));
        end_after_a_while(child.id());
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut err = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut begun = String::new();
        err.read_line(&mut begun).expect("it says something");
        assert!(begun.starts_with("taking frames from "), "{begun}");
        Dump {
            child,
            out,
            err,
            begun,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("it shows something");
        line
    }

    fn frame(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("an object")
    }

    /// So many frames: the source ports, and the queues.
    fn frames(&mut self, count: usize) -> (BTreeSet<u16>, BTreeSet<u64>) {
        let frame = |_| {
            let frame = self.frame();
            let port = &frame["parsed"]["ip"]["ports"]["src"];
            let port = port.as_u64().expect("a port") as u16;
            (port, frame["queue"].as_u64().expect("a queue"))
        };
        (0..count).map(frame).unzip()
    }

    fn signal(self, signal: Signal) -> Run {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it is there");
        self.end()
    }

    /// Waits for its end. A signal has the number that shells give it.
    fn end(mut self) -> Run {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("text");
        self.err.read_to_string(&mut err).expect("text");
        let status = self.child.wait().expect("it ends");
        let code = status.code().or(status.signal().map(|s| 128 + s));
        let code = code.expect("a code");
        Run { code, out, err }
    }

    #[track_caller]
    fn interrupt(self, said: &str) -> Run {
        let run = self.signal(Signal::SIGINT).ok();
        assert_eq!(run.err.trim(), said, "{run:?}");
        run
    }
}

/// So that a test fails that waits for frames in vain.
fn end_after_a_while(process: u32) {
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(60));
        kill(Pid::from_raw(process as i32), Signal::SIGTERM)
    });
}

/// Whether a datagram has come.
fn has_received(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).expect("a socket");
    let received = socket.recv(&mut [0; 9000]).is_ok();
    socket.set_nonblocking(false).expect("a socket");
    received
}

#[track_caller]
fn receive(socket: &UdpSocket) {
    socket.recv(&mut [0; 9000]).expect("a datagram");
}

/// Takes what is sent to a port, however that is to end, and nothing else.
#[track_caller]
fn takes_one_port(bed: &Bed, words: &str, mode: &str, end: Signal) {
    let (wanted, other) = (bed.listen(7000), bed.listen(7001));
    let mut dump = Dump::start(&bed.tool(), &format!("lan --json --port 7000 {words}"));
    let begun = format!(
        "({mode} mode), queues 0 to {}: copy; Ctrl-C ends",
        QUEUES - 1
    );
    assert!(dump.begun.contains(&begun), "{}", dump.begun);
    let sent = bed.send(32, 7000);
    let (taken, queues) = dump.frames(sent.len());
    assert_eq!(taken, sent, "{words} {mode}");
    assert!(queues.len() > 1, "several queues have frames: {queues:?}");
    bed.send(1, 7001);
    receive(&other);
    assert!(!has_received(&wanted), "the host has seen them");
    match end {
        Signal::SIGKILL => assert_eq!(dump.signal(end).code, 128 + 9),
        _ => assert_eq!(dump.signal(end).ok().err.trim(), "32 frames taken"),
    }
    eventually("the host sees them again", || {
        bed.send(1, 7000);
        has_received(&wanted)
    });
}

#[test]
fn frames_of_all_queues_are_taken_from_a_device_without_a_program() {
    let bed = Bed::new();
    takes_one_port(&bed, "", "skb", Signal::SIGINT);
    takes_one_port(&bed, "--mode native", "native", Signal::SIGTERM);
    takes_one_port(&bed, "--mode native", "native", Signal::SIGKILL);
    takes_one_port(&bed, "--mode skb", "skb", Signal::SIGKILL);
    assert!(bed.pins.left().is_empty(), "nothing was pinned");
}

#[test]
fn frames_are_taken_before_the_rules_of_an_interface() {
    let bed = Bed::new();
    for mode in ["native", "skb"] {
        bed.tool().ok(&format!("attach lan --mode {mode}"));
        takes_one_port(&bed, "", mode, Signal::SIGHUP);
        takes_one_port(&bed, "", mode, Signal::SIGKILL);
        let stats = bed.tool().json("stats");
        let outcomes = &stats["interfaces"][0]["outcomes"];
        let counted = outcomes["no_rule"]["packets"].as_u64().expect("a count");
        assert!(
            (4..40).contains(&counted),
            "the others are counted: {counted}"
        );
        bed.tool().ok("detach lan");
    }
    bed.tool().ok("attach lan --mode tc");
    takes_one_port(&bed, "", "skb", Signal::SIGINT);
}

#[test]
fn one_queue_is_read_and_the_others_are_left_to_the_host() {
    let bed = Bed::new();
    let host = bed.listen(7000);
    let dump = Dump::start(&bed.tool(), "lan --json --queue 1 --port 7000");
    assert!(dump.begun.contains(", queue 1: copy"), "{}", dump.begun);
    let sent = bed.send(64, 7000).len();
    let mut left = 0;
    while has_received(&host) {
        left += 1;
    }
    assert!(left > 0, "other queues have frames");
    let run = dump.interrupt(&format!("{} frames taken", sent - left));
    let queue =
        |line: &str| serde_json::from_str::<Value>(line).expect("an object")["queue"].clone();
    assert!(run.out.lines().map(queue).all(|queue| queue == 1));
    let absent = bed.tool().run("dump lan --queue 4");
    absent.fails(3, &["queue 4", "lan has 4 queues: 0 to 3"]);
}

#[test]
fn it_ends_after_so_many_frames() {
    let bed = Bed::new();
    let mut dump = Dump::start(&bed.tool(), "lan --port 7000 --count 3");
    bed.send(3, 7000);
    let line = dump.line();
    let words = format!(" > {HOST}.7000: UDP, length 5\n");
    assert!(line.contains(" queue ") && line.ends_with(&words), "{line}");
    let run = dump.end().ok();
    assert_eq!(
        (run.out.lines().count(), run.err.trim()),
        (2, "3 frames taken")
    );
}

#[test]
fn a_long_frame_is_taken_whole() {
    let bed = Bed::new();
    for ns in [(&bed.host, "lan"), (&bed.far, "eth0")] {
        ns.0.ip(&format!("link set {} mtu 9000", ns.1));
    }
    for mode in ["native", "skb"] {
        let mut dump = Dump::start(
            &bed.tool(),
            &format!("lan --mode {mode} --json --port 7000"),
        );
        let far = socket(&bed.far, &format!("{FAR}:0"));
        let bytes: Vec<u8> = (0..8900u32).map(|i| (i % 251) as u8).collect();
        far.send_to(&bytes, (HOST, 7000)).expect("it is sent");
        let frame = dump.frame();
        assert_eq!(frame["len"], 14 + 20 + 8 + 8900, "{mode}");
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(frame["frame"].as_str().expect("digits").ends_with(&digits));
        dump.interrupt("1 frame taken");
    }
}

#[test]
fn frames_that_come_faster_than_they_are_read_are_counted() {
    const SENT: u64 = 6000; // of a queue that has 4,096 buffers
    let bed = Bed::new();
    let dump = Dump::start(&bed.tool(), "lan --port 7000 --write /dev/null");
    let pid = Pid::from_raw(dump.child.id() as i32);
    kill(pid, Signal::SIGSTOP).expect("it is there");
    let far = socket(&bed.far, &format!("{FAR}:0"));
    for _ in 0..SENT {
        far.send_to(b"hello", (HOST, 7000)).expect("it is sent");
    }
    kill(pid, Signal::SIGCONT).expect("it is there");
    let run = dump.signal(Signal::SIGINT).ok();
    let (taken, lost) = run.err.split_once(" frames taken; ").expect("both");
    let lost = lost.strip_suffix(" frames lost, because they came faster than they were read\n");
    let numbers = [taken, lost.expect("the losses")].map(|count| count.replace(',', ""));
    let [taken, lost] = numbers.map(|count| count.parse::<u64>().expect("a number"));
    assert_eq!(taken + lost, SENT, "{run:?}");
    assert!(lost > 0);
}

/// A frame with a VLAN tag.
fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let tag = [0x8100u16, vlan].map(u16::to_be_bytes).concat();
    [&frame[..12], &tag, &frame[12..]].concat()
}

#[test]
fn only_what_has_all_that_is_given_is_taken() {
    let bed = Bed::new();
    let mut tap = Tap::new(&bed.host, "tap0", false);
    let udp = Frame::default();
    let tcp = Frame {
        proto: TCP,
        dport: 80,
        ..udp.clone()
    };
    let other = Frame {
        dst: [11, 22, 33, 45].into(),
        ..udp.clone()
    };
    let parts = |ends: [&str; 2], id| {
        let ends = ends.map(|end| end.parse::<SocketAddr>().expect("an address"));
        fragments([2, 0, 0, 0, 0, 0xee], ends, &[7; 1500], id, 800)
    };
    let v4 = parts(["192.168.122.10:40000", "11.22.33.44:7999"], 1);
    let v6 = parts(["[fd00::1]:40000", "[fd00::2]:7999"], 2);
    let v6_other = parts(["[fd00::1]:40000", "[fd00::2]:7998"], 3);
    let arp = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 8, 6], &[0; 46]].concat();
    let frames = [
        vec![
            udp.bytes(),
            tcp.bytes(),
            other.bytes(),
            tagged(&udp.bytes(), 5),
            arp,
        ],
        vec![tagged(&tagged(&tcp.bytes(), 6), 5)],
        v4,
        v6,
        v6_other,
    ];
    let frames = frames.concat();
    let expected: [(&str, &[usize]); 10] = [
        ("", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("--dst 11.22.33.44", &[0, 1, 3, 5, 6, 7]),
        (
            "--dst 11.22.33.0/24 --src 192.168.0.0/16",
            &[0, 1, 2, 3, 5, 6, 7],
        ),
        ("--dst fd00::/16 --src fd00::1", &[8, 9, 10, 11]),
        ("--proto tcp", &[1, 5]),
        ("--proto udp", &[0, 2, 3, 6, 7, 8, 9, 10, 11]),
        ("--port 7999", &[0, 2, 3, 6, 7, 8, 9]),
        ("--port 79-81 --proto any", &[1, 5]),
        ("--vlan 5", &[3, 5]),
        ("--vlan 5 --inner-vlan 6 --proto tcp", &[5]),
    ];
    for (words, wanted) in expected {
        let dump = Dump::start(&bed.tool(), &format!("tap0 --json {words}"));
        frames
            .iter()
            .for_each(|frame| tap.write(frame, Checksum::Full));
        let run = dump.signal(Signal::SIGINT).ok();
        let digits = |line: &str| {
            let row: Value = serde_json::from_str(line).expect("an object");
            row["frame"].as_str().expect("digits").to_string()
        };
        let taken: Vec<String> = run.out.lines().map(digits).collect();
        let hex = |frame: &Vec<u8>| frame.iter().map(|b| format!("{b:02x}")).collect::<String>();
        // Frames of the host's own neighbour discovery don't arrive at a tap.
        let taken: Vec<usize> = taken
            .iter()
            .map(|digits| {
                frames
                    .iter()
                    .position(|frame| hex(frame) == *digits)
                    .expect("sent")
            })
            .collect();
        assert_eq!(taken, wanted, "{words}");
    }
}

#[test]
fn bytes_can_be_explained() {
    let bed = Bed::new();
    bed.tool().ok("attach lan --mode skb");
    bed.tool().ok("rule add --port 7000 --drop");
    let mut dump = Dump::start(&bed.tool(), "lan --hex --port 7000");
    bed.send(1, 7000);
    let mut digits = dump.line();
    while digits.lines().last().is_some_and(|line| !line.is_empty()) {
        digits += &dump.line();
    }
    dump.interrupt("1 frame taken");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("frames");
    fs::write(&file, digits).unwrap();
    let run = bed
        .tool()
        .run(&format!("explain {} --json", file.display()));
    assert_eq!(run.json()["outcome"], "dropped_by_rule");
}

#[track_caller]
fn fields(file: &str) -> Vec<String> {
    let read = command(
        "tshark",
        &[
            "-r",
            file,
            "-T",
            "fields",
            "-e",
            "udp.dstport",
            "-e",
            "frame.interface_name",
            "-e",
            "_ws.malformed",
        ],
    );
    read.lines().map(String::from).collect()
}

#[test]
fn a_capture_file_is_read_by_others_however_the_run_has_ended() {
    let bed = Bed::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("frames.pcapng");
    let file = path.display().to_string();
    for (count, end) in [(5, Signal::SIGINT), (3, Signal::SIGKILL)] {
        let dump = Dump::start(&bed.tool(), &format!("lan --port 7000 --write {file}"));
        let empty = fs::metadata(&path).unwrap().len();
        bed.send(count, 7000);
        eventually("they are written", || {
            let more = fs::metadata(&path).unwrap().len() - empty;
            more as usize / count > 47 + 32
        });
        let run = dump.signal(end);
        assert_eq!(run.out, "");
        assert_eq!(fields(&file), vec!["7000\tlan\t"; count]);
    }
    // To a program that reads it.
    let out = fs::File::create(&path).unwrap();
    let mut run = bed
        .tool()
        .command("dump lan --port 7000 --count 2 --write -");
    let mut child = run.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    err.read_line(&mut String::new()).unwrap();
    bed.send(2, 7000);
    assert!(child.wait().unwrap().success());
    assert_eq!(fields(&file), vec!["7000\tlan\t"; 2]);
}

/// A directory of its own that has room for two pages.
struct Tiny(TempDir);

impl Tiny {
    fn new() -> Self {
        let tiny = Tiny(tempfile::tempdir().expect("a directory"));
        let (tmpfs, flags) = (Some("tmpfs"), MsFlags::empty());
        let mounted = mount(tmpfs, tiny.0.path(), tmpfs, flags, Some("size=8k"));
        mounted.expect("tests run as root");
        tiny
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_capture_file_on_a_disk_that_is_full_has_whole_frames() {
    let (bed, tiny) = (Bed::new(), Tiny::new());
    let file = tiny.0.path().join("frames.pcapng").display().to_string();
    let dump = Dump::start(&bed.tool(), &format!("lan --port 7000 --write {file}"));
    bed.send(200, 7000);
    let run = dump.end();
    assert_eq!(run.code, 1, "{run:?}");
    let said = "xdpredir: cannot write the capture file: No space left on device";
    assert!(run.err.starts_with(said), "{run:?}");
    let read = fields(&file);
    assert!(read.len() > 90, "{read:?}");
    assert!(
        read.iter().all(|fields| fields == "7000\tlan\t"),
        "{read:?}"
    );
}

#[test]
fn a_signal_ends_the_wait_for_the_reader_of_a_pipe() {
    let bed = Bed::new();
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let words = format!("dump lan --write {}", pipe.display());
    let mut child = bed.tool().spawn(&words);
    end_after_a_while(child.id());
    let process = Pid::from_raw(child.id() as i32);
    let waits_in = format!("/proc/{process}/wchan");
    eventually("it opens the pipe", || {
        fs::read_to_string(&waits_in).is_ok_and(|function| function.contains("partner"))
    });
    // What runs in the background may have been told to ignore SIGINT.
    kill(process, Signal::SIGTERM).unwrap();
    eventually("it ends", || child.try_wait().unwrap().is_some());
}

#[test]
fn more_than_one_ctrl_c_ends_a_run_whose_output_nobody_reads() {
    let bed = Bed::new();
    let mut dump = Dump::start(&bed.tool(), "lan --port 7000 --json");
    bed.send(500, 7000);
    let process = Pid::from_raw(dump.child.id() as i32);
    let waits_in = format!("/proc/{process}/wchan");
    eventually("the pipe is full", || {
        fs::read_to_string(&waits_in).is_ok_and(|function| function.contains("pipe"))
    });
    eventually("it ends", || {
        kill(process, Signal::SIGINT).unwrap();
        dump.child.try_wait().unwrap().is_some()
    });
    assert_eq!(dump.end().code, 130);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let bed = Bed::new();
    let Dump {
        mut child,
        out,
        mut err,
        ..
    } = Dump::start(&bed.tool(), "lan --port 7000");
    drop(out);
    bed.send(1, 7000);
    let mut said = String::new();
    err.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    assert_eq!(child.wait().unwrap().signal(), Some(13));
}

#[test]
fn programs_of_others_stay_and_one_run_at_a_time_takes_frames() {
    let bed = Bed::new();
    let tool = bed.tool();
    let first = Dump::start(&tool, "lan");
    let second = tool.run("dump lan");
    second.fails(4, &["lan", "xdpredir_dump", "skb mode", "end the run"]);
    first.signal(Signal::SIGINT).ok();
    tool.ok("attach lan --mode native");
    tool.run("dump lan --mode skb")
        .fails(4, &["lan", "native mode"]);
    let first = Dump::start(&tool, "lan");
    tool.run("dump lan").fails(4, &["lan", "another run"]);
    tool.run("dump lan --rules")
        .fails(4, &["lan, queue 0", "another socket"]);
    let others = Pins::new();
    let other = Tool {
        ns: &bed.host,
        pins: &others,
    };
    other
        .run("dump lan")
        .fails(4, &["lan", "program xdpredir "]);
    first.signal(Signal::SIGINT).ok();
    let reader = Dump::start(&tool, "lan --rules");
    tool.run("dump lan --rules")
        .fails(4, &["queue 0", "another socket"]);
    reader.interrupt("0 frames taken");
}

#[test]
fn a_program_that_takes_its_place_ends_it() {
    let bed = Bed::new();
    let tool = bed.tool();
    let dump = Dump::start(&tool, "lan --port 7000 --mode skb");
    for words in ["attach lan", "attach lan --chain-foreign", "dump lan"] {
        tool.run(words)
            .fails(4, &["xdpredir_dump", "end the run that takes frames there"]);
    }
    tool.ok("attach lan --force");
    let run = dump.end();
    assert_eq!(run.code, 1, "{run:?}");
    let said = "0 frames taken\nxdpredir: lan: the program that takes frames was taken off";
    assert!(run.err.starts_with(said), "{run:?}");
    tool.ok("detach lan");
}

#[test]
fn it_ends_with_what_it_reads_from() {
    let bed = Bed::new();
    let tool = bed.tool();
    for words in ["", "--rules"] {
        tool.ok("attach lan --mode skb");
        let dump = Dump::start(&tool, &format!("lan {words}"));
        tool.ok("detach lan");
        let run = dump.end();
        assert_eq!(run.code, 1, "{run:?}");
        assert!(
            run.err.contains("lan: the interface was detached"),
            "{run:?}"
        );
    }
    let dump = Dump::start(&tool, "lan");
    bed.host.ip("link del lan");
    let run = dump.end();
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("lan: the device is gone"), "{run:?}");
}

#[test]
fn what_cannot_be_taken_is_refused_and_changes_nothing() {
    let bed = Bed::new();
    let tool = bed.tool();
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("kept");
    fs::write(&kept, "kept").unwrap();
    let (directory, kept_name) = (directory.path().display(), kept.display());
    for (words, code, said) in [
        ("dump none".into(), 3, &["none"][..]),
        ("dump lan --rules".into(), 3, &["lan: not attached"]),
        (
            "dump lan --rules --proto udp".into(),
            2,
            &["--rules", "--proto"],
        ),
        ("dump lan --queue x".into(), 2, &["--queue", "x"]),
        ("dump lan --count 0".into(), 2, &["--count"]),
        ("dump lan --hex --json".into(), 2, &["--hex", "--json"]),
        ("dump lan --inner-vlan 5".into(), 2, &["--vlan"]),
        (
            "dump lan --dst 10.0.0.1 --src fd00::1".into(),
            2,
            &["--dst 10.0.0.1"],
        ),
        ("dump lan --proto icmp --port 5".into(), 2, &["--port 5"]),
        (
            format!("dump lan --write {directory}"),
            1,
            &["cannot write"],
        ),
        (
            format!("dump lan --write {directory}/no/file"),
            1,
            &["cannot write"],
        ),
        (format!("dump none --write {kept_name}"), 3, &["none"]),
    ] {
        let mut child = tool.spawn(&words);
        eventually(&words, || child.try_wait().expect("a child").is_some());
        let run: Run = child.wait_with_output().expect("it has ended").into();
        assert_eq!(run.code, code, "{words}: {run:?}");
        assert!(
            said.iter().all(|said| run.err.contains(said)),
            "{words}: {run:?}"
        );
    }
    assert_eq!(fs::read_to_string(kept).unwrap(), "kept");
}

/// How many packets an outcome has counted.
fn outcome(tool: &Tool, name: &str) -> u64 {
    let stats = tool.json("stats");
    stats["interfaces"][0]["outcomes"][name]["packets"]
        .as_u64()
        .expect("a count")
}

#[test]
fn a_rule_hands_packets_to_a_reader_as_long_as_there_is_one() {
    let bed = Bed::new();
    let tool = bed.tool();
    let explain = "explain --src 192.168.9.10 --dst 192.168.9.1 --port 7000";
    for mode in ["native", "skb"] {
        tool.ok(&format!("attach lan --mode {mode}"));
        let added = tool.ok("rule add --dst 192.168.9.1 --port 7000 --socket");
        assert!(added.out.contains("-> socket"), "{added:?}");
        let host = bed.listen(7000);
        bed.send(1, 7000);
        receive(&host);
        assert_eq!(
            (outcome(&tool, "no_reader"), outcome(&tool, "to_socket")),
            (1, 0)
        );
        assert_eq!(
            tool.run(&format!("{explain} --json")).json()["outcome"],
            "no_reader"
        );

        let mut reader = Dump::start(&tool, "lan --rules --json");
        let sent = bed.send(16, 7000);
        assert_eq!(reader.frames(sent.len()).0, sent);
        assert!(!has_received(&host), "the host has seen them");
        assert_eq!(
            (outcome(&tool, "no_reader"), outcome(&tool, "to_socket")),
            (1, 16)
        );
        assert_eq!(tool.json("rule list")[0]["forward_packages"], 17);
        let explained = tool.ok(&format!("{explain} --json")).json();
        assert_eq!(
            (&explained["outcome"], &explained["action"]),
            (&"to_socket".into(), &"redirect".into())
        );
        bed.listen(7001);
        bed.send(1, 7001);
        assert_eq!(outcome(&tool, "no_rule"), 1);

        assert_eq!(reader.signal(Signal::SIGKILL).code, 128 + 9);
        eventually("packets pass again", || {
            bed.send(1, 7000);
            has_received(&host)
        });
        // And another one reads.
        let mut reader = Dump::start(&tool, "lan --rules --json");
        let sent = bed.send(1, 7000);
        assert_eq!(reader.frames(1).0, sent);
        reader.interrupt("1 frame taken");
        bed.send(1, 7000);
        receive(&host);
        tool.ok("detach --all");
    }
    tool.ok("attach lan --mode tc");
    tool.ok("rule add --dst 192.168.9.1 --port 7000 --socket");
    tool.run("dump lan --rules").fails(6, &["lan: in tc mode"]);
    let host = bed.listen(7000);
    bed.send(1, 7000);
    receive(&host);
    assert_eq!(outcome(&tool, "no_reader"), 1);
}

#[test]
fn the_fragments_of_a_datagram_go_to_the_reader_together() {
    let bed = Bed::new();
    let tool = bed.tool();
    let mut tap = Tap::new(&bed.host, "tap0", false);
    tool.ok("attach tap0 --mode skb");
    tool.ok("rule add --src 0.0.0.0/0 --port 7999 --socket");
    let reader = Dump::start(&tool, "tap0 --rules");
    let ends = ["192.168.122.10:40000", "11.22.33.44:7999"].map(|end| end.parse().unwrap());
    let parts = fragments([2, 0, 0, 0, 0, 0xee], ends, &[7; 2000], 9, 800);
    parts
        .iter()
        .for_each(|part| tap.write(part, Checksum::Full));
    let run = reader.signal(Signal::SIGINT).ok();
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 3, "{run:?}");
    assert!(
        lines[0].ends_with("UDP, first fragment, length 792"),
        "{run:?}"
    );
    assert!(
        lines[2].ends_with("UDP, later fragment, length 408"),
        "{run:?}"
    );
    assert_eq!(outcome(&tool, "to_socket"), 3);
}

#[test]
fn a_rule_for_sockets_goes_through_files_and_back() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach lan --mode skb");
    tool.ok("rule add --dst 10.0.0.1 --port 53 --socket");
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let export = file("export.toml", tool.ok("export").out);
    let rows = file("rows.json", tool.ok("rule list --json").out);
    for file in [&export, &rows] {
        tool.ok("rule add --dst 10.0.0.1 --port 53 --drop");
        let diff = tool.run(&format!("diff --keep-others {file} --json"));
        assert_eq!(
            (diff.code, &diff.json()[0]["value"]),
            (7, &"socket".into()),
            "{diff:?}"
        );
        tool.ok(&format!("apply --keep-others {file}"));
        assert_eq!(tool.json("rule list")[0]["action"], "socket");
    }
    tool.ok("rule del --all");
    tool.ok(&format!("rule load {rows}"));
    assert_eq!(tool.json("rule list")[0]["action"], "socket");
    let listed = tool.ok("rule list").out;
    assert!(listed.contains("socket"), "{listed}");
    for words in [
        "--drop",
        "--mac 02:00:00:00:00:01",
        "--too-long pass",
        "--server 10.1.1.1",
    ] {
        let run = tool.run(&format!("rule add --socket {words}"));
        assert_eq!(run.code, 2, "{words}: {run:?}");
    }
}
