//! What a rule, a backend, a counter and a device's features are. Pure: no I/O, no libbpf.

mod change;
mod counter;
mod failures;
mod features;
mod finding;
mod interface;
mod mac;
pub mod maglev;
mod origin;
mod rule;
mod state;
mod way;

pub use change::{Change, Place};
pub use counter::{Counter, Rate};
pub use failures::{Failures, Loss, Reason};
pub use features::{Features, Netns, Offloads, Peer, Related, Remote, Source, XdpFeatures};
pub use finding::{Finding, Fix, Refreshed, Severity};
pub use interface::{Actions, ETHERNET_MTU, LedgerState, LinkState, Mode, Outcome, Outcomes};
pub use mac::Mac;
pub use origin::Origin;
pub use rule::{Backend, Match, Proto, Rewrite, Rule};
pub use state::BackendState;
pub use way::Way;
