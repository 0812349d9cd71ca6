//! Attaching and detaching: modes, conflicts, all or nothing, and nothing left behind.

#![expect(unsafe_code, reason = "calls that have no safe form")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;

use crate::fixture::guest;
use crate::fixture::lan::{ANYWHERE, Lan, receive};
use crate::fixture::packet::{Checksum, Frame};
use crate::fixture::tap::Tap;
use crate::fixture::{self, Ns, Pins, Tool};
use libbpf_rs::{Program, libbpf_sys};
use serde_json::Value;

/// The veths v0 and v1 with peers in a second namespace, and a bridge.
struct Bed {
    ns: Ns,
    peer: Ns,
    pins: Pins,
}

impl Bed {
    fn new() -> Self {
        let (ns, peer) = (Ns::new("host"), Ns::new("peer"));
        ns.veth("v0", &peer, "p0");
        ns.veth("v1", &peer, "p1");
        ns.ip("link add br0 type bridge");
        ns.ip("link set br0 up");
        let pins = Pins::new();
        Bed { ns, peer, pins }
    }

    fn tool(&self) -> Tool<'_> {
        self.with(&self.pins)
    }

    fn with<'a>(&'a self, pins: &'a Pins) -> Tool<'a> {
        Tool { ns: &self.ns, pins }
    }

    /// The program that the kernel has on a device.
    fn program(&self, device: &str) -> Option<u64> {
        let links: Value =
            serde_json::from_str(&self.ns.ip(&format!("-j -d link show {device}"))).unwrap();
        let xdp = &links[0]["xdp"];
        xdp["prog"]["id"]
            .as_u64()
            .or(xdp["attached"][0]["prog"]["id"].as_u64())
    }

    /// Puts a program on a device over netlink, as other tools do; returns its id.
    fn attach_over_netlink(&self, device: &str) -> u64 {
        let other = Pins::new();
        let tool = self.with(&other);
        tool.ok("attach lo --mode skb");
        let id = tool.json("status")["interfaces"][0]["program_id"]
            .as_u64()
            .unwrap();
        let program: OwnedFd = Program::fd_from_id(id as u32).expect("the program is loaded");
        let ifindex = self.ns.ifindex(device) as i32;
        let error = self.ns.enter(|| {
            // SAFETY: the descriptor is open; no options.
            unsafe {
                libbpf_sys::bpf_xdp_attach(
                    ifindex,
                    program.as_raw_fd(),
                    libbpf_sys::XDP_FLAGS_SKB_MODE,
                    std::ptr::null(),
                )
            }
        });
        assert_eq!(error, 0);
        tool.ok("detach --all");
        id
    }
}

#[test]
fn a_port_below_a_bridge_with_a_program_is_refused_by_the_bridge_s_name() {
    let bed = Bed::new();
    bed.ns.ip("link set v0 master br0");
    bed.tool().ok("attach br0");
    for mode in ["skb", "native"] {
        let run = bed.tool().run(&format!("attach v0 --mode {mode}"));
        let run = run.fails(
            4,
            &[
                "v0: ",
                "br0 above it",
                "detach br0 --keep-rules`",
                "at once",
            ],
        );
        assert!(!run.err.contains("mode"), "{run:?}");
    }
}

fn modes(tool: &Tool) -> Vec<(String, String)> {
    let status = tool.json("status");
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let interfaces = status["interfaces"].as_array().unwrap();
    interfaces
        .iter()
        .map(|i| (text(&i["ifname"]), text(&i["mode"])))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(a, b)| (a.to_string(), b.to_string()))
        .collect()
}

#[test]
fn auto_takes_the_mode_that_pays_and_says_why() {
    let bed = Bed::new();
    let _tap = Tap::new(&bed.ns, "tap0", false);
    let out = bed.tool().ok("attach v0 br0 lo tap0").out;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(
        lines[0].starts_with("v0: attached in skb mode (on a veth"),
        "{out}"
    );
    assert!(
        lines[1].starts_with("br0: attached in skb mode (a bridge"),
        "{out}"
    );
    assert!(
        lines[2].starts_with("lo: attached in skb mode (its driver"),
        "{out}"
    );
    assert!(
        lines[3].starts_with("tap0: attached in skb mode (on a tap"),
        "{out}"
    );
}

#[test]
fn native_and_skb_are_what_the_kernel_then_has() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0 --mode native");
    tool.ok("attach v1 --mode skb");
    assert_eq!(modes(&tool), pairs(&[("v0", "native"), ("v1", "skb")]));
    for interface in tool.json("status")["interfaces"].as_array().unwrap() {
        let device = interface["ifname"].as_str().unwrap();
        assert_eq!(
            bed.program(device),
            interface["program_id"].as_u64(),
            "{device}"
        );
    }
    let links = bed.ns.ip("link show");
    assert_eq!(links.matches(" xdp ").count(), 1, "{links}");
    assert_eq!(links.matches(" xdpgeneric ").count(), 1, "{links}");
}

#[test]
fn native_where_there_is_none_is_refused_with_the_kernels_words() {
    let bed = Bed::new();
    for device in ["br0", "lo"] {
        bed.tool()
            .run(&format!("attach {device} --mode native"))
            .fails(6, &[device, "does not support XDP", "--mode skb"]);
    }
    assert!(bed.pins.left().is_empty());
}

#[test]
fn native_with_a_large_mtu_takes_frames_in_several_buffers() {
    guest::needs_kernel(6, 3, "native redirects of frames in several buffers");
    let bed = Bed::new();
    bed.ns.ip("link set v0 mtu 9000");
    bed.peer.ip("link set p0 mtu 9000");
    let run = bed.tool().ok("attach v0 --mode native");
    assert!(run.out.contains("several buffers"), "{run:?}");
}

#[test]
fn attaching_again_changes_nothing() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0");
    let before = tool.json("status");
    assert!(tool.ok("attach v0").out.contains("already attached"));
    assert_eq!(tool.ok("attach v0 v0 --json").json()[0]["changed"], false);
    assert_eq!(tool.json("status"), before);
}

#[test]
fn an_interface_named_twice_is_attached_once() {
    let bed = Bed::new();
    assert_eq!(bed.tool().ok("attach v0 v0").out.lines().count(), 1);
    assert_eq!(modes(&bed.tool()), pairs(&[("v0", "skb")]));
}

#[test]
fn another_mode_is_a_conflict_and_says_how_to_change_it() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0 --mode skb");
    tool.run("attach v0 --mode native")
        .fails(4, &["v0", "skb mode", "--keep-rules"]);
    tool.ok("detach v0 --keep-rules");
    tool.ok("attach v0 --mode native");
}

#[test]
fn an_unknown_device_is_named() {
    let bed = Bed::new();
    bed.tool().run("attach nope0").fails(3, &["nope0"]);
    bed.tool()
        .run("attach a-name-of-more-than-15-bytes")
        .fails(3, &["a-name-of-more"]);
    assert!(bed.pins.left().is_empty());
}

#[test]
fn a_device_without_ethernet_headers_is_refused() {
    let bed = Bed::new();
    bed.ns.ip("tuntap add tun0 mode tun");
    let tool = bed.tool();
    tool.run("attach v0 tun0").fails(6, &["tun0", "Ethernet"]);
    assert!(bed.pins.left().is_empty());
    tool.ok("attach v0");
    tool.run("rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev tun0")
        .fails(6, &["tun0", "Ethernet"]);
    assert_eq!(tool.json("rule list"), serde_json::json!([]));
}

#[test]
fn several_interfaces_are_attached_all_or_none() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.run("attach v0 nope0").fails(3, &["nope0"]);
    tool.run("attach v0 br0 --mode native").fails(6, &["br0"]);
    assert_eq!(bed.program("v0"), None);
    assert!(bed.pins.left().is_empty());

    tool.ok("attach v1 --mode native");
    let before = bed.pins.left().len();
    tool.run("attach v0 br0 --mode native").fails(6, &["br0"]);
    assert_eq!(bed.program("v0"), None);
    assert_eq!(modes(&tool), pairs(&[("v1", "native")]));
    assert_eq!(bed.pins.left().len(), before);
}

#[test]
fn a_program_on_another_link_is_named_and_left_alone() {
    let bed = Bed::new();
    let other = Pins::new();
    bed.with(&other).ok("attach v0");
    let id = bed.program("v0").unwrap();
    bed.tool()
        .run("attach v0")
        .fails(4, &["v0", "xdpredir", &format!("id {id}"), "--force"]);
    assert_eq!(bed.program("v0"), Some(id));
    assert!(bed.pins.left().is_empty());
}

#[test]
fn force_replaces_a_program_on_another_link() {
    let bed = Bed::new();
    let other = Pins::new();
    bed.with(&other).ok("attach v0");
    let id = bed.program("v0").unwrap();
    let out = bed.tool().ok("attach v0 --force").out;
    assert!(
        out.contains(&format!("replaced program xdpredir (id {id}")),
        "{out}"
    );
    assert_eq!(
        bed.program("v0"),
        bed.tool().json("status")["interfaces"][0]["program_id"].as_u64()
    );
    // Whose it was can still clean up, and takes nothing from us.
    bed.with(&other).ok("status");
    bed.with(&other).ok("detach --all");
    assert!(other.left().is_empty());
    assert_ne!(bed.program("v0"), None);
}

#[test]
fn a_program_attached_over_netlink_is_named_and_replaced_by_force() {
    let bed = Bed::new();
    let id = bed.attach_over_netlink("v0");
    assert_eq!(bed.program("v0"), Some(id));
    bed.tool()
        .run("attach v0")
        .fails(4, &["v0", "xdpredir", &format!("id {id}"), "--force"]);
    bed.tool().ok("attach v0 --force --mode native");
    assert_eq!(modes(&bed.tool()), pairs(&[("v0", "native")]));
    bed.tool().ok("detach v0");
    assert_eq!(bed.program("v0"), None);
}

#[test]
fn force_that_fails_elsewhere_puts_the_other_program_back() {
    let bed = Bed::new();
    let id = bed.attach_over_netlink("v0");
    bed.tool()
        .run("attach v0 br0 --force --mode native")
        .fails(6, &["br0"]);
    assert_eq!(bed.program("v0"), Some(id));
    assert!(bed.pins.left().is_empty());
}

#[test]
fn xdp_off_by_ip_link_does_not_break_anything() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0 --mode skb");
    tool.ok("attach v1 --mode native");
    let before = tool.json("status");
    for device in ["v0", "v1"] {
        // It fails on a link in native mode, and does nothing to generic mode.
        let _ = Command::new("ip")
            .args(["-n", &bed.ns.name, "link", "set", device, "xdp", "off"])
            .output()
            .expect("ip runs");
    }
    assert_eq!(tool.json("status"), before);
    tool.ok("stats");
    tool.ok("detach --all");
    assert!(bed.pins.left().is_empty());
}

#[test]
fn status_json_has_the_keys_of_the_design() {
    let bed = Bed::new();
    let tool = bed.tool();
    let empty = tool.json("status");
    assert_eq!(empty["interfaces"], serde_json::json!([]));
    assert_eq!(empty["rules"], 0);
    assert_eq!(empty["pin_dir"], bed.pins.dir().to_str().unwrap());

    tool.ok("attach v0");
    let status = tool.json("status");
    let interface = status["interfaces"][0].as_object().unwrap();
    for key in ["ifname", "ifindex", "mode", "program_id", "link_id"] {
        assert!(interface.contains_key(key), "{key}: {status}");
    }
    assert_eq!(interface["ifindex"], bed.ns.ifindex("v0"));
    assert!(interface["link_id"].as_u64().unwrap() > 0);
}

#[test]
fn detaching_one_leaves_the_others_and_the_rules() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0 v1");
    tool.ok("rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev v1");
    let rules = tool.json("rule list");
    tool.ok("detach v0");
    assert_eq!(bed.program("v0"), None);
    assert_eq!(modes(&tool), pairs(&[("v1", "skb")]));
    assert_eq!(tool.json("rule list"), rules);
    assert!(tool.ok("detach v1").out.contains("nothing is left"));
    assert!(bed.pins.left().is_empty());
}

#[test]
fn detaching_all_leaves_nothing() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0 v1 br0 lo");
    tool.ok("rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev v1");
    tool.ok("rule add --server 10.1.1.2 --mac 02:00:00:00:00:01 --dev v1");
    tool.ok("detach --all");
    assert!(bed.pins.left().is_empty(), "{:?}", bed.pins.left());
    assert!(!bed.ns.ip("link show").contains("prog/xdp"));
}

#[test]
fn detaching_what_is_not_attached_is_exit_3_and_changes_nothing() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.run("detach v0").fails(3, &["not attached"]);
    tool.run("detach --all").fails(3, &["not attached"]);
    tool.ok("attach v0");
    tool.run("detach v0 v1").fails(3, &["v1", "not attached"]);
    assert_eq!(modes(&tool), pairs(&[("v0", "skb")]));
    tool.run("detach").fails(2, &["IFACE"]);
    tool.run("detach v0 --all").fails(2, &["--all"]);
}

#[test]
fn an_alternative_name_works_for_attach_and_detach() {
    let bed = Bed::new();
    bed.ns.ip("link property add dev v0 altname alt0");
    assert!(bed.tool().ok("attach alt0").out.starts_with("v0: attached"));
    bed.tool().ok("detach alt0");
    assert!(bed.pins.left().is_empty());
}

#[test]
fn a_renamed_interface_goes_by_its_new_name() {
    let bed = Bed::new();
    bed.tool().ok("attach v0");
    // Before Linux 6.2, a device that is up keeps its name.
    bed.ns.ip("link set v0 down");
    bed.ns.ip("link set v0 name other0");
    assert_eq!(modes(&bed.tool()), pairs(&[("other0", "skb")]));
    bed.tool().run("detach v0").fails(3, &["v0"]);
    bed.tool().ok("detach other0");
    assert!(bed.pins.left().is_empty());
}

#[test]
fn a_device_that_is_gone_can_be_detached_by_the_name_it_had() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0 v1");
    bed.ns.ip("link del v0");
    assert_eq!(modes(&tool).len(), 2);
    assert!(tool.ok("status").out.contains("v0 (gone)"));
    tool.ok("stats");
    tool.ok("rule list");
    tool.ok("detach v0");
    bed.ns.ip("link del v1");
    tool.ok("detach --all");
    assert!(bed.pins.left().is_empty());
}

#[test]
fn a_device_made_again_under_the_same_index_can_be_attached() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0");
    let index = bed.ns.ifindex("v0");
    bed.ns.ip("link del v0");
    bed.ns
        .ip(&format!("link add v0 index {index} type veth peer name q0"));
    assert!(tool.ok("attach v0").out.contains("attached in skb mode"));
    assert_ne!(bed.program("v0"), None);
    tool.ok("detach v0");
    assert!(bed.pins.left().is_empty());
}

#[test]
fn another_namespace_with_the_same_pin_dir_is_left_alone() {
    let (a, b) = (Bed::new(), Bed::new());
    let there = Tool {
        ns: &b.ns,
        pins: &a.pins,
    };
    a.tool().ok("attach v0");
    there.ok("attach v0 v1");
    there.ok("rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev v1");
    assert_eq!(a.tool().json("rule list"), serde_json::json!([]));
    let before = (there.json("status"), there.json("rule list"));
    a.tool().ok("detach --all");
    assert_eq!((there.json("status"), there.json("rule list")), before);
    a.tool().run("rule list").fails(3, &["not attached"]);
    there.ok("detach --all");
    assert!(a.pins.left().is_empty());
}

#[test]
fn the_top_of_a_bpffs_can_be_the_pin_directory() {
    let bed = Bed::new();
    let dir = bed.pins.dir();
    let top = dir.parent().unwrap().to_str().unwrap();
    let run = |words: &str| {
        let output = Command::new(fixture::BINARY)
            .args(["--netns", &bed.ns.name, "--pin-dir", top])
            .args(words.split_whitespace())
            .output();
        fixture::Run::from(output.expect("it runs")).ok()
    };
    run("attach v0");
    run("detach v0");
    assert!(bed.pins.left().is_empty(), "{:?}", bed.pins.left());
}

#[test]
fn a_pin_directory_with_a_dot_is_refused_by_all_verbs_alike() {
    let bed = Bed::new();
    let dir = bed.pins.dir().with_file_name("br.dot");
    let dir = dir.to_str().unwrap();
    for words in [
        "attach v0",
        "detach v0",
        "detach --all",
        "status",
        "doctor",
        "doctor --undo",
        "rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev v1",
        "rule del",
        "rule list",
        "rule refresh",
        "rule drain --server 10.1.1.1",
        "rule mark down --server 10.1.1.1",
        "rule load /dev/null",
        "stats",
    ] {
        let output = Command::new(fixture::BINARY)
            .args(["--netns", &bed.ns.name, "--pin-dir", dir])
            .args(words.split_whitespace())
            .output();
        let run = fixture::Run::from(output.expect("it runs"));
        run.fails(2, &["--pin-dir", dir, "cannot contain a dot"]);
    }
    assert!(bed.pins.left().is_empty());
}

/// Runs a script where no bpffs is mounted, in a mount namespace of its own. `$X` is the binary.
fn without_a_bpffs(unshare: &[&str], before: &[&str], script: &str) -> fixture::Run {
    let hidden = format!(
        "mount --make-rprivate /sys && mount -t tmpfs none /sys/fs/bpf && X={}; {script}",
        fixture::BINARY
    );
    let output = Command::new("unshare")
        // In a chroot, the root is no mount whose propagation can be changed.
        .args(["-m", "--propagation", "unchanged"])
        .args(unshare)
        .args(before)
        .args(["sh", "-c", &hidden])
        .output();
    fixture::Run::from(output.expect("it runs"))
}

/// As the first process of a container is: nobody outside of the mount namespace is to be seen.
const CONTAINER: [&str; 3] = ["-p", "-f", "--mount-proc"];
const IS_MOUNTED: &str = "test $(stat -f -c %T /sys/fs/bpf) = bpf_fs";

#[test]
fn attach_mounts_a_bpffs_where_there_is_none_and_says_so() {
    let bed = Bed::new();
    let tool = format!("$X --netns {}", bed.ns.name);
    let script = format!(
        "{tool} attach lo --mode native; {IS_MOUNTED} && exit 9; {tool} attach v0 && {IS_MOUNTED} && \
         {tool} status && {tool} detach --all && {tool} attach v0 --json"
    );
    let run = without_a_bpffs(&CONTAINER, &[], &script).ok();
    assert!(
        run.out.starts_with("mounted a bpffs at /sys/fs/bpf\n"),
        "{run:?}"
    );
    assert!(run.out.contains("v0: attached"), "{run:?}");
    assert_eq!(run.err.lines().count(), 1, "{run:?}");
    assert!(run.err.contains("cannot run XDP in native mode"), "{run:?}");

    let script = format!("{tool} attach v0 --json");
    let run = without_a_bpffs(&CONTAINER, &[], &script).ok();
    assert_eq!(run.json()[0]["ifname"], "v0");
    assert_eq!(run.err, "xdpredir: mounted a bpffs at /sys/fs/bpf\n");
}

#[test]
fn of_several_attaches_at_once_one_mounts_the_bpffs_for_all() {
    let bed = Bed::new();
    let tool = format!("$X --netns {}", bed.ns.name);
    let script = format!(
        "mounts() {{ grep -c ' /sys/fs/bpf bpf ' /proc/self/mounts; }}; before=$(mounts); \
         for round in 1 2 3 4 5 6 7 8; do \
             for device in v0 v1 v0 v1; do {tool} attach $device >&2 & done; wait; \
             test $(mounts) = $((before + 1)) || exit 9; \
             {tool} detach --all || exit 8; umount /sys/fs/bpf || exit 7; \
         done"
    );
    without_a_bpffs(&CONTAINER, &[], &script).ok();
}

#[test]
fn a_bpffs_that_cannot_be_mounted_or_would_vanish_is_not_and_what_helps_is_said() {
    let bed = Bed::new();
    let net = format!("--net={}", bed.ns.path().display());
    let mount = "`mount -t bpf bpf /sys/fs/bpf` as root";
    let script = "exec setpriv --bounding-set -sys_admin $X attach v0";
    without_a_bpffs(&CONTAINER, &["nsenter", &net], script).fails(5, &[mount, "EPERM"]);
    let script = format!(
        "exec $X --netns {} --pin-dir /sys/fs/bpf/x attach v0",
        bed.ns.name
    );
    without_a_bpffs(&CONTAINER, &[], &script).fails(1, &["run `mount -t bpf bpf /sys/fs/bpf`"]);

    // The mount namespace goes with the run, as that of `ip netns exec` does.
    let outside = ["run xdpredir outside of it", "mount namespace"];
    let run = without_a_bpffs(&[], &["nsenter", &net], "exec $X attach v0");
    run.fails(1, &outside);
    for verb in ["attach v0", "rule list", "status", "doctor"] {
        let script = format!("$X --netns {} {verb}; ! {IS_MOUNTED}", bed.ns.name);
        let run = without_a_bpffs(&[], &[], &script).ok();
        let all = run.out + &run.err;
        assert!(all.contains("run xdpredir outside of it"), "{all}");
        assert!(
            !all.contains("nsenter") && !all.contains("mount -t"),
            "{all}"
        );
    }
}

/// The uid of nobody, who has the capabilities that attaching takes.
const NOBODY: &str = "65534";

/// What attaching takes beside a directory for pins.
const CAPABILITIES: &str = "+bpf,+net_admin,+perfmon";

/// A user who is not root and owns the pin directory.
struct Nobody<'a> {
    bed: &'a Bed,
    binary: PathBuf,
}

impl<'a> Nobody<'a> {
    fn new(bed: &'a Bed) -> Self {
        let dir = bed.pins.dir();
        std::fs::create_dir(&dir).expect("a directory for pins");
        let owner = NOBODY.parse().ok();
        std::os::unix::fs::chown(&dir, owner, owner).expect("it can be given away");
        let binary = dir.parent().unwrap().with_extension("binary");
        fixture::install(&binary);
        Nobody { bed, binary }
    }

    fn run(&self, capabilities: &str, words: &str) -> fixture::Run {
        let output = Command::new("nsenter")
            .arg(format!("--net={}", self.bed.ns.path().display()))
            .args(["setpriv", "--clear-groups"])
            .args(["--reuid", NOBODY, "--regid", NOBODY])
            .args(["--inh-caps", capabilities, "--ambient-caps", capabilities])
            .arg(&self.binary)
            .args(["--pin-dir", self.bed.pins.dir().to_str().unwrap()])
            .args(words.split_whitespace())
            .output();
        fixture::Run::from(output.expect("it runs"))
    }
}

impl Drop for Nobody<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.binary);
    }
}

#[test]
fn attach_and_its_ledger_need_three_capabilities_and_all_else_needs_none() {
    let bed = Bed::new();
    let nobody = Nobody::new(&bed);
    for (without, missing) in [
        ("+net_admin,+perfmon", "CAP_BPF"),
        ("+bpf,+perfmon", "CAP_NET_ADMIN"),
        ("+bpf,+net_admin", "CAP_PERFMON"),
    ] {
        let lacks = format!("this process lacks {missing}: run it as root");
        for words in ["attach v0", "attach v0 --no-ledger"] {
            nobody.run(without, words).fails(5, &[&lacks]);
        }
    }
    let attached = nobody.run(CAPABILITIES, "attach v0 --json").ok().json();
    assert_eq!(attached[0]["ledger"], "on");
    for words in [
        "status",
        "rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev v1",
        "rule list",
        "stats",
        "rule del --all",
        "detach --all",
    ] {
        nobody.run("-all", words).ok();
    }
}

#[test]
fn detach_says_what_it_did_where_a_directory_has_to_stay() {
    let bed = Bed::new();
    let dir = bed.pins.dir();
    let nobody = Nobody::new(&bed);
    let run = |words: &str| nobody.run(CAPABILITIES, words);
    run("attach v0 v1").ok();
    let first = run("detach v0").ok();
    assert_eq!(
        (first.out.as_str(), first.err.as_str()),
        ("v0: detached\n", "")
    );
    let last = run("detach --all").ok();
    assert_eq!(last.out, "v1: detached\n");
    assert_eq!(last.err.lines().count(), 1, "{last:?}");
    for words in ["warning: cannot remove", "rmdir", dir.to_str().unwrap()] {
        assert!(last.err.contains(words), "{words}: {last:?}");
    }
    assert_eq!((bed.program("v0"), bed.program("v1")), (None, None));
    assert_eq!(bed.pins.left(), std::slice::from_ref(&dir));

    run("attach v0").ok();
    let json = run("detach v0 --json").ok();
    assert_eq!(json.json()["detached"], serde_json::json!(["v0"]));
}

#[test]
fn keep_rules_keeps_rules_and_counters_for_the_next_attach() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan");
    lan.add_backend(0, "");
    let (server, vm) = (lan.server_socket(0), lan.vm_socket());
    for _ in 0..3 {
        vm.send_to(b"one", ANYWHERE).unwrap();
        receive(&server);
    }
    let rules = tool.json("rule list");
    assert_eq!(rules[0]["forward_packages"], 3);

    assert!(
        tool.ok("detach --all --keep-rules")
            .out
            .contains("are kept")
    );
    assert_eq!(tool.json("rule list"), rules);
    assert_eq!(tool.json("status")["interfaces"], serde_json::json!([]));
    tool.ok("attach lan --mode native");
    vm.send_to(b"two", ANYWHERE).unwrap();
    assert_eq!(receive(&server).0, "two");
    assert_eq!(lan.forwarded(0).0, 4);
    tool.ok("detach --all");
    assert!(lan.pins.left().is_empty());
}

#[test]
fn the_packets_keep_flowing_when_no_run_is_left() {
    let lan = Lan::new(false, 1);
    lan.tool().ok("attach lan");
    lan.add_backend(0, "");
    // Every run has ended: only pins and the link are there.
    let (server, vm) = (lan.server_socket(0), lan.vm_socket());
    vm.send_to(b"hello", ANYWHERE).unwrap();
    assert_eq!(receive(&server).0, "hello");
}

/// As docker leaves a container: its veth has no GRO, and takes nothing from native programs.
#[test]
fn what_a_vms_tap_sends_reaches_a_container_as_it_is() {
    let lan = Lan::new(false, 1);
    lan.servers[0].exec("ethtool -K eth0 gro off");
    let mut tap = Tap::new(&lan.host, "tap0", false);
    let run = lan.tool().ok("attach tap0");
    assert!(run.err.is_empty(), "{run:?}");
    lan.add_backend(0, "");
    let server = lan.server_socket(0);
    tap.write(&Frame::default().bytes(), Checksum::Full);
    assert_eq!(receive(&server).0, "hello ebpf");
}
