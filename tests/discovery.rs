//! Backends that are found, not typed: in network namespaces, of processes, in containers; and found
//! again once they have moved.

mod fixture;

use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use fixture::lan::{ANYWHERE, Lan, mac, receive, socket};
use fixture::{Ns, Run, Tool, command, eventually};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use serde_json::{Value, json};
use tempfile::TempDir;

const BY_HAND: &str = "02:00:00:00:00:01";

/// A host with a VM, attached in generic mode, which needs nothing of a server's device.
fn attached() -> Lan {
    let lan = Lan::new(false, 0);
    lan.tool().ok("attach lan --mode skb");
    lan
}

/// Connects a server: `name` here, eth0 there, with these addresses.
fn connect(host: &Ns, name: &str, server: &Ns, addresses: &[&str]) {
    host.veth(name, server, "eth0");
    for address in addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        server.ip(&format!("addr add {address} dev eth0 {nodad}"));
    }
}

/// The server's namespace goes, and its device with it; another comes under the same name.
fn restart(host: &Ns, name: &str, server: &Ns, addresses: &[&str]) {
    server.restart();
    eventually("the kernel has removed the veth", || {
        !host.ip("-br link").contains(&format!("{name}@"))
    });
    // So that the new one has another index than the old one.
    host.ip(&format!("link add {name}x type bridge"));
    connect(host, name, server, addresses);
}

#[track_caller]
fn arrives(lan: &Lan, server: &Ns, text: &str) {
    let receiver = socket(server, "0.0.0.0:7999");
    lan.vm_socket().send_to(text.as_bytes(), ANYWHERE).unwrap();
    assert_eq!(receive(&receiver).0, text);
}

fn rows(tool: &Tool) -> Vec<Value> {
    tool.json("rule list").as_array().unwrap().clone()
}

fn only_row(tool: &Tool) -> Value {
    let rows = rows(tool);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}

/// How many backends are remembered in the kernel.
fn remembered(lan: &Lan) -> usize {
    origins(lan).keys().count()
}

fn origins(lan: &Lan) -> MapHandle {
    let pins = lan.pins.left();
    let pin = pins.iter().find(|path| path.ends_with("locators"));
    MapHandle::from_pinned_path(pin.expect("the map is pinned")).unwrap()
}

/// A process that sleeps in a namespace.
struct Sleeper(Child);

impl Sleeper {
    fn new(ns: &Ns) -> Self {
        let net = format!("--net={}", ns.path().display());
        let child = Command::new("nsenter").args([&net, "sleep", "600"]).spawn();
        let sleeper = Sleeper(child.expect("nsenter is there"));
        let inode = |path: &str| std::fs::metadata(path).map(|file| file.ino()).ok();
        let wanted = inode(ns.path().to_str().unwrap());
        let own = format!("/proc/{}/ns/net", sleeper.pid());
        eventually("it has entered", || inode(&own) == wanted);
        sleeper
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory with engines that know the containers whose files are in it.
struct Engines(TempDir);

impl Engines {
    fn new(names: &[&str]) -> Self {
        let engines = Engines(tempfile::tempdir().unwrap());
        let script = engines.path("script");
        let text = format!(
            r#"#!/bin/sh
[ "$1" = inspect ] || exit 64
case "$*" in *" --format {{{{.State.Pid}}}} "*) ;; *) exit 64 ;; esac
for name; do :; done
cat "{}/pid-$name" 2>/dev/null || {{ echo "Error: No such container: $name" >&2; exit 1; }}
"#,
            engines.0.path().display()
        );
        std::fs::write(&script, text).unwrap();
        for name in names {
            // By another process: see `fixture::install`.
            command("install", &["-m", "755", &script, &engines.path(name)]);
        }
        engines
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn start(&self, container: &str, pid: u32) {
        std::fs::write(self.path(&format!("pid-{container}")), format!("{pid}\n")).unwrap();
    }

    /// These engines alone, and what a script needs.
    fn run(&self, tool: &Tool, words: &str) -> Run {
        let mut command = tool.command(words);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.0.path().display()));
        command.output().unwrap().into()
    }
}

#[test]
fn a_namespace_by_name_tells_all_and_is_followed_when_it_is_made_anew() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    let added = tool.ok(&format!("rule add --server-netns {}", server.name));
    let old_mac = mac(&server, "eth0");
    let old_index = lan.host.ifindex("wan");
    for said in [
        "-> 172.17.0.2 ".to_string(),
        "server 172.17.0.2: the address of eth0".to_string(),
        format!("mac {old_mac}: that of eth0"),
        format!("dev wan (ifindex {old_index})"),
    ] {
        assert!(added.out.contains(&said), "{said}: {added:?}");
    }
    arrives(&lan, &server, "before");
    let row = only_row(&tool);
    assert_eq!(row["origin"], format!("netns {}", server.name));
    assert_eq!(row["state"], "up");
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");

    restart(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    assert_eq!(only_row(&tool)["state"], "device_gone");
    let (new_mac, new_index) = (mac(&server, "eth0"), lan.host.ifindex("wan"));
    assert_ne!((&old_mac, old_index), (&new_mac, new_index));
    let out = tool.ok("rule refresh").out;
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(
        out.starts_with("refreshed src 0.0.0.0/0 udp port 7999 -> 172.17.0.2: "),
        "{out}"
    );
    for said in [
        format!("mac {old_mac} -> {new_mac}"),
        format!("ifindex {old_index} (gone) -> {new_index} (wan)"),
    ] {
        assert!(out.contains(&said), "{said}: {out}");
    }
    arrives(&lan, &server, "after");
    let row = only_row(&tool);
    assert_eq!(
        (&row["state"], &row["forward_packages"]),
        (&json!("up"), &json!(2))
    );
    assert_eq!(row["origin"], format!("netns {}", server.name));
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
}

#[test]
fn a_namespace_by_path_is_remembered_from_anywhere() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    let mut add = tool.command(&format!("rule add --server-netns ./{}", server.name));
    let run: Run = add.current_dir("/run/netns").output().unwrap().into();
    run.ok();
    let origin = format!("netns {}", server.path().display());
    assert_eq!(only_row(&tool)["origin"], origin);
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
}

#[test]
fn a_process_is_followed_to_a_new_device_and_a_new_address() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let sleeper = Sleeper::new(&server);
    let tool = lan.tool();
    let row = tool.json(&format!("rule add --pid {}", sleeper.pid()));
    assert_eq!(row["server"], "172.17.0.2");
    assert_eq!(row["mac"], mac(&server, "eth0"));
    let origin = format!("pid {} started ", sleeper.pid());
    assert!(
        row["origin"].as_str().unwrap().starts_with(&origin),
        "{row}"
    );
    arrives(&lan, &server, "before");

    lan.host.ip("link del wan");
    connect(&lan.host, "wan9", &server, &["172.17.0.9/16"]);
    let refreshed = tool.json("rule refresh");
    assert_eq!(refreshed["failed"], json!([]));
    let [one] = refreshed["refreshed"].as_array().unwrap().as_slice() else {
        panic!("one is refreshed: {refreshed}");
    };
    assert_eq!(
        (&one["src"], &one["port"]),
        (&json!("0.0.0.0/0"), &json!(7999))
    );
    assert_eq!(one["old"]["server"], "172.17.0.2");
    assert_eq!(
        (&one["new"]["server"], &one["new"]["ifname"]),
        (&json!("172.17.0.9"), &json!("wan9"))
    );
    arrives(&lan, &server, "after");
    let row = only_row(&tool);
    assert_eq!(
        (&row["server"], &row["forward_packages"]),
        (&json!("172.17.0.9"), &json!(2))
    );

    drop(sleeper);
    let run = tool.run("rule refresh");
    run.fails(1, &["172.17.0.9", "no such process"]);
    assert_eq!(only_row(&tool), row);
}

#[test]
fn another_process_with_the_number_of_an_earlier_one_is_not_followed() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let sleeper = Sleeper::new(&server);
    let (tool, pid) = (lan.tool(), sleeper.pid());
    let mut row = tool.json(&format!("rule add --pid {pid}"));
    row["origin"] = json!(format!("pid {pid} started 1"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), row.to_string()).unwrap();
    tool.ok(&format!("rule load {}", file.path().display()));
    tool.run("rule refresh")
        .fails(1, &[&format!("pid {pid}"), "another process"]);
}

#[test]
fn what_nobody_has_any_more_makes_room_to_remember() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    tool.ok("rule add --dev wan --port 1");
    let map = origins(&lan);
    // As runs that were killed half-way leave them.
    for counter in 1_000_000u32.. {
        let key = counter.to_ne_bytes();
        if map.update(&key, &[b'x'; 128], MapFlags::ANY).is_err() {
            break;
        }
    }
    assert_eq!(map.keys().count(), map.max_entries() as usize);
    tool.ok("rule add --dev wan --port 2");
    assert_eq!(remembered(&lan), 2);
}

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
fn several_addresses_are_named_and_one_of_them_can_be_chosen() {
    let (lan, server) = (attached(), Ns::dual_stack("server"));
    connect(
        &lan.host,
        "wan",
        &server,
        &["172.17.0.2/16", "172.17.0.3/16", "fd00:17::2/64"],
    );
    server.ip("addr add 172.31.0.4/16 dev eth0 scope link");
    lan.host.veth("other", &server, "eth1");
    server.ip("addr add 10.9.0.2/24 dev eth1");
    let tool = lan.tool();
    let add = format!("rule add --server-netns {}", server.name);
    let several = tool.run(&add);
    assert!(!several.err.contains("172.31.0.4"), "{several:?}");
    several.fails(
        2,
        &[
            "172.17.0.2 (eth0)",
            "172.17.0.3 (eth0)",
            "10.9.0.2 (eth1)",
            "--server",
        ],
    );
    tool.run(&format!("{add} --server 172.17.0.77"))
        .fails(3, &["172.17.0.77", "172.17.0.2 (eth0)", "10.9.0.2 (eth1)"]);
    assert_eq!((rows(&tool).len(), remembered(&lan)), (0, 0));

    let row = tool.json(&format!("{add} --server 10.9.0.2"));
    assert_eq!(
        (&row["mac"], &row["ifname"]),
        (&json!(mac(&server, "eth1")), &json!("other"))
    );
    // The rule's own family tells, too.
    let row = tool.json(&format!("{add} --src fd00::/16"));
    assert_eq!(
        (&row["server"], &row["ifname"]),
        (&json!("fd00:17::2"), &json!("wan"))
    );
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
    for gone in ["172.17.0.3/16", "172.31.0.4/16"] {
        server.ip(&format!("addr del {gone} dev eth0"));
    }
    server.ip("link del eth1");
    // One address of either family: IPv4 it is.
    assert_eq!(
        tool.json(&format!("{add} --port 1"))["server"],
        "172.17.0.2"
    );
}

#[test]
fn a_veth_tells_all_about_what_is_behind_it() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    // No route leads there, and no neighbour is known.
    let row = tool.json("rule add --dev wan");
    assert_eq!(
        (&row["server"], &row["mac"]),
        (&json!("172.17.0.2"), &json!(mac(&server, "eth0")))
    );
    assert_eq!(row["origin"], "device wan");
    assert_eq!(
        tool.json("rule add --dev wan --server 172.17.0.2 --port 1")["mac"],
        row["mac"]
    );
    arrives(&lan, &server, "before");

    restart(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    assert_eq!(tool.ok("rule refresh").out.lines().count(), 2);
    arrives(&lan, &server, "after");

    lan.host.ip("link add here type veth peer name too");
    for device in ["here", "lo"] {
        tool.run(&format!("rule add --dev {device}"))
            .fails(2, &[&format!("--dev {device}"), "--server"]);
    }
}

#[test]
fn a_veth_is_followed_to_its_peers_new_address() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    tool.ok("rule add --dev wan");
    server.ip("addr flush dev eth0");
    tool.run("rule refresh").fails(1, &["172.17.0.2 stays"]);
    server.ip("addr add 172.17.0.9/16 dev eth0");
    let refreshed = tool.ok("rule refresh").out;
    assert!(
        refreshed.contains("172.17.0.2 -> 172.17.0.9"),
        "{refreshed}"
    );
    arrives(&lan, &server, "after");
    // One that has its address, beside others, keeps it.
    server.ip("addr add 172.17.0.10/16 dev eth0");
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
}

#[test]
fn behind_a_bridge_the_port_itself_is_the_device() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("link add docker0 type bridge");
    lan.host.ip("link set wan master docker0");
    lan.host.ip("link set docker0 up");
    let tool = lan.tool();
    let row = tool.json(&format!("rule add --server-netns {}", server.name));
    assert_eq!(
        (&row["ifname"], &row["state"]),
        (&json!("wan"), &json!("up"))
    );
    arrives(&lan, &server, "hello");
}

/// The neighbour table still has the old address, confirmed a moment ago.
#[test]
fn a_neighbour_that_has_restarted_behind_a_bridge_is_asked_anew() {
    let (lan, server) = (attached(), Ns::new("server"));
    lan.host.ip("link add docker0 type bridge");
    lan.host.ip("link set docker0 up");
    lan.host.ip("addr add 172.17.0.1/16 dev docker0");
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("link set wan master docker0");
    let tool = lan.tool();
    let row = tool.json("rule add --server 172.17.0.2");
    assert_eq!(
        (&row["origin"], &row["ifname"]),
        (&json!("route"), &json!("wan"))
    );
    arrives(&lan, &server, "before");

    restart(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("link set wan master docker0");
    let old = row["mac"].as_str().unwrap();
    lan.host.ip(&format!(
        "neigh replace 172.17.0.2 lladdr {old} nud reachable dev docker0"
    ));
    let out = tool.ok("rule refresh").out;
    assert!(
        out.contains(&format!("mac {old} -> {}", mac(&server, "eth0"))),
        "{out}"
    );
    arrives(&lan, &server, "after");
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
            "--server-netns /etc/hostname".into(),
            2,
            vec!["/etc/hostname", "not a network namespace"],
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

#[test]
fn refresh_leaves_what_it_cannot_find_and_refreshes_the_others() {
    let lan = attached();
    let servers = [Ns::new("one"), Ns::new("two")];
    let addresses = ["172.17.0.2/16", "172.17.0.3/16"];
    for (number, server) in servers.iter().enumerate() {
        connect(
            &lan.host,
            &format!("wan{number}"),
            server,
            &[addresses[number]],
        );
    }
    let tool = lan.tool();
    for server in &servers {
        tool.ok(&format!("rule add --server-netns {}", server.name));
    }
    tool.ok(&format!(
        "rule add --server-netns {} --port 1",
        servers[1].name
    ));
    tool.ok(&format!(
        "rule add --server 172.17.0.9 --mac {BY_HAND} --dev lan"
    ));
    let before = rows(&tool);
    assert_eq!((before.len(), remembered(&lan)), (4, 3));

    command("ip", &["netns", "del", &servers[0].name]);
    restart(&lan.host, "wan1", &servers[1], &[addresses[1]]);
    tool.run("rule refresh --port 2").fails(3, &["rule list"]);
    tool.run("rule refresh --server 172.17.0.8")
        .fails(3, &["rule list"]);
    assert_eq!(
        tool.ok("rule refresh --server 172.17.0.9").out,
        "nothing to refresh\n"
    );
    let port_1 = tool.json("rule refresh --port 1 --proto udp --src 0.0.0.0/0");
    assert_eq!(port_1["refreshed"].as_array().unwrap().len(), 1);

    let run = tool.run("rule refresh");
    assert_eq!(run.out.lines().count(), 1, "{run:?}");
    assert!(run.out.contains("-> 172.17.0.3: mac"), "{run:?}");
    run.fails(
        1,
        &[
            "172.17.0.2 stays as it is",
            &servers[0].name,
            "no such network namespace",
        ],
    );
    let json = tool.run("rule refresh --json");
    assert_eq!(json.code, 1);
    let json = json.json();
    assert_eq!(json["refreshed"], json!([]));
    assert_eq!(json["failed"][0]["server"], "172.17.0.2");

    let of = |rows: &[Value], server: &str| -> Value {
        let has = |row: &&Value| row["server"] == server && row["port"] == 7999;
        let mut row = rows.iter().find(has).expect("it is there").clone();
        row["state"] = Value::Null;
        row["ifname"] = Value::Null;
        row
    };
    let after = rows(&tool);
    for kept in ["172.17.0.2", "172.17.0.9"] {
        assert_eq!(of(&before, kept), of(&after, kept));
    }
    assert_eq!(of(&after, "172.17.0.3")["mac"], mac(&servers[1], "eth0"));
    command("ip", &["netns", "add", &servers[0].name]);
}

#[test]
fn addresses_that_two_backends_have_swapped_are_swapped_and_one_that_is_taken_is_refused() {
    let lan = attached();
    let servers = [Ns::new("one"), Ns::new("two")];
    connect(&lan.host, "wan0", &servers[0], &["172.17.0.2/16"]);
    connect(&lan.host, "wan1", &servers[1], &["172.17.0.3/16"]);
    let sleepers = [Sleeper::new(&servers[0]), Sleeper::new(&servers[1])];
    let tool = lan.tool();
    for sleeper in &sleepers {
        tool.ok(&format!("rule add --pid {} --weight {}", sleeper.pid(), 5));
    }
    let origins = || -> Vec<Value> {
        rows(&tool)
            .iter()
            .map(|row| row["origin"].clone())
            .collect()
    };
    let before = origins();
    servers[0].ip("addr flush dev eth0");
    servers[0].ip("addr add 172.17.0.3/16 dev eth0");
    let run = tool.run("rule refresh");
    run.fails(
        1,
        &[
            "172.17.0.2 stays as it is",
            "172.17.0.3 is another backend's",
        ],
    );
    assert_eq!(origins(), before);

    servers[1].ip("addr flush dev eth0");
    servers[1].ip("addr add 172.17.0.2/16 dev eth0");
    assert_eq!(tool.ok("rule refresh").out.lines().count(), 2);
    assert_eq!(origins(), [before[1].clone(), before[0].clone()]);
    assert_eq!(rows(&tool)[0]["mac"], mac(&servers[1], "eth0"));
}

#[test]
fn an_origin_lives_as_long_as_what_it_tells_of() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("addr add 172.17.0.1/16 dev wan");
    let tool = lan.tool();
    let origin = || only_row(&tool)["origin"].clone();
    let netns = json!(format!("netns {}", server.name));
    let add_netns = format!("rule add --server-netns {}", server.name);
    tool.ok(&add_netns);
    tool.ok("rule add --server 172.17.0.2 --weight 9");
    assert_eq!(origin(), netns);
    tool.ok("rule add --server 172.17.0.2");
    assert_eq!(origin(), netns);
    tool.ok(&format!("rule add --server 172.17.0.2 --mac {BY_HAND}"));
    assert_eq!((origin(), remembered(&lan)), (Value::Null, 0));
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
    assert_eq!(only_row(&tool)["mac"], BY_HAND);
    tool.ok("rule add --server 172.17.0.2");
    assert_eq!(origin(), "route");
    tool.ok(&add_netns);
    assert_eq!(origin(), netns);

    // What was listed can be loaded again.
    let listed = only_row(&tool);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), listed.to_string()).unwrap();
    let load = format!("rule load {}", file.path().display());
    tool.ok("rule del --all");
    assert_eq!(remembered(&lan), 0);
    tool.ok(&load);
    assert_eq!((only_row(&tool), remembered(&lan)), (listed.clone(), 1));
    let mut by_hand = listed.clone();
    by_hand["origin"] = Value::Null;
    std::fs::write(file.path(), by_hand.to_string()).unwrap();
    tool.ok(&load);
    assert_eq!((origin(), remembered(&lan)), (Value::Null, 0));
    for bad in [
        "vm web",
        "container a\nb",
        &format!("netns {}", "x".repeat(130)),
    ] {
        let mut line = listed.clone();
        line["origin"] = json!(bad);
        std::fs::write(file.path(), line.to_string()).unwrap();
        tool.run(&load).fails(2, &["origin"]);
    }

    // With one backend of several, and with a rule.
    tool.ok(&add_netns);
    tool.ok(&format!(
        "rule add --server 172.17.0.9 --mac {BY_HAND} --dev wan"
    ));
    tool.ok("rule del --server 172.17.0.2");
    assert_eq!(remembered(&lan), 0);
    tool.ok(&add_netns);
    tool.ok("rule del");
    assert_eq!(remembered(&lan), 0);
}

#[test]
fn a_change_of_the_egress_device_is_refreshed_too() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    tool.ok("rule add --dev wan");
    lan.host.ip("link set wan address 02:00:00:00:00:42");
    lan.host.exec("ethtool -K wan tx off");
    let out = tool.ok("rule refresh").out;
    assert!(
        out.contains("source mac ") && out.contains("-> 02:00:00:00:00:42"),
        "{out}"
    );
    assert!(out.contains("completes checksums yes -> no"), "{out}");
    assert_eq!(tool.ok("rule refresh").out, "nothing to refresh\n");
}

/// Another device comes with the index of the old one: nothing of the backend is another, but the
/// kernel has forgotten the device.
#[test]
fn a_device_that_came_back_with_its_index_is_taken_into_service_again() {
    let (lan, server) = (attached(), Ns::new("server"));
    let make = || {
        let there = &server.name;
        lan.host.ip(&format!(
            "link add wan index 777 address 02:00:00:00:07:77 type veth peer name eth0 address 02:00:00:00:00:77 netns {there}"
        ));
        lan.host.ip("link set wan up");
        server.ip("link set eth0 up");
        server.ip("addr add 172.17.0.2/16 dev eth0");
    };
    make();
    let tool = lan.tool();
    tool.ok("rule add --dev wan");
    lan.host.ip("link del wan");
    make();
    assert_eq!(only_row(&tool)["state"], "device_gone");
    let out = tool.ok("rule refresh").out;
    assert!(
        out.contains("ifindex 777 (wan) is another device now"),
        "{out}"
    );
    arrives(&lan, &server, "hello");
}

#[test]
fn rule_list_shows_the_states_and_only_where_not_all_are_up() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    lan.host.ip("addr add 172.17.0.1/16 dev wan");
    let tool = lan.tool();
    tool.ok("rule add --server 172.17.0.2");
    let state = || only_row(&tool)["state"].clone();
    let heading = || tool.ok("rule list").out.lines().next().unwrap().to_string();
    let shown = |text: &str| {
        let list = tool.ok("rule list").out;
        assert!(list.contains(text) && heading().contains("state"), "{list}");
    };
    assert_eq!(state(), "up");
    assert!(!heading().contains("state"));
    assert_eq!(tool.json("stats")["rules"][0]["state"], "up");

    server.ip("link set eth0 address 02:00:00:00:00:66");
    assert_eq!(state(), "stale_mac");
    shown("stale MAC");
    tool.ok("rule refresh");
    assert_eq!(state(), "up");

    lan.host.ip("addr del 172.17.0.1/16 dev wan");
    assert_eq!(state(), "no_route");
    shown("no route");
    server.ip("link set eth0 down");
    assert_eq!(state(), "link_down");
    shown("link down");
    lan.host.ip("link del wan");
    assert_eq!(state(), "device_gone");
    shown("device gone");
}

/// Behind a bridge in the other namespace, or a macvlan there, only the neighbour table tells.
#[test]
fn a_mac_that_is_not_the_peers_own_is_stale_unless_the_peer_takes_frames_for_others() {
    let (lan, server) = (attached(), Ns::new("server"));
    lan.host.veth("wan", &server, "eth0");
    server.ip("link add br0 address 02:00:00:00:00:55 type bridge");
    server.ip("link set eth0 master br0");
    server.ip("link set br0 up");
    server.ip("addr add 172.17.0.2/16 dev br0");
    lan.host.ip("addr add 172.17.0.1/16 dev wan");
    let tool = lan.tool();
    tool.ok(&format!(
        "rule add --server 172.17.0.2 --mac {BY_HAND} --dev wan"
    ));
    let state = || only_row(&tool)["state"].clone();
    assert_eq!(state(), "up");
    lan.host
        .ip("neigh replace 172.17.0.2 lladdr 02:00:00:00:00:54 dev wan");
    assert_eq!(state(), "stale_mac");
    lan.host.ip(&format!(
        "neigh replace 172.17.0.2 lladdr {BY_HAND} dev wan"
    ));
    assert_eq!(state(), "up");
    // From now on the peer takes what is for itself alone.
    server.ip("link set eth0 nomaster");
    assert_eq!(state(), "stale_mac");
    server.ip("link add link eth0 name own0 address 02:00:00:00:00:01 type macvlan");
    server.ip("link set own0 up");
    assert_eq!(state(), "up");
}

#[test]
fn a_gateway_with_another_mac_makes_the_servers_behind_it_stale() {
    let (lan, gateway) = (attached(), Ns::new("gateway"));
    connect(&lan.host, "wan", &gateway, &["172.17.0.2/16"]);
    gateway.ip("link add br0 address 02:00:00:00:00:55 type bridge");
    gateway.ip("link set br0 up");
    gateway.ip("addr flush dev eth0");
    gateway.ip("link set eth0 master br0");
    gateway.ip("addr add 172.17.0.2/16 dev br0");
    lan.host.ip("addr add 172.17.0.1/16 dev wan");
    lan.host.ip("route add 10.99.0.0/24 via 172.17.0.2");
    let tool = lan.tool();
    tool.ok("rule add --server 10.99.0.5");
    assert_eq!(only_row(&tool)["state"], "up");
    lan.host
        .ip("neigh replace 172.17.0.2 lladdr 02:00:00:00:00:54 dev wan");
    assert_eq!(only_row(&tool)["state"], "stale_mac");
}

/// The way that one run has found anew is not undone by another that was told a weight alone.
#[test]
fn a_new_weight_keeps_the_way_that_is_found_meanwhile() {
    let (lan, server) = (attached(), Ns::new("server"));
    connect(&lan.host, "wan", &server, &["172.17.0.2/16"]);
    let tool = lan.tool();
    tool.ok("rule add --dev wan");
    for round in 1..=20 {
        let mac = format!("02:00:00:00:01:{round:02x}");
        server.ip(&format!("link set eth0 address {mac}"));
        let mut add = tool.command(&format!("rule add --server 172.17.0.2 --weight {round}"));
        let silent = add.stdout(Stdio::null()).stderr(Stdio::null());
        let mut add = silent.spawn().unwrap();
        tool.ok("rule refresh");
        assert!(add.wait().unwrap().success());
        let row = only_row(&tool);
        assert_eq!((&row["mac"], &row["weight"]), (&json!(mac), &json!(round)));
    }
}

#[test]
fn a_pipe_is_no_namespace() {
    let lan = attached();
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe").display().to_string();
    command("mkfifo", &[&pipe]);
    let tool = lan.tool();
    let words = format!("rule add --server-netns {pipe}");
    tool.run(&words).fails(2, &["not a network namespace"]);
}
