//! What is too long for a terminal is broken between words, and what does not fit is named.

use crate::fixture;
use crate::fixture::lan::{ANYWHERE, Lan};
use crate::fixture::terminal::{Terminal, complains, complains_on, environment, shows, shows_on};

const COLUMNS: u16 = 80;
const RULE: &str = "rule add --src 192.168.122.10 --server 172.17.0.2";

/// A server whose veth takes no native redirect.
fn deaf() -> Lan {
    let lan = Lan::new(false, 1);
    lan.host.ip("addr add 172.17.0.1/16 dev wan0");
    lan.host.sysctl("net/ipv4/ip_forward", "1");
    lan.servers[0].ip("route add default via 172.17.0.1");
    lan.servers[0].exec("ethtool -K eth0 gro off");
    lan.tool().ok("attach lan --mode native");
    lan
}

/// The long line in a text, from its first words on, put together again.
#[track_caller]
fn unwrapped(text: &str, starts: &str, indent: usize) -> String {
    for line in text.lines() {
        // A command that is too long stays whole, to be copied.
        let is_command = line.trim_start().starts_with('`');
        let fits = line.len() <= usize::from(COLUMNS);
        assert!(fits || is_command, "{line:?} in {text}");
    }
    let indent = " ".repeat(indent);
    let mut lines = text.lines().skip_while(|line| !line.starts_with(starts));
    let first = lines
        .next()
        .unwrap_or_else(|| panic!("no {starts}: {text}"));
    let further: Vec<&str> = lines.map_while(|line| line.strip_prefix(&indent)).collect();
    assert!(!further.is_empty(), "one line: {text}");
    assert!(further.iter().all(|line| !line.starts_with(' ')), "{text}");
    format!("{first} {}", further.join(" "))
}

#[test]
fn findings_are_broken_between_words_on_a_terminal_and_one_line_in_a_pipe() {
    let lan = deaf();
    let tool = lan.tool();
    tool.ok(RULE);
    let plain = tool.run("doctor").out;
    let plain = plain.lines().next().expect("a finding");
    assert!(plain.len() > 160, "{plain}");
    let shown = shows(tool.command("doctor"), COLUMNS);
    assert_eq!(unwrapped(&shown, "problem", 9), plain);
}

#[test]
fn warnings_are_broken_by_the_width_of_standard_errors_own_terminal() {
    let lan = deaf();
    let tool = lan.tool();
    let plain = tool.ok(RULE).err;
    assert_eq!(plain.lines().count(), 1, "{plain}");
    let shown = complains(tool.command(RULE), COLUMNS);
    assert_eq!(
        unwrapped(&shown, "xdpredir: warning: ", 10),
        plain.trim_end()
    );
}

#[test]
fn losses_in_words_are_broken_between_words() {
    let lan = deaf();
    let tool = lan.tool();
    tool.ok(RULE);
    lan.vm_socket()
        .send_to(b"lost", ANYWHERE)
        .expect("it is sent");
    let plain = tool.ok("stats").out;
    let plain = plain.lines().find(|line| line.starts_with("1 frame lost"));
    let shown = shows(tool.command("stats"), COLUMNS);
    assert_eq!(unwrapped(&shown, "1 frame lost", 2), plain.expect("a loss"));
}

#[test]
fn what_attach_and_refresh_say_is_broken_between_words() {
    let lan = deaf();
    let tool = lan.tool();
    tool.ok("rule add --server 172.17.0.2 --dev wan0");
    tool.ok("detach lan --keep-rules");
    let shown = shows(tool.command("attach lan --mode native"), COLUMNS);
    unwrapped(&shown, "  while this is attached, ", 2);

    lan.servers[0].ip("link set eth0 address 02:00:00:00:00:77");
    let shown = shows(tool.command("rule refresh"), COLUMNS);
    let line = unwrapped(&shown, "refreshed ", 2);
    assert!(line.ends_with("-> 02:00:00:00:00:77\n") || line.ends_with("-> 02:00:00:00:00:77"));
}

#[test]
fn columns_that_do_not_fit_are_named() {
    let lan = deaf();
    let tool = lan.tool();
    tool.ok(RULE);
    let shown = shows(tool.command("rule list"), 64);
    assert!(!shown.contains("02:"), "{shown}");
    let said = "not shown here: mac, weight; JSON output has all\n";
    assert!(shown.ends_with(said), "{shown}");
    let wide = shows(tool.command("rule list"), 120);
    assert!(
        wide.contains("weight") && !wide.contains("not shown"),
        "{wide}"
    );
    assert!(!tool.ok("rule list").out.contains("not shown"));
}

/// Two servers, of which one gets nothing.
fn half_down() -> Lan {
    let lan = Lan::new(false, 2);
    lan.tool().ok("attach lan --mode skb");
    lan.add_backend(0, "--src 192.168.122.0/24");
    lan.add_backend(1, "--src 192.168.122.0/24");
    lan.host.ip("link set wan1 down");
    lan
}

const VERBS: [&str; 6] = [
    "rule list",
    "stats",
    "status",
    "features",
    "features lan",
    "doctor",
];

/// A line is longer than the terminal only where one word, or a command to be copied, is.
#[track_caller]
fn assert_fits(text: &str, columns: usize) {
    for line in text.lines() {
        let (start, rest) = line.split_at(line.len().min(columns));
        let mut words = line.split_whitespace();
        let value = words.next_back().unwrap_or_default();
        let fits = rest.is_empty() || line.contains('`') || start.ends_with(value);
        let is_entry = line.len() - value.len() < columns;
        assert!(fits || is_entry, "{line:?} in {text}");
    }
}

#[test]
fn on_a_narrow_terminal_no_word_is_broken() {
    let lan = half_down();
    let tool = lan.tool();
    for columns in [40, 20] {
        for words in VERBS {
            let shown = shows(tool.command(words), columns);
            assert_fits(&shown, columns.into());
            let plain = tool.run(words).out;
            // Whatever is shown of the wide output has its words whole.
            let known: Vec<&str> = plain.split_whitespace().collect();
            let last = shown.find("not shown").unwrap_or(shown.len());
            for word in shown[..last].split_whitespace() {
                let is_time = word.ends_with('Z') && word.contains('T');
                assert!(known.contains(&word) || is_time, "{word}: {shown}");
            }
        }
    }
}

#[test]
fn rows_that_no_table_has_room_for_are_blocks_with_all_columns() {
    let lan = half_down();
    let shown = shows(lan.tool().command("rule list"), 40);
    let mac = fixture::lan::mac(&lan.servers[1], "eth0");
    let block = format!(
        "\n\nsource   192.168.122.0/24\nport     udp/7999\nserver   172.17.0.3\nmac      {mac}\n\
         device   wan1\nweight   1\npackets  0\nbytes    0B\nstate    link down\n"
    );
    assert!(shown.ends_with(&block), "{shown}");
}

#[test]
fn a_column_that_is_not_there_is_not_named() {
    let lan = half_down();
    let shown = shows(lan.tool().command("stats"), 40);
    assert!(!shown.contains("bytes/s"), "{shown}");
}

/// With the variables of a terminal's kind.
fn with(lan: &Lan, words: &str, variables: Variables) -> std::process::Command {
    let mut command = lan.tool().command(words);
    environment(&mut command, variables);
    command
}

#[test]
fn a_terminal_that_does_not_know_its_size_is_taken_for_80_columns() {
    let lan = half_down();
    let term = ("TERM", "xterm");
    let colors = ("NO_COLOR", "1");
    let on = |words: &str, columns, rows, variables: Variables| {
        let command = with(&lan, words, &[variables, &[term, colors]].concat());
        shows_on(Terminal::of_size(columns, rows), command)
    };
    for words in [
        "rule list",
        "status",
        "features",
        "doctor",
        "rule add --help",
    ] {
        let shown = on(words, 0, 0, &[]);
        assert_eq!(shown, on(words, 80, 24, &[]), "{words}");
        assert_eq!(on(words, 0, 0, &[("COLUMNS", "0")]), shown, "{words}");
    }
    let narrow = on("rule list", 40, 24, &[]);
    assert_eq!(on("rule list", 0, 0, &[("COLUMNS", "40")]), narrow);
    // By `stty cols 40`, and nothing more.
    assert_eq!(on("rule list", 40, 0, &[]), narrow);
    let help = on("rule add --help", 40, 24, &[]);
    assert!(help.lines().all(|line| line.len() <= 40), "{help}");
}

#[test]
fn colours_come_where_the_terminal_and_the_user_want_them() {
    let lan = half_down();
    let term = ("TERM", "xterm");
    let none = ("NO_COLOR", "1");
    let force = ("CLICOLOR_FORCE", "1");
    let terminal: [(Variables, bool); 8] = [
        (&[term], true),
        (&[term, none], false),
        (&[term, ("NO_COLOR", "")], true),
        (&[term, ("CLICOLOR", "0")], false),
        (&[("TERM", "dumb")], false),
        (&[], false),
        (&[("TERM", "dumb"), force], true),
        (&[term, none, force], false),
    ];
    for (variables, wanted) in terminal {
        for words in ["rule list", "doctor", "features"] {
            let command = with(&lan, words, variables);
            let shown = shows_on(Terminal::new(120), command);
            assert_eq!(
                shown.contains(ESCAPE),
                wanted,
                "{words} {variables:?} {shown}"
            );
        }
        let warned = with(&lan, RULE_OF_DOWN, variables);
        let warned = complains_on(Terminal::new(120), warned);
        assert!(warned.contains("warning"), "{warned}");
        assert_eq!(warned.contains(ESCAPE), wanted, "{variables:?} {warned}");
    }
    let pipe: [(Variables, bool); 3] = [
        (&[term], false),
        (&[term, force], true),
        (&[none, force], false),
    ];
    for (variables, wanted) in pipe {
        for words in ["rule list", "doctor"] {
            let output = with(&lan, words, variables).output().expect("it runs");
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(text.contains(ESCAPE), wanted, "{words} {variables:?}");
        }
    }
    let json = with(&lan, "rule list --json", &[term, force]);
    let json = shows_on(Terminal::new(120), json);
    assert!(!json.contains(ESCAPE), "{json}");
}

type Variables<'a> = &'a [(&'a str, &'a str)];

const ESCAPE: char = '\u{1b}';
/// Warns that the link is down.
const RULE_OF_DOWN: &str = "rule add --src 192.168.122.0/24 --server 172.17.0.3 --weight 2";

#[test]
fn what_is_coloured_is_what_is_wrong() {
    let lan = half_down();
    let colored = |words: &str| {
        let command = with(&lan, words, &[("TERM", "xterm")]);
        shows_on(Terminal::new(120), command)
    };
    let list = colored("rule list");
    assert!(
        list.contains("m link down\u{1b}") || list.contains("mlink down\u{1b}"),
        "{list}"
    );
    assert!(
        list.lines().nth(1).is_some_and(|row| row.ends_with("up")),
        "{list}"
    );
    assert!(colored("doctor").contains("mproblem\u{1b}"));
    lan.host.ip("link del lan");
    assert!(colored("status").contains("mlan (gone)\u{1b}"));
}

#[test]
fn without_a_cursor_to_move_a_watch_prints_one_snapshot_after_another() {
    let lan = half_down();
    let xterm = ("TERM", "xterm");
    let terminals: [(Variables, u16); 3] = [
        (&[("TERM", "dumb")], 24),
        (&[], 24),
        (&[xterm, ("NO_COLOR", "1")], 0),
    ];
    for (variables, rows) in terminals {
        let mut terminal = Terminal::of_size(rows * 4, rows);
        let mut command = with(&lan, "stats --watch 50ms", variables);
        let mut child = command.stdout(terminal.stdio()).spawn().expect("it runs");
        let text = terminal.read_until(|text| text.matches("interface").count() == 3);
        // The terminal closes, as one does whose user has seen enough.
        drop(terminal);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(!text.contains(ESCAPE), "{variables:?}: {text:?}");
    }
}

#[test]
fn a_line_as_long_as_the_row_keeps_its_last_character() {
    const CLEAR: &str = "\u{1b}[2K";
    let lan = half_down();
    let mut terminal = Terminal::new(40);
    let mut command = with(&lan, "stats --watch 50ms", &[("TERM", "xterm")]);
    let mut child = command.stdout(terminal.stdio()).spawn().expect("it runs");
    let text = terminal.read_until(|text| text.matches("interface").count() == 3);
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
    let rest = terminal.read_until(|text| text.contains("\u{1b}[?1049l"));
    child.wait().expect("it ends");

    let mut rows = text.split(CLEAR).collect::<Vec<_>>();
    rows.pop();
    assert!(rows.len() > 10, "{text:?}");
    // A row is cleared once the cursor was moved there, before anything is written, never after that.
    for row in rows {
        assert!(row.ends_with(";1H"), "{row:?}");
    }
    // What is too long is cut off, and does not scroll the others away.
    assert!(text.contains("\u{1b}[?7l") && rest.contains("\u{1b}[?7h"));
}

#[test]
fn progress_is_drawn_where_it_can_be_drawn_over() {
    let lan = half_down();
    let row = lan.tool().json("rule list")[0].clone();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let rules = (0..5000u32).map(|number| {
        let mut row = row.clone();
        let [_, _, high, low] = number.to_be_bytes();
        row["src"] = format!("10.0.{high}.{low}/32").into();
        format!("{row}\n")
    });
    std::fs::write(file.path(), rules.collect::<String>()).expect("it can be written");
    let load = format!("rule load {}", file.path().display());
    let terminals: [(Variables, u16, bool, bool); 4] = [
        (&[("TERM", "xterm")], 120, true, true),
        (&[("TERM", "xterm")], 40, true, false),
        (&[("TERM", "dumb")], 120, false, false),
        (&[], 120, false, false),
    ];
    for (variables, columns, wanted, bar) in terminals {
        let command = with(&lan, &load, variables);
        let shown = complains_on(Terminal::new(columns), command);
        assert_eq!(shown.contains("5,000 rules"), wanted, "{shown:?}");
        assert_eq!(shown.contains('█'), bar, "{columns}: {shown:?}");
        assert!(wanted || !shown.contains(ESCAPE), "{shown:?}");
        lan.tool().ok("rule del --all");
    }
}
