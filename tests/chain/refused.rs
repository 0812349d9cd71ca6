//! What a chain does not take.

use std::path::Path;

use libbpf_rs::libbpf_sys;

use super::MODES;
use super::bed::Bed;
use crate::fixture::foreign::{Foreign, How, XDP, of_xdp_tools};
use crate::fixture::{command, guest};

const HEAD: &str = "
#include <linux/bpf.h>
#define SEC(name) __attribute__((section(name), used))
char _license[] SEC(\"license\") = \"GPL\";
static void *(*lookup)(void *map, const void *key) = (void *)1;
";

/// Has a map.
pub const COUNTS: &str = "
struct { int (*type)[2]; int (*max_entries)[1]; int *key; long *value; } packets SEC(\".maps\");
SEC(\"xdp\") int counts(struct xdp_md *ctx)
{
	int key = 0;
	long *count = lookup(&packets, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	return XDP_PASS;
}
";

/// Compiles a program, as its authors do.
pub fn compile(directory: &Path, name: &str, code: &str) -> String {
    let (source, object) = (
        directory.join(format!("{name}.c")),
        directory.join(format!("{name}.o")),
    );
    std::fs::write(&source, format!("{HEAD}{code}")).expect("it is written");
    let words = [
        "-O2",
        "-g",
        "-target",
        "bpf",
        "-I",
        "/usr/include/x86_64-linux-gnu",
        "-c",
    ];
    let (source, object) = (source.display().to_string(), object.display().to_string());
    let mut words = words.to_vec();
    words.extend([&*source, "-o", &*object]);
    command("clang", &words);
    object
}

#[test]
fn files_without_a_program_that_fits_are_refused() {
    guest::not_in_guests("a compiler is needed");
    let bed = Bed::new("skb");
    let directory = tempfile::tempdir().expect("a directory");
    let compile = |name, code| compile(directory.path(), name, code);
    let fails = |source: &str, code: i32, words: &[&str]| {
        let run = bed.tool().run(&format!("chain add lan {source}"));
        run.fails(code, words);
    };
    let broken = compile(
        "broken",
        "SEC(\"xdp\") int broken(struct xdp_md *ctx)
        { return *(int *)(long)ctx->data; }",
    );
    fails(
        &broken,
        6,
        &[
            "verifier refused the program broken: ",
            "R1 offset is outside of the packet",
        ],
    );
    let two = compile(
        "two",
        "SEC(\"xdp\") int one(struct xdp_md *ctx) { return XDP_PASS; }
        SEC(\"xdp\") int two(struct xdp_md *ctx) { return XDP_PASS; }
        SEC(\"xdp/devmap\") int behind(struct xdp_md *ctx) { return XDP_PASS; }
        SEC(\"tc\") int skb(struct __sk_buff *skb) { return 0; }",
    );
    fails(&two, 2, &["several XDP programs: one, two", "two.o:one"]);
    fails(
        &format!("{two}:three"),
        3,
        &["no program three", "one, two"],
    );
    fails(
        &format!("{two}:xdp"),
        2,
        &["several XDP programs: one, two"],
    );
    fails(&format!("{two}:skb"), 2, &["skb is no XDP program"]);
    fails(
        &format!("{two}:behind"),
        2,
        &["behind is for entries of a devmap"],
    );
    let none = compile(
        "none",
        "SEC(\"tc\") int skb(struct __sk_buff *skb) { return 0; }",
    );
    fails(&none, 2, &["none.o: has no XDP program"]);
    let calls = compile(
        "calls",
        "struct { int (*type)[3]; int (*max_entries)[1]; int *key; int *value; } next SEC(\".maps\");
        static long (*call)(void *ctx, void *map, int slot) = (void *)12;
        SEC(\"xdp\") int calls(struct xdp_md *ctx) { call(ctx, &next, 0); return XDP_PASS; }",
    );
    fails(
        &calls,
        6,
        &["calls programs by a prog array", "load and pin it"],
    );
    fails(
        &format!("{}/none.c", directory.path().display()),
        2,
        &["no BPF object file"],
    );
    fails("/nowhere.o", 3, &["/nowhere.o: there is no such file"]);
    // Sections that libbpf does not know have to be named.
    let old = compile(
        "old",
        "SEC(\"prog\") int old(struct xdp_md *ctx) { return XDP_PASS; }",
    );
    let words = [
        "old.o: has no XDP program, as far as its sections say, but old",
        "old.o:old",
    ];
    fails(&old, 2, &words);
    bed.tool().ok(&format!("chain add lan {old}:prog"));
    bed.tool().ok("chain del lan old");
    // Frames in several buffers come to all of a chain, or to none.
    let frags = compile(
        "frags",
        "SEC(\"xdp.frags\") int frags(struct xdp_md *ctx) { return XDP_PASS; }",
    );
    bed.tool().ok(&format!("chain add lan {two}:two"));
    fails(
        &frags,
        4,
        &["frags takes frames in several buffers", "and two does not"],
    );
    bed.tool().ok("chain del lan two");
    bed.tool().ok(&format!("chain add lan {frags}"));
    assert_eq!(bed.chain(), ["frags"]);
    assert_eq!(bed.dropped(&[7001]), [0u16; 0]);
}

#[test]
fn a_device_with_large_frames_takes_no_program_that_would_not_see_them_whole() {
    guest::needs_kernel(6, 3, "frames in several buffers are redirected");
    let bed = Bed::without_rules();
    for (ns, device) in [(&bed.lan.host, "lan"), (&bed.lan.vm, "eth0")] {
        ns.ip(&format!("link set {device} mtu 9000"));
    }
    let attached = bed.tool().ok("attach lan --mode native").out;
    assert!(
        attached.contains("in several buffers a frame"),
        "{attached}"
    );
    let pin = bed.pin(7001);
    let run = bed.tool().run(&format!("chain add lan {pin}"));
    run.fails(6, &["lan has an MTU of 9000", "drop_7001", "xdp.frags"]);
    let frags = How {
        flags: libbpf_sys::BPF_F_XDP_HAS_FRAGS,
        ..XDP
    };
    let path = bed.path("frags");
    Foreign::returning("frags", 2, frags).pin(&path);
    bed.tool().ok(&format!("chain add lan {}", path.display()));
    assert_eq!(bed.chain(), ["frags"]);
}

#[test]
fn pins_of_what_does_not_fit_are_refused() {
    let bed = Bed::new("skb");
    let fails = |name: &str, how: How, code: i32, words: &[&str]| {
        let path = bed.path(name);
        Foreign::returning(name, 0, how).pin(&path);
        let run = bed.tool().run(&format!("chain add lan {}", path.display()));
        run.fails(code, words);
    };
    let filter = How {
        kind: libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
        attach_type: 0,
        flags: 0,
    };
    fails("filter", filter, 2, &["filter is no XDP program"]);
    for (name, attach_type) in [
        ("behind_dev", libbpf_sys::BPF_XDP_DEVMAP),
        ("behind_cpu", libbpf_sys::BPF_XDP_CPUMAP),
    ] {
        let how = How { attach_type, ..XDP };
        fails(name, how, 2, &["is for entries of a devmap or cpumap"]);
    }
    let state = bed.lan.pins.namespace().join("state");
    let map = state.join("live-3");
    let link = state.join(format!("if-{}/link", bed.lan.host.ifindex("lan")));
    for path in [map, link] {
        let run = bed.tool().run(&format!("chain add lan {}", path.display()));
        run.fails(2, &["no program is pinned there"]);
    }
    let run = bed
        .tool()
        .run(&format!("chain add lan {}", state.display()));
    run.fails(2, &["is a directory"]);
    let own = bed.path("own");
    let id = bed.program().expect("ours") as u32;
    let ours = libbpf_rs::ProgramHandle::from_prog_id(id).expect("ours");
    ours.pin(&own).expect("it is pinned");
    let run = bed.tool().run(&format!("chain add lan {}", own.display()));
    run.fails(2, &["is a program of this command"]);
    assert_eq!(bed.chain(), [""; 0]);
}

#[test]
fn programs_without_an_attach_type_are_taken_where_the_kernel_can() {
    let bed = Bed::new("skb");
    let none = How {
        attach_type: 0,
        ..XDP
    };
    let path = bed.path("untyped");
    Foreign::returning("untyped", 2, none).pin(&path);
    let run = bed.tool().run(&format!("chain add lan {}", path.display()));
    // Kernels of late 2025 look at the types of what a program calls, stable ones too.
    if run.code == 0 {
        assert_eq!(bed.chain(), ["untyped"]);
    } else {
        run.fails(6, &["lets no other program call untyped", "object files"]);
        assert_eq!(bed.chain(), [""; 0]);
    }
    assert_eq!(bed.dropped(&[7001]), [0u16; 0]);
}

#[test]
fn what_is_meant_has_to_be_there_and_free() {
    let bed = Bed::new("skb");
    bed.add(7001, "--priority 7");
    let pin = bed.pin(7002);
    let run = bed.tool().run(&format!("chain add lan {pin} --priority 7"));
    run.fails(4, &["lan: drop_7001 has priority 7 already"]);
    let run = bed.tool().run(&format!("chain add lan {pin} --on pass,no"));
    assert_eq!(run.code, 2, "{run:?}");
    let run = bed.tool().run(&format!("chain add wan0 {pin}"));
    run.fails(3, &["wan0: not attached"]);
    for words in ["lan drop_7002", "lan 8", "wan0 drop_7001"] {
        let run = bed.tool().run(&format!("chain del {words}"));
        assert_eq!(run.code, 3, "{run:?}");
    }
    bed.tool().ok(&format!("chain add lan {pin}"));
    bed.tool().ok(&format!("chain add lan {pin}"));
    let run = bed.tool().run("chain del lan drop_7002");
    run.fails(2, &["several programs", "17, 27"]);
    bed.tool().run("chain list wan0").fails(3, &["wan0"]);
    bed.tool().ok("detach lan");
    bed.tool().run("chain list").fails(3, &["not attached"]);
    bed.tool().ok("attach lan --mode tc");
    let run = bed.tool().run(&format!("chain add lan {pin}"));
    run.fails(6, &["lan is attached at the tc hook", "detach lan"]);
}

#[test]
fn the_kernel_calls_32_programs_and_no_more() {
    let bed = Bed::new("native");
    let path = bed.path("pass");
    Foreign::returning("pass", 2, XDP).pin(&path);
    let add = format!("chain add lan {}", path.display());
    for _ in 0..31 {
        bed.tool().ok(&add);
    }
    bed.add(7001, "");
    let run = bed.tool().run(&add);
    run.fails(4, &["lan has 32 programs in its chain", "chain list"]);
    assert_eq!(bed.dropped(&[7001]), [7001]);
    let stats = bed.tool().json("stats");
    assert_eq!(stats["interfaces"][0]["not_reached"], 0);
    let [drop, _, skipped] = bed.counted("drop_7001");
    assert_eq!([drop, skipped], [1, 0]);
}

/// Because the kernel has no freplace; where it has, because xdp-loader has not attached it.
#[test]
fn a_dispatcher_that_ours_cannot_join_stays() {
    for mode in MODES {
        let bed = Bed::without_rules();
        let object = of_xdp_tools("xdp-dispatcher.o");
        let dispatcher = Foreign::of_object(&object, "xdp_dispatcher");
        dispatcher.attach(&bed.lan.host, "lan", mode);
        for words in ["attach lan", "attach lan --priority 5"] {
            let why = [
                "xdp_dispatcher",
                "which ours cannot join: ",
                "--force",
                "--mode tc",
            ];
            bed.tool().run(words).fails(4, &why);
        }
        assert_eq!(bed.program(), Some(dispatcher.id().into()));
        assert!(bed.lan.pins.left().is_empty());
    }
}
