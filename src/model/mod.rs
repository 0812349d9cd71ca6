//! What a rule, a backend and a counter are. Pure: no I/O, no libbpf.

mod counter;
mod interface;
mod mac;
pub mod maglev;
mod origin;
mod rule;
mod state;

pub use counter::{Counter, Rate};
pub use interface::{Actions, LinkState, Mode, Outcome, Outcomes};
pub use mac::Mac;
pub use origin::Origin;
pub use rule::{Backend, Match, Proto, Rewrite, Rule};
pub use state::BackendState;
