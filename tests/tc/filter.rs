//! Where the kernel has no links at the tc hook (before Linux 6.6), the program is attached by a filter, beside those
//! of others. This kernel plays such a one.

use std::os::fd::AsFd;
use std::path::PathBuf;

use libbpf_rs::{TC_INGRESS, TcHook};
use serde_json::{Value, json};

use crate::fixture::foreign::{Foreign, TC};
use crate::fixture::guest::{self, without_tcx};
use crate::fixture::lan::{ANYWHERE, Lan, receive};
use crate::fixture::other_kernel::Played;
use crate::fixture::{Ns, Run, Tool, kill};

/// What tc knows of: at which priority, for which protocol, of which kind, with which handle.
const OURS: &str = "prio 1 handle 0x78647072 bpf";

struct Bed {
    lan: Lan,
    _kernel: Option<Played>,
}

impl Bed {
    fn new() -> Self {
        let kernel = without_tcx().next();
        if kernel.is_none() && guest::is_kernel(6, 6) {
            guest::not_applicable("there are links at the tc hook");
        }
        Bed {
            lan: Lan::new(false, 1),
            _kernel: kernel,
        }
    }

    fn tool(&self) -> Tool<'_> {
        self.lan.tool()
    }

    fn attach(&self) {
        self.tool().ok("attach lan --mode tc");
        self.lan.add_backend(0, "");
    }

    /// Runs `tc` with these words.
    fn tc(&self, words: &str) -> String {
        tc(&self.lan.host, words)
    }

    fn filters(&self) -> String {
        self.tc("filter show dev lan ingress")
    }

    fn has_ours(&self) -> bool {
        self.filters().contains(" xdpredir:[")
    }

    fn qdiscs(&self) -> String {
        self.tc("qdisc show dev lan")
    }

    /// What status says of the one interface; none where there is none.
    fn interface(&self) -> Option<Value> {
        let status = self.tool().json("status");
        let all = status["interfaces"].as_array().expect("interfaces");
        assert!(all.len() <= 1, "{status}");
        all.first().cloned()
    }

    fn state(&self) -> Value {
        self.interface().expect("an interface")["state"].clone()
    }

    fn is_redirected(&self) {
        let server = self.lan.server_socket(0);
        let vm = self.lan.vm_socket();
        vm.send_to(b"hello", ANYWHERE).expect("it is sent");
        assert_eq!(receive(&server).0, "hello");
    }

    /// Neither pins nor filters nor qdisc.
    fn is_clean(&self) {
        assert_eq!(self.lan.pins.left(), Vec::<PathBuf>::new());
        assert!(!self.qdiscs().contains("clsact"), "{}", self.qdiscs());
    }
}

fn tc(ns: &Ns, words: &str) -> String {
    ns.exec(&format!("tc {words}"))
}

/// Somebody else's program in a filter where packets arrive; None: at a handle that the kernel chooses.
fn filter_of_others(bed: &Bed, handle: Option<u32>, replaces: bool) -> Foreign {
    const TC_ACT_UNSPEC: i32 = -1;
    let program = Foreign::returning("another", TC_ACT_UNSPEC, TC);
    let ifindex = bed.lan.host.ifindex("lan") as i32;
    bed.lan.host.enter(|| {
        let mut hook = TcHook::new(program.as_fd());
        hook.ifindex(ifindex).attach_point(TC_INGRESS).priority(1);
        hook.handle(handle.unwrap_or(0)).replace(replaces);
        hook.attach().expect("the kernel takes it");
    });
    program
}

#[test]
fn a_filter_attaches_the_program_and_detaching_removes_it_with_the_qdisc() {
    let bed = Bed::new();
    bed.attach();
    let interface = bed.interface().expect("an interface");
    assert_eq!(
        [
            &interface["mode"],
            &interface["state"],
            &interface["link_id"]
        ],
        [&json!("tc"), &json!("attached"), &Value::Null]
    );
    assert!(bed.filters().contains("direct-action"), "{}", bed.filters());
    let id = format!(" id {} ", interface["program_id"]);
    assert!(bed.filters().contains(&id), "{id}: {}", bed.filters());
    bed.is_redirected();
    let again = bed.tool().ok("attach lan --mode tc");
    assert!(again.out.contains("already attached"), "{again:?}");
    let doctor = bed.tool().json("doctor");
    let all = doctor.as_array().expect("findings");
    assert!(
        all.iter().all(|found| found["severity"] != "problem"),
        "{doctor}"
    );
    bed.tool().ok("detach lan");
    bed.is_clean();
}

#[test]
fn filters_and_qdiscs_of_others_stay_as_they_are_and_ours_is_asked_first() {
    const U32: &str = "u32 match u32 0 0 flowid :1";
    for qdisc in ["clsact", "ingress"] {
        for others in [
            vec![],
            vec!["ingress prio 1 protocol ip"],
            vec![
                "ingress prio 1 protocol all",
                "ingress prio 2 protocol ipv6",
            ],
            vec![
                "ingress prio 7 protocol ip",
                "ingress chain 5 prio 2 protocol ip",
            ],
        ] {
            let bed = Bed::new();
            bed.tc(&format!("qdisc add dev lan {qdisc}"));
            for other in &others {
                bed.tc(&format!("filter add dev lan {other} {U32}"));
            }
            let before = [bed.filters(), bed.qdiscs()];
            bed.attach();
            let first = others
                .iter()
                .filter(|other| other.contains("prio 1") || other.contains("ingress prio 2"));
            let ours = format!("pref {} bpf", first.count() + 1);
            assert!(bed.filters().contains(&ours), "{ours}: {}", bed.filters());
            if !others.iter().any(|other| other.contains("prio 1")) {
                bed.is_redirected();
            }
            bed.tool().ok("detach lan");
            assert_eq!([bed.filters(), bed.qdiscs()], before);
        }
    }
}

#[test]
fn a_qdisc_that_others_use_since_stays() {
    for at in ["ingress", "egress"] {
        let bed = Bed::new();
        bed.attach();
        bed.tc(&format!(
            "filter add dev lan {at} prio 9 u32 match u32 0 0 flowid :1"
        ));
        bed.tool().ok("detach lan");
        assert!(!bed.has_ours());
        assert!(bed.qdiscs().contains("clsact"));
        assert!(bed.tc(&format!("filter show dev lan {at}")).contains("u32"));
        assert!(bed.lan.pins.left().is_empty());
    }
}

#[test]
fn programs_of_others_share_the_priority_and_another_pin_directory_has_one_of_its_own() {
    let bed = Bed::new();
    bed.tc("qdisc add dev lan clsact");
    let other = filter_of_others(&bed, None, false);
    bed.attach();
    let filters = bed.filters();
    assert_eq!(
        filters.matches("pref 1 bpf chain 0 handle").count(),
        2,
        "{filters}"
    );
    bed.is_redirected();
    let pins = super::Pins::new();
    let second = Tool {
        ns: &bed.lan.host,
        pins: &pins,
    };
    second.ok("attach lan --mode tc");
    assert!(
        bed.filters()
            .contains("pref 2 bpf chain 0 handle 0x78647072"),
        "{}",
        bed.filters()
    );
    second.ok("detach lan");
    assert_eq!(bed.filters(), filters);
    bed.is_redirected();
    bed.tool().ok("detach lan");
    assert_eq!(bed.filters().matches("handle").count(), 1);
    drop(other);
}

type Happens<'a> = &'a dyn Fn(&Bed);

/// What others do to the filter, and what is then said of the interface.
#[test]
fn a_filter_that_somebody_removed_or_replaced_is_missed_and_attach_adds_it_again() {
    let remove = |bed: &Bed| drop(bed.tc(&format!("filter del dev lan ingress {OURS}")));
    let flush = |bed: &Bed| drop(bed.tc("filter del dev lan ingress"));
    let destroy = |bed: &Bed| drop(bed.tc("qdisc del dev lan clsact"));
    let replace = |bed: &Bed| drop(filter_of_others(bed, Some(0x7864_7072), true));
    let leave_and_return = |bed: &Bed| {
        let elsewhere = Ns::new("elsewhere");
        bed.lan
            .host
            .ip(&format!("link set lan netns {}", elsewhere.name));
        assert_eq!(bed.state(), "gone");
        elsewhere.ip(&format!("link set lan netns {}", bed.lan.host.name));
        bed.lan.host.ip("addr add 192.168.122.1/24 dev lan");
        bed.lan.host.ip("link set lan up");
    };
    let cases: [(&str, Happens); 5] = [
        ("removed", &remove),
        ("flushed", &flush),
        ("its qdisc is gone", &destroy),
        ("replaced", &replace),
        ("moved and back", &leave_and_return),
    ];
    for (what, happens) in cases {
        let bed = Bed::new();
        bed.attach();
        happens(&bed);
        assert_eq!(bed.state(), "detached", "{what}");
        let doctor = bed.tool().run("doctor");
        assert_eq!(doctor.code, 7, "{what}: {doctor:?}");
        let foreign = bed.filters();
        bed.tool().ok("attach lan --mode tc");
        bed.is_redirected();
        happens(&bed);
        bed.tool().ok("detach lan");
        assert!(bed.lan.pins.left().is_empty(), "{what}");
        assert_eq!(
            bed.filters().contains("another"),
            what == "replaced",
            "{what}: {foreign}"
        );
    }
}

#[test]
fn an_interface_whose_device_is_gone_is_detached_as_any_other() {
    let bed = Bed::new();
    bed.attach();
    bed.lan.host.ip("link del lan");
    assert_eq!(bed.state(), "gone");
    bed.tool().ok("detach --all");
    assert!(bed.lan.pins.left().is_empty());
}

/// Kills runs of these words before their changes. After each, either lan is attached and the kernel has the filter, or
/// lan is not attached, and a filter that is there does nothing; `back` is told which, and makes it as it was before. How many runs left the one and the other.
fn kill_at_changes(bed: &Bed, words: &str, back: impl Fn(bool)) -> [usize; 2] {
    let run = || bed.tool().command(words);
    let (was, changes) = (bed.has_ours(), kill::count_changes(&mut run()));
    assert_ne!(bed.has_ours(), was);
    back(!was);
    let mut left = [0, 0];
    for n in kill::mostly_the_last(changes, 12) {
        let killed = kill::before_change(&mut run(), n);
        let status = bed.tool().json("status");
        let mut all = status["interfaces"].as_array().expect("interfaces").iter();
        let lan = all.find(|i| i["ifname"] == "lan");
        assert!(killed || lan.is_some() != was, "{n}: {status}");
        assert!(lan.is_none() || bed.has_ours(), "{n}: {status}");
        assert!(
            lan.is_none_or(|lan| lan["state"] == "attached"),
            "{n}: {status}"
        );
        back(lan.is_some());
        left[usize::from(lan.is_some())] += 1;
    }
    left
}

#[test]
fn an_attach_killed_at_any_instant_leaves_all_or_nothing() {
    let bed = Bed::new();
    bed.tool().ok("attach wan0 --mode skb"); // so that the rules stay
    bed.lan.add_backend(0, "");
    let left = kill_at_changes(&bed, "attach lan --mode tc", |is_there| {
        let again = bed.tool().ok("attach lan --mode tc");
        assert_eq!(
            again.out.contains("already attached"),
            is_there,
            "{again:?}"
        );
        bed.tool().ok("detach lan");
        assert!(!bed.qdiscs().contains("clsact"));
    });
    assert!(left.iter().all(|&count| count > 1), "{left:?}");
    bed.tool().ok("attach lan --mode tc");
    bed.is_redirected();
    bed.tool().ok("detach --all");
    bed.is_clean();
}

#[test]
fn a_detach_killed_at_any_instant_leaves_all_or_nothing() {
    let bed = Bed::new();
    bed.tool().ok("attach wan0 --mode skb");
    bed.tool().ok("attach lan --mode tc");
    let left = kill_at_changes(&bed, "detach lan", |is_there| {
        let again = bed.tool().run("detach lan");
        assert_eq!(again.code, if is_there { 0 } else { 3 }, "{again:?}");
        bed.tool().ok("attach lan --mode tc");
    });
    assert!(left.iter().all(|&count| count > 1), "{left:?}");
    bed.tool().ok("detach --all");
    bed.is_clean();
}

#[test]
fn runs_at_once_end_in_one_or_the_other() {
    let bed = Bed::new();
    for _ in 0..4 {
        let words = [
            "attach lan --mode tc",
            "detach --all",
            "attach wan0 lan --mode tc",
            "detach lan",
        ];
        let runs = words.map(|words| bed.tool().spawn(words));
        for (index, run) in runs.into_iter().enumerate() {
            let run = Run::from(run.wait_with_output().expect("it ends"));
            let allowed: &[i32] = if index % 2 == 0 { &[0] } else { &[0, 3] };
            assert!(allowed.contains(&run.code), "{run:?}");
        }
        bed.tool().ok("attach lan --mode tc");
        assert_eq!(bed.filters().matches(" xdpredir:[").count(), 1);
    }
    bed.tool().ok("detach --all");
    bed.is_clean();
}

/// A block of filters that devices share takes none by one of them.
#[test]
fn a_device_whose_filters_are_shared_is_refused_in_the_kernels_words() {
    let bed = Bed::new();
    bed.tc("qdisc add dev lan ingress_block 5 clsact");
    let before = bed.qdiscs();
    let run = bed.tool().run("attach wan0 lan --mode tc");
    run.fails(6, &["lan cannot run tc programs", "hared"]);
    assert!(bed.lan.pins.left().is_empty());
    assert_eq!(bed.qdiscs(), before);
    assert!(!bed.tc("qdisc show dev wan0").contains("clsact"));
}
