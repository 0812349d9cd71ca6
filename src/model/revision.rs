//! What is kept of a revision: who made it, when, and what changed.

use serde::{Deserialize, Serialize};

use super::Match;

/// So many changed rules are named.
const FEW: usize = 3;
/// The bytes of JSON that the command line may take.
const LONGEST: usize = 700;

/// A change that was published. Its JSON is what the history has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The number of the rule set that it made.
    pub revision: u64,
    /// Seconds since 1970.
    pub time: u64,
    pub author: Author,
    pub changes: Changes,
}

/// Who ran a command, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    pub uid: u32,
    /// The words of the command line, as far as they are not too long.
    pub command: Vec<String>,
}

/// How many rules changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub added: usize,
    pub changed: usize,
    pub deleted: usize,
    /// Which ones; none where there are too many.
    pub rules: Vec<ChangedRule>,
    /// How many interfaces were attached, changed and detached.
    pub interfaces_changed: usize,
    /// Which ones; none where there are too many.
    pub interfaces: Vec<ChangedInterface>,
}

/// An interface that was attached (added), got another policy or ledger, or was detached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedInterface {
    pub how: How,
    pub ifname: String,
}

/// A rule that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedRule {
    pub how: How,
    pub matches: Match,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    Added,
    Changed,
    Deleted,
}

/// A revision as it is shown.
pub struct PastRevision {
    pub revision: Revision,
    /// The name of its author; None: there is no such user any more.
    pub user: Option<String>,
    /// The rules that are named in its changes.
    pub rules: Vec<NamedChange>,
    /// The rules can be again as they were after it.
    pub reachable: bool,
    /// It ends unless somebody confirms it.
    pub unconfirmed: bool,
}

/// A rule that changed, with the name of the interface that it compares.
pub struct NamedChange {
    pub how: How,
    pub matches: Match,
    /// None: it compares none, or that is gone.
    pub ingress: Option<String>,
}

impl How {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            How::Added => "added",
            How::Changed => "changed",
            How::Deleted => "deleted",
        }
    }
}

impl Author {
    /// Cuts off the command line what is too long.
    pub fn new(uid: u32, words: impl IntoIterator<Item = String>) -> Self {
        let mut room = LONGEST;
        let mut command = Vec::new();
        for word in words {
            // With quotes and a comma.
            room = room.saturating_sub(3);
            let fits: String = word.chars().take_while(|c| takes(&mut room, *c)).collect();
            if fits.len() < word.len() {
                command.push(fits + "…");
                break;
            }
            command.push(fits);
        }
        Author { uid, command }
    }
}

/// Takes the room that a character needs in JSON, if there is enough.
fn takes(room: &mut usize, c: char) -> bool {
    let needed = match c {
        '"' | '\\' => 2,
        c if c.is_control() => "\\u0000".len(),
        c => c.len_utf8(),
    };
    let rest = room.checked_sub(needed);
    *room = rest.unwrap_or(0);
    rest.is_some()
}

impl Changes {
    /// Adds a rule.
    pub fn note(&mut self, how: How, matches: &Match) {
        let count = match how {
            How::Added => &mut self.added,
            How::Changed => &mut self.changed,
            How::Deleted => &mut self.deleted,
        };
        *count += 1;
        if self.count() <= FEW {
            let matches = *matches;
            self.rules.push(ChangedRule { how, matches });
        } else {
            self.rules.clear();
        }
    }

    /// Adds an interface.
    pub fn note_interface(&mut self, how: How, ifname: String) {
        self.interfaces_changed += 1;
        if self.interfaces_changed <= FEW {
            self.interfaces.push(ChangedInterface { how, ifname });
        } else {
            self.interfaces.clear();
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.count() + self.interfaces_changed == 0
    }

    /// How many rules.
    pub fn count(&self) -> usize {
        self.added + self.changed + self.deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_rules_are_named_and_many_are_counted() {
        let mut changes = Changes::default();
        let all = [How::Added, How::Changed, How::Deleted, How::Added];
        for (port, how) in (1..).zip(all) {
            changes.note(how, &Match::example(port));
            let named = if port <= 3 { usize::from(port) } else { 0 };
            assert_eq!(changes.rules.len(), named);
        }
        assert_eq!((changes.added, changes.count()), (2, 4));
    }

    #[test]
    fn a_command_line_has_an_end() {
        let command = |words: &[&str]| Author::new(0, words.iter().map(ToString::to_string));
        let short = ["xdpredir", "rule", "add", "--in", "é\n\"", ""];
        assert_eq!(command(&short).command, short);
        for filler in ["x", "é", "\u{1}", "\"", "\u{7f}"] {
            let long = command(&["a", &filler.repeat(LONGEST), "more"]);
            assert_eq!(long.command.len(), 2);
            assert!(long.command[1].ends_with('…'));
            let json = serde_json::to_string(&long.command).unwrap();
            assert!(json.len() < LONGEST + 10, "{}", json.len());
        }
        let many = command(&vec!["ab"; LONGEST]);
        assert!(many.command.len() < LONGEST / 4);
    }
}
