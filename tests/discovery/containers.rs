//! Backends that are found in containers, through the engines.

use super::bed::{
    BY_HAND, Engines, Sleeper, arrives, attached, connect, only_row, remembered, rows,
};
use crate::fixture::{Ns, Run, command};
use serde_json::json;

#[test]
fn a_container_is_followed_to_its_new_namespace() {
    for engine in ["docker", "podman"] {
        let (lan, old, new) = (attached(), Ns::new("old"), Ns::new("new"));
        connect(&lan.host, "old", &old, &["172.17.0.2/16"]);
        connect(&lan.host, "new", &new, &["172.17.0.3/16"]);
        let (before, after) = (Sleeper::new(&old), Sleeper::new(&new));
        let (tool, engines) = (lan.tool(), Engines::new(&[engine]));
        engines.start("web", before.pid());
        let added = engines.run(&tool, "rule add --container web").ok();
        let said = "server 172.17.0.2: the address of eth0 in container web";
        assert!(added.out.contains(said), "{added:?}");
        assert_eq!(only_row(&tool)["origin"], "container web");
        arrives(&lan, &old, "before");

        engines.start("web", after.pid());
        let out = engines.run(&tool, "rule refresh").ok().out;
        assert!(out.contains("server 172.17.0.2 -> 172.17.0.3"), "{out}");
        arrives(&lan, &new, "after");
        let row = only_row(&tool);
        assert_eq!(
            (&row["server"], &row["forward_packages"]),
            (&json!("172.17.0.3"), &json!(2))
        );
        assert_eq!(
            (remembered(&lan), &row["origin"]),
            (1, &json!("container web"))
        );
    }
}

#[test]
fn a_container_that_cannot_be_found_is_exit_3_with_the_engines_words() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    let add = |engines: &Engines| engines.run(&tool, "rule add --container web");
    let mut none = tool.command("rule add --container web");
    let none: Run = none.env("PATH", "/nonexistent").output().unwrap().into();
    none.fails(
        3,
        &[
            "container web",
            "neither docker nor podman is installed",
            "--pid",
        ],
    );
    let both = Engines::new(&["docker", "podman"]);
    add(&both).fails(
        3,
        &["docker says: Error: No such container: web", "podman says"],
    );
    both.start("web", 0);
    add(&both).fails(3, &["container web", "not running"]);
    std::fs::write(both.path("pid-web"), "nonsense").unwrap();
    add(&both).fails(1, &["container web", "docker", "nonsense"]);
    assert_eq!((rows(&tool).len(), remembered(&lan)), (0, 0));
}

/// As with a daemon that hangs.
#[test]
fn an_engine_that_never_answers_is_left_and_the_next_one_asked() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let (tool, sleeper) = (lan.tool(), Sleeper::new(&server));
    let engines = Engines::new(&["podman"]);
    std::fs::write(engines.path("hangs"), "#!/bin/sh\nexec sleep 600\n").unwrap();
    command(
        "install",
        &["-m", "755", &engines.path("hangs"), &engines.path("docker")],
    );
    let add = || engines.run(&tool, "rule add --container web");
    add().fails(3, &["cannot run docker", "no answer within", "podman says"]);
    engines.start("web", sleeper.pid());
    add().ok();
    assert_eq!(only_row(&tool)["server"], "172.17.0.2");
}

#[test]
fn what_cannot_be_meant_is_refused_and_nothing_is_remembered() {
    let (lan, server) = (attached(), Ns::new("server"));
    let tool = lan.tool();
    let long = format!("/{}", "x".repeat(130));
    let name = &server.name;
    let own = format!("--server-netns {}", lan.host.name);
    let cases: Vec<(String, i32, Vec<&str>)> = vec![
        (
            format!("--pid 1 --server-netns {name}"),
            2,
            vec!["--pid", "--server-netns"],
        ),
        (
            "--pid 1 --container web".into(),
            2,
            vec!["--pid", "--container"],
        ),
        (
            format!("--pid 1 --mac {BY_HAND}"),
            2,
            vec!["--pid", "--mac"],
        ),
        (
            "--container web --dev lan".into(),
            2,
            vec!["--container", "--dev"],
        ),
        (
            format!("--server-netns {name} --ifindex 1"),
            2,
            vec!["--server-netns", "--ifindex"],
        ),
        ("--pid 0".into(), 2, vec!["--pid"]),
        (
            "--pid 2147483647".into(),
            3,
            vec!["pid 2147483647", "no such process"],
        ),
        (
            "--server-netns nope".into(),
            3,
            vec!["netns nope", "no such network namespace"],
        ),
        (
            "--server-netns /etc/passwd".into(),
            2,
            vec!["/etc/passwd", "not a network namespace"],
        ),
        (
            format!("--server-netns {name}"),
            3,
            vec![name, "veth", "--server"],
        ),
        (own, 2, vec![&lan.host.name, "this one"]),
        (
            format!("--server-netns {long}"),
            2,
            vec!["--server-netns", "too long"],
        ),
        (
            format!("--container {}", &long[1..]),
            2,
            vec!["--container", "too long"],
        ),
        ("--pid 1 --server 127.0.0.1".into(), 2, vec!["127.0.0.1"]),
    ];
    for (words, code, said) in cases {
        tool.run(&format!("rule add {words}")).fails(code, &said);
    }
    lan.host.veth("wan", &server, "eth0");
    tool.run(&format!("rule add --server-netns {name}"))
        .fails(3, &[name, "global", "address"]);
    assert_eq!((rows(&tool).len(), remembered(&lan)), (0, 0));
}

#[test]
fn a_name_that_just_fits_is_remembered_whole() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let sleeper = Sleeper::new(&server);
    let (tool, engines) = (lan.tool(), Engines::new(&["docker"]));
    let name = "x".repeat(127 - "container ".len());
    engines.start(&name, sleeper.pid());
    engines
        .run(&tool, &format!("rule add --container {name}"))
        .ok();
    assert_eq!(only_row(&tool)["origin"], format!("container {name}"));
    engines
        .run(&tool, &format!("rule add --container {name}x"))
        .fails(2, &["too long", "by 1 byte"]);
}
