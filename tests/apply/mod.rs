//! Files of rule sets: what they may say, what `apply` makes of them, and what packets see meanwhile.

mod bed;
mod changes;
mod faults;
mod formats;
mod interfaces;
mod moved;
mod packets;
mod schema;
