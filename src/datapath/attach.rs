//! Attaching.

use std::collections::BTreeSet;

use anyhow::Result;

use super::apply::{Interfaces, Others, Wanted, apply};
use super::cause::exit_code;
use super::interface::Interface;
use super::kernel_layout::LinkLayout;
use super::lock::Lock;
use super::program::{Loaded, Means};
use super::stances::interfaces;
use super::{Pins, RuleStore, Transaction, attachment, policy};
use crate::error::Exit;
use crate::host::device::Device;
use crate::model::{
    ForAnswers, LedgerState, Mode, NamedPolicy, Plan, Policy, Purpose, Refusal, TableSize,
    TakenOver,
};

/// What became of one device of a request.
pub struct Attached {
    pub device: Device,
    pub mode: Mode,
    /// Why this mode.
    pub reason: String,
    /// It was attached before.
    pub already: bool,
    /// It was attached for answers alone. From now on rules take packets there, too.
    pub was_for_answers: bool,
    /// The program that was replaced.
    pub replaced: Option<String>,
    /// The program that was there, and is asked before ours from now on.
    pub taken_in: Option<String>,
    /// The program was taken off the device that had its name or index before, and is in another
    /// network namespace.
    pub made_room: bool,
    pub ledger: LedgerState,
    /// Why there is no ledger, though it was wanted.
    pub no_ledger: Option<Refusal>,
    /// Why backends whose link is down are not skipped; None where they are, or nobody has looked.
    pub no_links: Option<Refusal>,
    /// What becomes of the frames that no rule matches.
    pub policy: NamedPolicy,
    /// What it was, where it was attached for rules already.
    pub policy_before: Option<Policy>,
}

impl Attached {
    pub(super) fn new(device: &Device, mode: Mode, reason: String, ledger: LedgerState) -> Self {
        Attached {
            device: device.clone(),
            mode,
            reason,
            already: false,
            was_for_answers: false,
            replaced: None,
            taken_in: None,
            made_room: false,
            ledger,
            no_ledger: None,
            no_links: None,
            policy: NamedPolicy::default(),
            policy_before: None,
        }
    }

    /// Whether something else is done there than before.
    pub(super) fn is_changed(&self) -> bool {
        self.policy_before != Some(self.policy.policy)
    }
}

/// What was done with interfaces.
pub struct Report {
    /// Those that were wanted.
    pub attached: Vec<Attached>,
    /// The names of the others that were detached.
    pub detached: Vec<String>,
    /// The interfaces that another version had attached.
    pub taken_over: Vec<TakenOver>,
    /// Where a bpffs was mounted, because there was none.
    pub mounted: Option<&'static str>,
    /// What the rules need.
    pub for_answers: ForAnswers,
    /// How many connections are remembered.
    pub connections: TableSize,
}

/// Attaches to all devices or to none. Mounts a bpffs where the default pin directory needs one.
pub fn attach(pins: &Pins, wanted: &Interfaces) -> Result<Report> {
    require_links(pins)?;
    let nothing = |_: &mut Transaction| Ok((Plan::default(), ()));
    let (report, ()) = apply(pins, wanted, &BTreeSet::new(), nothing)?;
    Ok(report)
}

/// Links are root's. Who may not open them attaches nothing, not even what is attached already.
fn require_links(pins: &Pins) -> Result<()> {
    let interfaces = interfaces(pins).unwrap_or_default();
    let mut refused = interfaces
        .iter()
        .filter_map(|interface| interface.ids(pins).err());
    let is_refusal = |error: &anyhow::Error| exit_code(error) == Exit::Permission;
    refused.find(is_refusal).map_or(Ok(()), Err)
}

/// Attaches to a device for answers alone, beside other interfaces. The mode, and why it is that one.
pub(super) fn attach_for_answers(
    pins: &Pins,
    lock: &Lock,
    device: &Device,
    before: &[Interface],
) -> Result<(Mode, String)> {
    let unwanted = |interface: &Interface| interface.ledger == LedgerState::Unwanted;
    let wanted = Wanted {
        device: device.clone(),
        mode: None,
        ledger: !before.iter().any(unwanted),
        policy: None,
        others: Others::default(),
    };
    let means = Means {
        pins,
        purpose: Purpose::Answers,
        stance: policy::encode(&Policy::Pass, Purpose::Answers),
        links: LinkLayout::of_kernel(),
        before,
    };
    let attached = Loaded::new(&wanted, &means).and_then(|loaded| {
        RuleStore::open(pins)?.open_to_answers(lock, &BTreeSet::from([device.ifindex]))?;
        loaded.link(pins, &mut Vec::new())
    });
    match attached {
        Ok(attached) => Ok((attached.mode, attached.reason)),
        Err(error) => {
            let _ = attachment::remove_pins(pins, device.ifindex);
            Err(error)
        }
    }
}
