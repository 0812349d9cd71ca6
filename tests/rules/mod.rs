//! Rules: what the command line takes and prints, what the host is asked, and packets that follow.

mod actions;
mod bed;
mod change;
mod forward;
mod grammar;
mod list;
mod loops;
mod most_specific;
mod packets;
mod resolve;
