//! `stats --watch` on a terminal: what is on the screen, which keys it obeys, and how it gives the terminal back.
//! Needs tmux.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fixture::lan::Lan;
use crate::fixture::{Host, Tool, command, eventually};
use tempfile::TempDir;

/// A terminal in a tmux server of its own, with a shell.
struct Screen(TempDir);

impl Screen {
    fn new(columns: u16, rows: u16) -> Self {
        let screen = Screen(tempfile::tempdir().expect("a directory"));
        let (columns, rows) = (columns.to_string(), rows.to_string());
        screen.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &rows,
            "env",
            "PS1=READY> ",
            "sh",
        ]);
        screen.wait_for("READY>");
        screen
    }

    fn tmux(&self, words: &[&str]) -> String {
        let socket = self.0.path().join("tmux");
        let socket = socket.to_str().expect("a plain path");
        command("tmux", &[&["-u", "-S", socket], words].concat())
    }

    /// Runs a command in the shell.
    fn run(&self, command: &Command) {
        let mut words = vec!["env".to_string()];
        let variables = command.get_envs();
        words.extend(variables.map(|(name, value)| {
            let value = value.expect("no variable is removed").to_str();
            format!("{}={}", name.to_str().unwrap(), value.unwrap())
        }));
        let arguments = std::iter::once(command.get_program()).chain(command.get_args());
        words.extend(arguments.map(|word| word.to_str().unwrap().to_string()));
        self.type_line(&words.join(" "));
    }

    fn watch(&self, tool: &Tool, words: &str) {
        self.run(&tool.command(&format!("stats --watch 50ms {words}")));
        self.wait_for("losing first");
    }

    fn type_line(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn shows(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What is shown as soon as it is so, within ten seconds.
    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let give_up = Instant::now() + Duration::from_secs(10);
        loop {
            let text = self.shows();
            if is_so(&text) {
                return text;
            }
            assert!(Instant::now() < give_up, "{what} is not shown:\n{text}");
            sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn wait_for(&self, words: &str) -> String {
        self.wait_until(words, |text| text.contains(words))
    }

    fn says(&self, format: &str) -> String {
        let said = self.tmux(&["display-message", "-p", format]);
        said.trim().to_string()
    }

    /// That the shell has the terminal again, on the screen that it had, and as it was set.
    #[track_caller]
    fn is_given_back(&self) {
        // What is typed before is the watch's.
        self.wait_for("READY>");
        self.type_line("stty -a; echo over");
        let shown = self.wait_until("the shell runs a command", |text| text.contains("\nover"));
        let settings: Vec<&str> = shown.split_whitespace().collect();
        assert!(
            settings.contains(&"icanon") && settings.contains(&"echo"),
            "{shown}"
        );
        assert_eq!(
            self.says("#{alternate_on} #{cursor_flag}"),
            "0 1",
            "{shown}"
        );
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let socket = self.0.path().join("tmux");
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(socket)
            .arg("kill-server")
            .status();
    }
}

/// A host with one interface, and a rule for each of so many ports from 1 on.
fn bed(rules: usize) -> Host {
    let host = Host::new();
    host.ns.ip("link add v0 type veth peer name v1");
    host.tool().ok("attach v0 --mode skb");
    let v1 = host.ns.ifindex("v1");
    let rules = (1..=rules).map(|port| {
        format!("{{\"src\":\"0.0.0.0/0\",\"proto\":\"udp\",\"port\":{port},\"server\":\"10.1.1.{port}\",\"mac\":\"02:00:00:00:00:01\",\"ifindex\":{v1},\"reply\":\"none\"}}\n")
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), rules.collect::<String>()).expect("it is written");
    host.tool()
        .ok(&format!("rule load {}", file.path().display()));
    host
}

#[test]
fn keys_scroll_sort_filter_and_end_a_watch() {
    let host = bed(40);
    let screen = Screen::new(100, 16);
    screen.watch(&host.tool(), "");
    let first = screen.wait_for("10.1.1.1 ");
    assert!(first.contains("rows not shown"), "{first}");
    assert!(!first.contains("10.1.1.40"), "{first}");
    screen.press(&["End"]);
    screen.wait_for("10.1.1.40");
    screen.press(&["Home"]);
    screen.wait_for("10.1.1.1 ");
    screen.press(&["Down"]);
    screen.wait_until("the second is the first", |text| {
        text.contains("10.1.1.2 ") && !text.contains("10.1.1.1 ")
    });
    screen.press(&["PageDown"]);
    screen.wait_until("a page further", |text| !text.contains("10.1.1.2 "));
    screen.press(&["s"]);
    screen.wait_until("the order of rules, from its beginning", |text| {
        text.contains("in the order of rules") && text.contains("10.1.1.1 ")
    });
    screen.press(&["/"]);
    screen.tmux(&["send-keys", "-l", "1.1.33q"]);
    screen.wait_for("/1.1.33q_");
    screen.press(&["BSpace", "Enter"]);
    let filtered = screen.wait_for("filter 1.1.33: 1 of 40 backends");
    assert!(
        filtered.contains("10.1.1.33") && filtered.contains("q ends;"),
        "{filtered}"
    );
    screen.press(&["Escape"]);
    screen.wait_until("the filter is gone", |text| !text.contains("filter 1"));
    screen.press(&["q"]);
    let last = screen.wait_for("READY>");
    assert!(
        last.contains("10.1.1.1 ") && !last.contains("q ends"),
        "what was last seen: {last}"
    );
    screen.is_given_back();
}

#[test]
fn a_filter_finds_outcomes_and_devices_too() {
    let host = bed(3);
    let screen = Screen::new(100, 24);
    screen.watch(&host.tool(), "");
    screen.press(&["/"]);
    screen.tmux(&["send-keys", "-l", "V0 SKB REDIRECT"]);
    screen.wait_until("one line", |text| {
        text.contains("redirect") && !text.contains("aborted")
    });
    screen.press(&["Escape", "/"]);
    screen.tmux(&["send-keys", "-l", "v1"]);
    screen.wait_for("filter v1: 3 of 3 backends");
    screen.press(&["Escape", "q"]);
    screen.is_given_back();
}

#[test]
fn a_backend_that_loses_packets_comes_first_and_its_rate_has_a_trend() {
    let lan = Lan::new(false, 2);
    lan.servers[1].exec("ethtool -K eth0 gro off");
    lan.tool().ok("attach lan --mode native");
    for (number, port) in [(0, "1"), (1, "2")] {
        lan.add_backend(number, &format!("--port {port}"));
    }
    let screen = Screen::new(140, 30);
    screen.watch(&lan.tool(), "");
    let socket = lan.vm_socket();
    let is_first = |text: &str, first: &str, then: &str| {
        let place = |server: &str| text.find(server);
        place(first)
            .zip(place(then))
            .is_some_and(|(first, then)| first < then)
    };
    // The other one is busier by far.
    eventually("the losing one is first", || {
        for port in [1, 1, 1, 1, 2] {
            socket
                .send_to(b"x", ("11.22.33.44", port))
                .expect("it is sent");
        }
        let text = screen.shows();
        is_first(&text, "172.17.0.3", "172.17.0.2") && text.contains("lost/s") && text.contains('█')
    });
    screen.press(&["s"]);
    screen.wait_until("the order of rules", |text| {
        is_first(text, "172.17.0.2", "172.17.0.3")
    });
}

#[test]
fn a_watch_fits_screens_of_all_sizes_and_follows_their_change() {
    let host = bed(40);
    let screen = Screen::new(120, 40);
    screen.watch(&host.tool(), "--per-cpu");
    for (columns, rows) in [(60, 12), (20, 5), (10, 2), (200, 60), (7, 1), (80, 24)] {
        let (x, y) = (columns.to_string(), rows.to_string());
        screen.tmux(&["resize-window", "-x", &x, "-y", &y]);
        screen.wait_until("the last line is the last", |text| {
            let lines: Vec<&str> = text.trim_end().lines().collect();
            let fits = lines.iter().all(|line| line.chars().count() <= columns);
            let is_help = |line: &&str| "q ends; 3".starts_with(&line[..line.len().min(6)]);
            fits && lines.len() <= rows && lines.last().is_some_and(is_help)
        });
    }
    screen.wait_for("10.1.1.1 ");
    screen.press(&["q"]);
    screen.is_given_back();
}

#[test]
fn ctrl_z_gives_the_terminal_back_until_the_watch_goes_on() {
    let host = bed(2);
    let screen = Screen::new(100, 24);
    screen.watch(&host.tool(), "");
    screen.press(&["C-z"]);
    screen.wait_for("READY>");
    screen.is_given_back();
    screen.type_line("clear; fg");
    screen.wait_for("losing first");
    screen.press(&["s"]);
    screen.wait_for("in the order of rules");
    screen.press(&["C-c"]);
    screen.wait_for("READY>");
    screen.is_given_back();
}

#[test]
fn whatever_ends_a_watch_the_terminal_is_as_before() {
    let host = bed(2);
    let screen = Screen::new(100, 24);
    for signal in ["INT", "TERM", "HUP", "QUIT"] {
        screen.watch(&host.tool(), "");
        let process = foreground(&screen);
        command("kill", &["-s", signal, &process]);
        screen.wait_for("READY>");
        screen.type_line("clear; echo code $?");
        screen.wait_for("code 0");
        screen.is_given_back();
        screen.type_line("clear");
    }
    screen.watch(&host.tool(), "");
    host.tool().ok("detach --all");
    screen.wait_for("not attached");
    screen.is_given_back();
}

#[test]
fn the_rest_of_a_paste_is_not_run_by_the_shell() {
    let host = bed(2);
    let screen = Screen::new(100, 24);
    screen.watch(&host.tool(), "");
    let paste = format!("q{}\necho pasted\n", "x".repeat(1000));
    screen.tmux(&["set-buffer", &paste]);
    screen.tmux(&["paste-buffer"]);
    screen.is_given_back();
    let shown = screen.shows();
    assert!(!shown.contains("pasted"), "{shown}");
}

#[test]
fn a_terminal_that_goes_away_takes_the_watch_with_it() {
    let host = bed(2);
    let screen = Screen::new(100, 24);
    screen.watch(&host.tool(), "");
    let process = foreground(&screen);
    screen.tmux(&["kill-server"]);
    eventually("it has ended", || {
        !Path::new(&format!("/proc/{process}")).exists()
    });
}

/// The process that the shell of the screen waits for.
fn foreground(screen: &Screen) -> String {
    let shell = screen.says("#{pane_pid}");
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
    children.expect("it runs").trim().to_string()
}

#[test]
fn names_of_devices_break_no_screen() {
    let host = bed(1);
    let names = ["e\x1b[2J", "宽宽宽宽宽", "a\u{202e}b"];
    let net = format!("--net={}", host.ns.path().display());
    for (number, name) in names.into_iter().enumerate() {
        let peer = format!("peer{number}");
        let pair = [name, "type", "veth", "peer", "name", &peer];
        command(
            "nsenter",
            &[&[&net, "ip", "link", "add", "name"], &pair[..]].concat(),
        );
        let mut attach = host.tool().command("attach --mode skb");
        let attached = attach.arg(name).output().expect("it runs");
        assert!(attached.status.success(), "{attached:?}");
    }
    let screen = Screen::new(120, 40);
    screen.watch(&host.tool(), "");
    let text = screen.wait_for("宽宽宽宽宽");
    assert!(
        text.contains("e\\x1b[2J") && text.contains("a\\u{202e}b"),
        "{text}"
    );
    let column = |line: &str| {
        let before = line.split(" skb ").next().expect("a part");
        before
            .chars()
            .map(|c| 1 + usize::from(c == '宽'))
            .sum::<usize>()
    };
    let columns = text.lines().filter(|line| line.contains(" skb "));
    let columns: BTreeSet<usize> = columns.map(column).collect();
    assert_eq!(columns.len(), 1, "{text}");
    assert!(
        text.starts_with("20") && text.trim_end().ends_with("scroll"),
        "{text}"
    );
    screen.press(&["q"]);
    screen.is_given_back();
}
