//! The grammar of `chain`.

use clap::{Args, Subcommand, ValueHint};
use xdpredir::model::Verdicts;

#[derive(Subcommand)]
pub enum Chain {
    /// Add a program to the chain of an interface.
    ///
    /// Packets meet the chain as it was or as it is then, and none is lost between. The program is loaded or opened
    /// now, and stays when its file or pin is removed. Maps that its own tool has to fill must be pinned by that tool:
    /// then give the pinned program.
    Add(ChainAdd),
    /// List the programs that are asked before ours, in their order
    List {
        /// Only of this interface [default: all that have a chain]
        #[arg(value_name = "IFACE", value_hint = ValueHint::Other)]
        interface: Option<String>,
    },
    /// Delete a program from the chain of an interface. After the last one, the chain costs nothing
    Del {
        /// The interface, which is attached
        #[arg(value_name = "IFACE", value_hint = ValueHint::Other)]
        interface: String,
        /// The program's name or priority
        #[arg(value_name = "NAME|PRIORITY", value_hint = ValueHint::Other)]
        program: String,
    },
}

#[derive(Args)]
pub struct ChainAdd {
    /// The interface, which is attached in native or skb mode
    #[arg(value_name = "IFACE", value_hint = ValueHint::Other)]
    pub interface: String,

    /// A pinned XDP program, or an object file with one. Where it has several, the name or section of the one that is
    /// meant follows a colon
    #[arg(value_name = "PINNED|FILE.o[:SECTION]", value_hint = ValueHint::FilePath)]
    pub program: String,

    /// Programs with a lower number are asked earlier [default: behind the others, at 50 or 10 after the last one]
    #[arg(long, value_name = "N")]
    pub priority: Option<u32>,

    /// After which of the program's verdicts the next program is asked: aborted, drop, pass, tx, redirect. All others
    /// hold for the packet
    #[arg(long, value_name = "VERDICT,…", default_value = "pass")]
    pub on: Verdicts,
}
