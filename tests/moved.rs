//! Interfaces whose device was moved to another network namespace, with the program on it.

use crate::fixture::lan::{Lan, socket};
use crate::fixture::{self, Ns, Tool};
use serde_json::{Value, json};

const MODES: [&str; 2] = ["skb", "native"];

/// A lan whose interface `lan` is attached, and was moved to another namespace.
struct Bed {
    lan: Lan,
    elsewhere: Ns,
    ifindex: u32,
}

impl Bed {
    fn new(mode: &str) -> Self {
        let bed = Bed::before(mode);
        bed.move_away();
        bed
    }

    fn before(mode: &str) -> Self {
        let lan = Lan::new(false, 1);
        lan.tool().ok(&format!("attach lan --mode {mode}"));
        lan.add_backend(0, "");
        Bed {
            elsewhere: Ns::new("elsewhere"),
            ifindex: lan.host.ifindex("lan"),
            lan,
        }
    }

    fn move_away(&self) {
        let to = &self.elsewhere;
        self.lan.host.ip(&format!("link set lan netns {}", to.name));
        self.serve(to, "lan");
    }

    fn move_back(&self, name: &str) {
        let words = format!("link set lan netns {} name {name}", self.lan.host.name);
        self.elsewhere.ip(&words);
        self.serve(&self.lan.host, name);
    }

    /// Has the client's gateway on a device, and its port there.
    fn serve(&self, ns: &Ns, device: &str) {
        ns.ip(&format!("link set {device} up"));
        ns.ip(&format!("addr add 192.168.122.1/24 dev {device}"));
    }

    fn tool(&self) -> Tool<'_> {
        self.lan.tool()
    }

    fn state(&self) -> Value {
        self.tool().json("status")["interfaces"][0]["state"].clone()
    }

    fn finding(&self) -> Value {
        let all = self.tool().run("doctor --json").json();
        let mut all = all.as_array().expect("findings").iter();
        let found = all.find(|finding| finding["check"] == "interface");
        found.cloned().unwrap_or_default()
    }

    /// Sends one packet to the port that the rule takes; whether the server gets it, rather than the
    /// namespace that the interface is in.
    #[track_caller]
    fn is_redirected(&self, to: &Ns) -> bool {
        let server = self.lan.server_socket(0);
        let here = socket(to, "192.168.122.1:7999");
        self.lan
            .vm_socket()
            .send_to(b"one", "192.168.122.1:7999")
            .expect("it is sent");
        for socket in [&server, &here] {
            socket.set_nonblocking(true).expect("it can be asked");
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while std::time::Instant::now() < deadline {
            let mut buffer = [0; 16];
            for (redirected, socket) in [(true, &server), (false, &here)] {
                if socket.recv(&mut buffer).is_ok() {
                    return redirected;
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("it arrives nowhere");
    }

    /// The programs on devices, by `ip`.
    fn programs(&self, ns: &Ns) -> usize {
        ns.ip("link show").matches("prog/xdp").count()
    }
}

#[test]
fn status_and_doctor_tell_that_it_was_moved() {
    for mode in MODES {
        let bed = Bed::new(mode);
        assert!(bed.is_redirected(&bed.elsewhere), "{mode}");
        assert_eq!(bed.state(), "moved", "{mode}");
        let status = bed.tool().ok("status").out;
        assert!(status.contains("lan (moved)"), "{status}");

        assert_eq!(bed.tool().run("doctor").code, 7);
        let found = bed.finding();
        assert_eq!(found["severity"], "problem");
        assert_eq!(found["subject"], "lan");
        let consequence = found["consequence"].as_str().expect("words");
        assert!(consequence.contains("still redirected"), "{found}");
        let place = format!("the program runs on lan in {}", bed.elsewhere.name);
        assert_eq!(found["evidence"], place.as_str());
        let mend = found["mend"].as_str().expect("words");
        assert!(mend.contains("detach lan --keep-rules`"), "{found}");
    }
}

#[test]
fn detach_ends_it_where_it_is() {
    for mode in MODES {
        let bed = Bed::new(mode);
        let out = bed.tool().ok("detach lan").out;
        assert!(out.starts_with("lan: detached\n"), "{out}");
        assert!(!bed.is_redirected(&bed.elsewhere), "{mode}");
        assert_eq!(bed.programs(&bed.elsewhere), 0, "{mode}");
        assert!(bed.lan.pins.left().is_empty(), "{mode}");
    }
}

#[test]
fn moved_back_it_is_attached_as_before() {
    for mode in MODES {
        let bed = Bed::new(mode);
        bed.move_back("lan");
        assert_eq!(bed.lan.host.ifindex("lan"), bed.ifindex);
        assert_eq!(bed.state(), "attached", "{mode}");
        assert_eq!(bed.finding(), Value::Null);
        assert!(bed.is_redirected(&bed.lan.host), "{mode}");
    }
}

#[test]
fn another_device_with_its_index_is_not_taken_for_it() {
    let bed = Bed::new("skb");
    let words = format!("link add other0 index {} type bridge", bed.ifindex);
    bed.lan.host.ip(&words);
    assert_eq!(bed.state(), "moved");
    let tool = bed.tool();
    assert_eq!(tool.json("status")["interfaces"][0]["ifname"], "lan");
    assert_eq!(tool.json("stats")["interfaces"][0]["ifname"], "lan");
    assert_eq!(bed.finding()["subject"], "lan");
    tool.run("detach other0").fails(3, &["other0"]);
    assert_eq!(bed.programs(&bed.elsewhere), 1);
    assert_eq!(tool.json("detach lan")["detached"], json!(["lan"]));
    assert_eq!(bed.programs(&bed.elsewhere), 0);
}

#[test]
fn back_under_another_index_it_is_found_and_attached_again() {
    let bed = Bed::new("native");
    let words = format!("link add other0 index {} type bridge", bed.ifindex);
    bed.lan.host.ip(&words);
    bed.move_back("lan1");
    let now = bed.lan.host.ifindex("lan1");
    assert_ne!(now, bed.ifindex);
    assert_eq!(bed.state(), "moved");
    let found = bed.finding();
    let evidence = found["evidence"].as_str().expect("words");
    assert!(
        evidence.contains(&format!("it is lan1 now, ifindex {now}")),
        "{found}"
    );
    let mend = found["mend"].as_str().expect("words");
    let binary = format!("{} ", fixture::BINARY);
    let command = mend.trim_matches('`').replace("xdpredir ", &binary);
    fixture::command("sh", &["-c", &command]);
    assert_eq!(bed.state(), "attached");
    assert_eq!(bed.finding(), Value::Null);
    assert!(bed.is_redirected(&bed.lan.host));
}

#[test]
fn attach_in_its_place_takes_the_program_off_it_first() {
    for (mode, index) in [("skb", true), ("native", false)] {
        let bed = Bed::new(mode);
        let host = &bed.lan.host;
        let peer = Ns::new("peer");
        let index = if index {
            format!("index {}", bed.ifindex)
        } else {
            String::new()
        };
        let words = format!(
            "link add lan {index} type veth peer name eth0 netns {}",
            peer.name
        );
        host.ip(&words);
        let out = bed.tool().ok("attach lan").out;
        assert!(out.starts_with("lan: detached from the device"), "{out}");
        assert!(out.contains("lan: attached in skb mode"), "{out}");
        assert_eq!(bed.programs(&bed.elsewhere), 0, "{mode}");
        assert!(!bed.is_redirected(&bed.elsewhere), "{mode}");
        let interfaces = bed.tool().json("status")["interfaces"].clone();
        assert_eq!(interfaces.as_array().expect("interfaces").len(), 1);
        assert_eq!(interfaces[0]["state"], "attached");
        assert_eq!(interfaces[0]["ifindex"], host.ifindex("lan"));
    }
}

#[test]
fn an_attach_that_fails_says_what_it_has_detached() {
    let bed = Bed::new("skb");
    bed.lan.host.ip("link add lan type bridge");
    bed.tool().run("attach lan --mode native").fails(
        6,
        &[
            "detached lan in another network namespace",
            "does not support XDP",
        ],
    );
    assert_eq!(bed.programs(&bed.elsewhere), 0);
}

#[test]
fn attach_elsewhere_leaves_it_as_it_is() {
    let bed = Bed::new("skb");
    let out = bed.tool().ok("attach wan0").out;
    assert!(!out.contains("detached"), "{out}");
    assert_eq!(bed.state(), "moved");
    assert!(bed.is_redirected(&bed.elsewhere));
}

#[test]
fn gone_with_its_new_namespace_it_is_gone() {
    let bed = Bed::new("skb");
    bed.elsewhere.ip("link del lan");
    assert_eq!(bed.state(), "gone");
    assert_eq!(bed.tool().ok("detach lan").err, "");
    assert!(bed.lan.pins.left().is_empty());
}
