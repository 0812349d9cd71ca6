//! How the answers of a server come back to its clients.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the answers of a server come back to its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// As the server sends them: with its own address, which the client has not asked.
    #[default]
    None,
    /// With the address and port that the client has asked: the program remembers the connection, and
    /// translates what comes back through an interface where it is attached.
    Nat,
    /// As the server sends them: with the address that the client has asked, because the server has it.
    Direct,
}

impl Reply {
    pub const ALL: [Reply; 3] = [Reply::None, Reply::Nat, Reply::Direct];

    /// Its name in options, files and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Reply::None => "none",
            Reply::Nat => "nat",
            Reply::Direct => "direct",
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
