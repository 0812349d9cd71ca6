//! What helps: words, and commands as data. How a shell reads them is the business of `view`.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::ops::Add;
use std::path::PathBuf;

use super::{Match, Mode, Proto, Remote, Rewriting, SourcePorts, VlanId};

/// A text with commands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Remedy(pub Vec<Part>);

/// A piece of a remedy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    Text(String),
    /// Commands, each of which runs only if the one before it succeeded.
    Commands(Vec<Command>),
}

/// A command that somebody could run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// A run of this program with the network namespace and the pins of the present run.
    Own(Verb),
    Tool(Tool),
    /// The name of a verb, without what it takes.
    Name(&'static str),
}

/// Another program with its arguments, and where it is to run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tool {
    pub argv: Vec<OsString>,
    pub place: Place,
}

/// Where a command does what it is meant to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the network namespace of this run.
    Here,
    /// In the network namespace that this path leads to.
    Netns(PathBuf),
    /// In whatever network namespace.
    Anywhere,
    /// Where nobody on this host can run it: on another machine, or in a namespace without a path.
    Elsewhere,
}

/// What a run of this program is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Attach {
        interfaces: Vec<String>,
        mode: Option<Mode>,
        /// In place of another XDP program.
        force: bool,
        /// As it is typed; None: the one that is the default.
        policy: Option<String>,
    },
    /// Has another XDP program at this interface asked before ours.
    ChainForeign(String),
    ChainList,
    /// Keeps the rules.
    Detach(Vec<String>),
    /// An attached interface, and from which connections get source ports.
    SourcePorts(String, SourcePorts),
    /// An interface, and its policy as it is typed.
    Policy(String, String),
    RuleAdd {
        matches: Match,
        server: IpAddr,
        device: Option<String>,
        /// None: as it is.
        rewriting: Option<Rewriting>,
    },
    /// A rule that lets packets that arrive at an interface pass to the host.
    RulePass {
        interface: String,
        proto: Proto,
        port: u16,
        vlan: Option<VlanId>,
    },
    /// A backend of a rule, or the rule; None: of all rules, or all of its backends.
    RuleDel(Option<Match>, Option<IpAddr>),
    RuleRefresh(IpAddr),
    /// A server.
    RuleDrain(IpAddr),
    DoctorFix,
    /// Keeps the revision that is not confirmed.
    Confirm,
    /// A verb that needs no arguments.
    Plain(&'static str),
}

/// Why something is refused, and what helps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    pub why: String,
    pub remedy: Remedy,
}

impl Verb {
    /// Attaches an interface in the mode that fits.
    pub fn attach(interface: &str) -> Self {
        Verb::attach_in(interface, None)
    }

    pub fn attach_in(interface: &str, mode: Option<Mode>) -> Self {
        Verb::Attach {
            interfaces: vec![interface.into()],
            mode,
            force: false,
            policy: None,
        }
    }
}

impl Remedy {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Several remedies, all of which are needed.
    pub fn all(remedies: impl IntoIterator<Item = Remedy>) -> Self {
        let joined = remedies
            .into_iter()
            .reduce(|all, next| all + " and " + next);
        joined.unwrap_or_default()
    }
}

impl Tool {
    /// A program and words that need no quoting, in the network namespace of this run.
    pub fn new(words: &str) -> Self {
        Tool {
            argv: words.split(' ').map(OsString::from).collect(),
            place: Place::Here,
        }
    }

    /// One more argument, whatever is in it.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// More words that need no quoting.
    pub fn words(mut self, words: &str) -> Self {
        self.argv
            .extend(words.split_whitespace().map(OsString::from));
        self
    }

    /// The same in another place.
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// The same where a device is.
    pub fn beside(self, device: &Remote) -> Remedy {
        match (&device.netns, device.nsid) {
            (Some(netns), _) => self.at(Place::Netns(netns.path.clone())).into(),
            (None, None) => self.into(),
            (None, Some(nsid)) => {
                Remedy::from(self.at(Place::Elsewhere)) + format!(" in nsid {nsid}")
            }
        }
    }
}

impl From<&str> for Remedy {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}

impl From<String> for Remedy {
    fn from(text: String) -> Self {
        Remedy(vec![Part::Text(text)])
    }
}

impl From<Vec<Command>> for Remedy {
    fn from(commands: Vec<Command>) -> Self {
        Remedy(vec![Part::Commands(commands)])
    }
}

impl<C: Into<Command>> From<C> for Remedy {
    fn from(command: C) -> Self {
        vec![command.into()].into()
    }
}

impl From<Verb> for Command {
    fn from(verb: Verb) -> Self {
        Command::Own(verb)
    }
}

impl From<Tool> for Command {
    fn from(tool: Tool) -> Self {
        Command::Tool(tool)
    }
}

impl<T: Into<Remedy>> Add<T> for Remedy {
    type Output = Remedy;

    fn add(mut self, more: T) -> Remedy {
        self.0.extend(more.into().0);
        self
    }
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        why.to_string().into()
    }
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Refusal {
            why,
            ..Refusal::default()
        }
    }
}

impl<W: Into<String>, R: Into<Remedy>> From<(W, R)> for Refusal {
    fn from((why, remedy): (W, R)) -> Self {
        Refusal {
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}
