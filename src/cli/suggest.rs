//! Commands that messages suggest, in the words of the grammar.

use std::ffi::OsString;

use super::grammar::Global;
use xdpredir::host::{device, netns};
use xdpredir::model::{Match, Reply, Rewriting, Verb};
use xdpredir::view::remedy::Shell;

/// The shell that suggested commands are pasted into: they repeat the global options of this run, or
/// enter its network namespace.
pub fn shell(global: &Global) -> Shell {
    let netns = global.netns.as_ref();
    let pin_dir = global.pin_dir.as_ref();
    let netns_option = netns.map(|netns| ["--netns".into(), OsString::from(netns)]);
    let pin_dir = pin_dir.map(|dir| ["--pin-dir".into(), dir.into()]);
    let options = netns_option.into_iter().chain(pin_dir).flatten();
    Shell {
        own: std::iter::once("xdpredir".into()).chain(options).collect(),
        words,
        netns: netns.map(|netns| netns::path(netns)),
    }
}

fn words(verb: &Verb) -> Vec<OsString> {
    let mut words = Words::default();
    match verb {
        Verb::Attach {
            interfaces,
            mode,
            force,
            policy,
        } => {
            words.add("attach").names(interfaces);
            words.option("--mode", *mode).flag("--force", *force);
            words.option("--policy", policy.as_ref());
        }
        Verb::ChainForeign(interface) => {
            words.add("attach").names(std::slice::from_ref(interface));
            words.flag("--chain-foreign", true);
        }
        Verb::ChainList => {
            words.add("chain list");
        }
        Verb::Detach(interfaces) => {
            words.add("detach").names(interfaces).add("--keep-rules");
        }
        Verb::SourcePorts(interface, ports) => {
            words.add("attach").names(std::slice::from_ref(interface));
            words.option("--snat-ports", Some(ports));
        }
        Verb::Policy(interface, policy) => {
            words
                .add("policy")
                .names(&[interface.clone(), policy.clone()]);
        }
        Verb::RuleAdd {
            matches,
            server,
            device,
            rewriting,
        } => {
            words.add("rule add").matches(matches);
            words.option("--server", Some(server));
            words.option("--dev", device.as_ref());
            rewriting.iter().for_each(|new| words.rewriting(new));
        }
        Verb::RulePass {
            interface,
            proto,
            port,
            vlan,
        } => {
            words.add("rule add").option("--in", Some(interface));
            words
                .option("--proto", Some(proto))
                .option("--port", Some(port));
            words.option("--vlan", *vlan).flag("--pass", true);
        }
        Verb::RuleDel(matches, server) => {
            words.add("rule del");
            matches.iter().for_each(|matches| words.matches(matches));
            words.option("--server", *server);
        }
        Verb::RuleRefresh(server) => {
            words.add("rule refresh").option("--server", Some(server));
        }
        Verb::RuleDrain(server) => {
            words.add("rule drain").option("--server", Some(server));
        }
        Verb::Confirm => {
            words.add("apply --confirmed");
        }
        Verb::DoctorFix => {
            words.add("doctor --fix");
        }
        Verb::Plain(verb) => {
            words.add(verb);
        }
    }
    words.all.extend(words.last);
    words.all
}

#[derive(Default)]
struct Words {
    all: Vec<OsString>,
    /// What has to come after all options.
    last: Vec<OsString>,
}

impl Words {
    fn add(&mut self, words: &str) -> &mut Self {
        self.all.extend(words.split(' ').map(OsString::from));
        self
    }

    /// A name that begins with a dash must not be taken for an option.
    fn names(&mut self, names: &[String]) -> &mut Self {
        let (all, dashes): (&mut Vec<OsString>, &[&str]) =
            match names.iter().any(|name| name.starts_with('-')) {
                true => (&mut self.last, &["--"]),
                false => (&mut self.all, &[]),
            };
        all.extend(dashes.iter().map(OsString::from));
        all.extend(names.iter().map(OsString::from));
        self
    }

    fn option(&mut self, name: &str, value: Option<impl ToString>) -> &mut Self {
        match value.map(|value| value.to_string()) {
            Some(value) if value.starts_with('-') => {
                self.all.push(format!("{name}={value}").into())
            }
            Some(value) => self.all.extend([name.into(), value.into()]),
            None => {}
        }
        self
    }

    fn flag(&mut self, name: &str, wanted: bool) -> &mut Self {
        self.all.extend(wanted.then(|| name.into()));
        self
    }

    fn matches(&mut self, matches: &Match) {
        let name = |ifindex| device::name_of(ifindex).unwrap_or_else(|| ifindex.to_string());
        self.option(
            "--dst",
            Some(matches.dst).filter(|dst| dst.prefix_len() > 0),
        )
        .option("--src", Some(matches.src))
        .option("--proto", Some(matches.proto))
        .option("--port", Some(matches.ports))
        .option("--vlan", matches.vlan)
        .option("--inner-vlan", matches.inner_vlan)
        .option("--in", matches.ingress.map(name));
    }

    fn rewriting(&mut self, new: &Rewriting) {
        self.option("--to-port", new.backend.to_port)
            .option("--snat", new.snat)
            .flag("--keep-ip", new.backend.keep_ip)
            .option("--reply", new.reply.filter(|reply| *reply != Reply::None))
            .flag("--sticky", new.sticky == Some(true))
            .flag("--announce", new.announce == Some(true))
            .flag("--keep-ttl", new.decrement_ttl == Some(false))
            .option("--push-vlan", new.backend.push_vlan)
            .flag("--pop-vlan", new.backend.pops.get() > 0)
            .flag("--pop-vlan", new.backend.pops.get() > 1);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::CommandFactory;
    use xdpredir::model::{Mode, Pops, Port, Proto, Remedy, Rewrite, Snat, SourcePorts, VlanId};

    use super::*;
    use crate::cli::grammar::Cli;

    fn text(verb: Verb, netns: Option<&str>, pin_dir: Option<&str>) -> String {
        let global = Global {
            netns: netns.map(String::from),
            pin_dir: pin_dir.map(PathBuf::from),
            json: false,
            verbose: false,
        };
        shell(&global).text(&Remedy::from(verb))
    }

    fn rewritten() -> Verb {
        Verb::RuleAdd {
            matches: Match {
                proto: Proto::Udp,
                ports: Port::new(7999).expect("a port").into(),
                vlan: VlanId::new(5),
                src: "10.0.0.0/8".parse().expect("a prefix"),
                ..Match::any_like([0; 4].into())
            },
            server: [10, 0, 0, 2].into(),
            device: Some("-x;id".into()),
            rewriting: Some(Rewriting {
                backend: Rewrite {
                    to_port: Port::new(53),
                    push_vlan: VlanId::new(7),
                    pops: Pops::new(1).expect("one tag"),
                    keep_ip: false,
                },
                snat: Some(Snat::Address([10, 0, 0, 1].into())),
                decrement_ttl: Some(false),
                reply: Some(Reply::Nat),
                sticky: Some(true),
                announce: Some(false),
            }),
        }
    }

    /// A match with all fields, and an interface that is not there.
    fn everything() -> Match {
        Match {
            dst: "10.1.0.0/16".parse().expect("a prefix"),
            src: "10.0.0.0/8".parse().expect("a prefix"),
            proto: Proto::Sctp,
            ports: "7-9".parse().expect("ports"),
            vlan: VlanId::new(5),
            inner_vlan: VlanId::new(6),
            ingress: Some(2_147_483_647),
        }
    }

    #[test]
    fn all_fields_of_a_match_are_named() {
        assert_eq!(
            text(Verb::RuleDel(Some(everything()), None), None, None),
            "`xdpredir rule del --dst 10.1.0.0/16 --src 10.0.0.0/8 --proto sctp --port 7-9 --vlan 5 \
             --inner-vlan 6 --in 2147483647`"
        );
    }

    #[test]
    fn commands_repeat_the_options_of_the_run() {
        let detach = || Verb::Detach(vec!["a b".into()]);
        assert_eq!(
            text(detach(), None, None),
            "`xdpredir detach 'a b' --keep-rules`"
        );
        assert_eq!(
            text(detach(), Some("n"), Some("/b/$(id)")),
            "`xdpredir --netns n --pin-dir '/b/$(id)' detach 'a b' --keep-rules`"
        );
        assert_eq!(
            text(rewritten(), None, None),
            "`xdpredir rule add --src 10.0.0.0/8 --proto udp --port 7999 --vlan 5 --server 10.0.0.2 \
             '--dev=-x;id' --to-port 53 --snat 10.0.0.1 --reply nat --sticky --keep-ttl --push-vlan 7 --pop-vlan`"
        );
    }

    #[test]
    fn what_is_suggested_is_understood() {
        let interfaces = || vec!["a;b".to_string(), "-c".to_string()];
        let attach = |mode| Verb::Attach {
            interfaces: interfaces(),
            mode,
            force: true,
            policy: Some("forward:a;b".into()),
        };
        let server = [10, 0, 0, 2].into();
        let all = [
            attach(Some(Mode::Native)),
            attach(Some(Mode::Skb)),
            attach(None),
            Verb::ChainForeign("-c".into()),
            Verb::ChainList,
            Verb::Detach(interfaces()),
            Verb::SourcePorts("-c".into(), SourcePorts::DEFAULT),
            Verb::Policy("-c".into(), "forward:a;b".into()),
            Verb::RulePass {
                interface: "-a;b".into(),
                proto: Proto::Tcp,
                port: 22,
                vlan: VlanId::new(5),
            },
            rewritten(),
            Verb::RuleDel(None, Some(server)),
            Verb::RuleDel(Some(everything()), None),
            Verb::RuleRefresh(server),
            Verb::RuleDrain(server),
            Verb::DoctorFix,
        ];
        let plain = [
            "doctor",
            "history",
            "status",
            "stats",
            "rule list",
            "lab up",
            "lab down",
            "lab status",
            "lab tmux",
        ];
        for verb in all.into_iter().chain(plain.map(Verb::Plain)) {
            let argv = std::iter::once("xdpredir".into()).chain(words(&verb));
            let parsed = Cli::command().try_get_matches_from(argv);
            assert!(parsed.is_ok(), "{verb:?}: {:?}", parsed.err());
        }
    }
}
