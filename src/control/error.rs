//! What is wrong with a request.

use std::fmt;

use crate::error::{Coded, Exit, Failure};
use crate::model::{Place, Remedy, Tool, Verb};

/// A part of a request. Its text is the key of a file; a command line has options for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Server,
    Src,
    Snat,
    /// How the backend is found, as a file has it.
    Origin,
    Device,
    Pid,
    Netns,
    Container,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Server => "server",
            Field::Src => "src",
            Field::Snat => "snat",
            Field::Origin => "origin",
            Field::Device => "device",
            Field::Pid => "pid",
            Field::Netns => "netns",
            Field::Container => "container",
        })
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub enum Error {
    Value {
        field: Field,
        value: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    WhichBackend,
    NoDevice(u32),
    /// No group of users has this name.
    NoGroup(String),
    /// No rule or backend is like this.
    NoRule(String),
}

impl Error {
    /// A value that cannot be used, as the error that functions return.
    pub fn value(field: Field, value: impl fmt::Display, why: impl Into<String>) -> anyhow::Error {
        Failure::new(Error::Value {
            field,
            value: value.to_string(),
            why: why.into(),
        })
    }
}

impl Coded for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Value { .. } | Error::WhichBackend | Error::NoGroup(_) => Exit::Usage,
            Error::NoDevice(_) | Error::NoRule(_) => Exit::NotFound,
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Error::NoDevice(_) => Remedy::from(Tool::new("ip link")) + " lists them",
            Error::NoGroup(name) => {
                let groupadd = Tool::new("groupadd").arg(name).at(Place::Anywhere);
                Remedy::from(groupadd) + " makes it"
            }
            Error::NoRule(_) => Remedy::from(Verb::Plain("rule list")) + " shows what there is",
            Error::Value { .. } | Error::WhichBackend => Remedy::default(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Value { field, value, why } => write!(f, "{field} {value}: {why}"),
            Error::WhichBackend => f.write_str("which backend? Its address is missing"),
            Error::NoDevice(ifindex) => write!(
                f,
                "ifindex {ifindex}: no such device in this network namespace"
            ),
            Error::NoGroup(name) => write!(f, "group {name}: no such group"),
            Error::NoRule(what) => f.write_str(what),
        }
    }
}
