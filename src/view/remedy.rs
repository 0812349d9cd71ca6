//! Remedies as text, their commands between backquotes, complete and quoted for a POSIX shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::escape::is_plain;
use super::terminal::NO_BREAK;
use crate::model::{Command, Part, Place, Remedy, Tool, Verb};

/// The shell that suggested commands are pasted into.
pub struct Shell {
    /// How a run of this program begins that is to find what the present one found: its name and its
    /// global options.
    pub own: Vec<OsString>,
    /// The arguments that ask for a verb.
    pub words: fn(&Verb) -> Vec<OsString>,
    /// The network namespace that the present run entered by itself, and the shell is not in.
    pub netns: Option<PathBuf>,
}

impl Shell {
    /// As scripts read it.
    pub fn text(&self, remedy: &Remedy) -> String {
        let parts = remedy.0.iter();
        parts.map(|part| self.part(part)).collect()
    }

    /// As people read it: a narrow terminal does not break its commands.
    pub fn sentence(&self, remedy: &Remedy) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Commands(_) => self.part(part).replace(' ', NO_BREAK),
        };
        remedy.0.iter().map(part).collect()
    }

    fn part(&self, part: &Part) -> String {
        let commands = match part {
            Part::Text(text) => return text.clone(),
            Part::Commands(commands) => commands,
        };
        // Nobody can paste that here: it does not stand between backquotes.
        let elsewhere = |command: &Command| {
            matches!(
                command,
                Command::Tool(Tool {
                    place: Place::Elsewhere,
                    ..
                })
            )
        };
        let mark = if commands.iter().any(elsewhere) {
            '\''
        } else {
            '`'
        };
        let words: Vec<String> = commands
            .iter()
            .map(|command| self.command(command))
            .collect();
        format!("{mark}{}{mark}", words.join(" && "))
    }

    fn command(&self, command: &Command) -> String {
        match command {
            Command::Name(name) => name.to_string(),
            Command::Own(verb) => {
                let own = self.own.iter().cloned();
                quoted(own.chain((self.words)(verb)))
            }
            Command::Tool(Tool { argv, place }) => {
                let netns = match place {
                    Place::Here => self.netns.as_ref(),
                    Place::Netns(path) => Some(path),
                    Place::Anywhere | Place::Elsewhere => None,
                };
                let net = |path: &PathBuf| {
                    let mut net = OsString::from("--net=");
                    net.push(path);
                    [OsString::from("nsenter"), net]
                };
                let enter = netns.map(net).into_iter().flatten();
                quoted(enter.chain(argv.iter().cloned()))
            }
        }
    }
}

/// A command line for a POSIX shell.
pub fn quoted(argv: impl IntoIterator<Item = OsString>) -> String {
    let words = argv.into_iter().map(|word| quote(&word));
    words.collect::<Vec<_>>().join(" ")
}

/// One word for a POSIX shell.
fn quote(word: &OsStr) -> String {
    let bytes = word.as_bytes();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(is_word) {
        return word.to_string_lossy().into_owned();
    }
    match word.to_str() {
        // A backquote would look like the end of the command.
        Some(text) if is_plain(text) && !text.contains('`') && !text.contains(NO_BREAK) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => {
            let octal = |byte: &u8| format!("\\{byte:03o}");
            let octal: String = bytes.iter().map(octal).collect();
            // $'…' is shorter, but dash doesn't know it.
            format!("\"$(printf '{octal}')\"")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(netns: Option<&str>) -> Shell {
        Shell {
            own: vec!["xdpredir".into(), "--pin-dir".into(), "/a b".into()],
            words: |_| vec!["status".into()],
            netns: netns.map(PathBuf::from),
        }
    }

    #[test]
    fn commands_do_what_is_meant_where_they_are_pasted() {
        let up = Tool::new("ip link set up dev").arg("a;b");
        let there = up.clone().at(Place::Netns("/proc/7/ns/net".into()));
        let remedy = Remedy::from(Verb::Plain("status")) + ", " + up.clone() + " or " + there;
        assert_eq!(
            shell(Some("/run/netns/n x")).text(&remedy),
            "`xdpredir --pin-dir '/a b' status`, `nsenter '--net=/run/netns/n x' ip link set up dev 'a;b'` \
             or `nsenter --net=/proc/7/ns/net ip link set up dev 'a;b'`"
        );
        let elsewhere =
            Remedy::from(up.clone().at(Place::Elsewhere)) + " or " + Command::Name("rule add");
        assert_eq!(
            shell(Some("n")).text(&elsewhere),
            "'ip link set up dev 'a;b'' or `rule add`"
        );
        assert_eq!(shell(None).text(&up.into()), "`ip link set up dev 'a;b'`");
    }

    #[test]
    fn a_shell_reads_each_argument_as_it_was() {
        let words = [
            "plain",
            "",
            "a b",
            "it's",
            "$(id)",
            "`id`",
            "e\x1b[31m",
            "a\\n%s",
            "\u{a0}",
        ];
        for word in words
            .map(OsStr::new)
            .into_iter()
            .chain([OsStr::from_bytes(b"\xff\n.")])
        {
            let script = format!("printf %s {}", quote(word));
            let run = std::process::Command::new("sh")
                .args(["-c", &script])
                .output();
            assert_eq!(run.expect("a shell").stdout, word.as_bytes(), "{script}");
            assert!(is_plain(&script) && !script.contains('`'));
        }
    }
}
