//! The mode in which a device takes the program, and why it refuses one.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::Result;
use libbpf_rs::{Xdp, XdpFlags};

use super::foreign::Foreign;
use super::interface::Interface;
use super::{log, sys};
use crate::error::{Exit, failure};
use crate::host::device::{self, Device};
use crate::host::features;
use crate::model::{ETHERNET_MTU, Mode, NamedPolicy, Purpose, Refusal, Remedy, Verb};

/// The kernel's words where a driver has no XDP at all (net/core/dev.c).
const NO_NATIVE_MODE: &str = "driver does not support XDP in native mode";

pub fn flags(mode: Mode) -> XdpFlags {
    match mode {
        Mode::Native => XdpFlags::DRV_MODE,
        Mode::Skb => XdpFlags::SKB_MODE,
        Mode::Tc => XdpFlags::NONE, // not of XDP
    }
}

/// Its words where a device above, as a bridge above its port, has a program (the same file).
const PROGRAM_ABOVE: &str = "an upper device already has a program";

/// The mode to try first, why, and what comes after it.
pub struct Choice {
    pub mode: Mode,
    pub reason: String,
    /// Where the kernel refuses that. Generic mode has none: a device that refuses it refuses the other one, too.
    pub otherwise: Option<Mode>,
}

impl Choice {
    fn of(mode: Mode, reason: impl Into<String>) -> Self {
        Choice {
            mode,
            reason: reason.into(),
            otherwise: (mode == Mode::Native).then_some(Mode::Skb),
        }
    }
}

/// Chooses a mode for a device, unless somebody wants one. `interfaces` are those that have the program already.
pub fn choose(
    device: &Device,
    wanted: Option<Mode>,
    purpose: Purpose,
    interfaces: &[Interface],
) -> Result<Choice> {
    if let Some(mode) = wanted {
        return Ok(Choice {
            otherwise: None,
            ..Choice::of(mode, "as asked")
        });
    }
    let is_tc = |i: &Interface| i.purpose == Purpose::Rules && i.mode == Mode::Tc;
    if purpose == Purpose::Answers && interfaces.iter().any(is_tc) {
        let reason =
            "requests come by the tc hook, and large segments of answers are sent on whole there";
        return Ok(Choice::of(Mode::Tc, reason));
    }
    if device.is_bridge() {
        return Ok(Choice::of(Mode::Skb, "a bridge has no native mode"));
    }
    if purpose == Purpose::Answers
        && let Some(choice) = for_answers(device, interfaces)
    {
        return Ok(choice);
    }
    Ok(if device.is_veth() {
        let reason = "on a veth, generic is faster for what sockets send";
        Choice::of(Mode::Skb, reason)
    } else if device.is_tap() {
        let reason = "on a tap, generic delivers to any device, native only where a veth's peer has GRO on or a program";
        Choice::of(Mode::Skb, reason)
    } else if features::xdp_of(device)?.redirect == Some(false) {
        Choice::of(Mode::Skb, "its driver has no native mode")
    } else {
        Choice::of(Mode::Native, "its driver runs XDP")
    })
}

/// What is chosen where answers arrive, for their sake.
fn for_answers(device: &Device, interfaces: &[Interface]) -> Option<Choice> {
    let is_beyond = |i: &&Interface| i.purpose == Purpose::Rules && !i.reachable;
    if let Some(clients) = interfaces.iter().find(is_beyond) {
        // Natively, answers could not be sent straight to such clients, and what the host routes has to get
        // past its firewall.
        let name = clients.name();
        let reason = format!(
            "as far as the kernel says, {name} takes no frames that are redirected natively"
        );
        return Some(Choice::of(Mode::Skb, reason));
    }
    // Generic would see several segments in one frame, which the host then has to route.
    let reason = "the kernel then keeps segmentation offload off at the veth's peer";
    device.is_veth().then(|| Choice::of(Mode::Native, reason))
}

/// Why a device does not take the program.
pub struct Refused {
    exit: Exit,
    why: String,
}

impl Refused {
    pub fn new(exit: Exit, why: String) -> Self {
        Refused { exit, why }
    }

    /// Why the other mode was taken.
    pub fn reason(&self) -> String {
        if self.why.contains(NO_NATIVE_MODE) {
            return "its driver has no native mode".into();
        }
        format!("its driver refused native mode: {}", self.why)
    }

    /// Such a program could be tried, but what it redirects would be lost.
    pub fn of_several_buffers(mut self) -> Self {
        self.why += &format!(
            "; above an MTU of {ETHERNET_MTU}, frames may lie in several buffers, and this kernel (before \
             Linux 6.3) loses such frames when they are redirected natively"
        );
        self
    }

    /// The error of a program that is not there to redirect.
    pub fn of(self, what: &str) -> anyhow::Error {
        failure(self.exit, format!("{what}: {}", self.why))
    }

    /// The error, with what helps.
    pub fn failure(self, device: &Device, mode: Mode, policy: &NamedPolicy) -> anyhow::Error {
        let Refused { exit, why } = self;
        if why.contains(PROGRAM_ABOVE)
            && let Ok(Some((above, program))) = program_above(device)
        {
            return failure(exit, beneath(device, above, &program));
        }
        let what = if mode == Mode::Tc {
            "tc programs"
        } else {
            "XDP"
        };
        let why = format!("{} cannot run {what} in {mode} mode: {why}", device.name);
        failure(exit, (why, remedy(device, mode, exit, policy)))
    }
}

fn remedy(device: &Device, mode: Mode, exit: Exit, policy: &NamedPolicy) -> Remedy {
    if (exit, mode) != (Exit::Unsupported, Mode::Native) {
        return Remedy::default();
    }
    let skb = Verb::Attach {
        interfaces: vec![device.name.clone()],
        mode: Some(Mode::Skb),
        force: false,
        policy: policy.option(),
    };
    Remedy::from(skb) + " works on any device"
}

/// The device above that has a program, and that.
fn program_above(device: &Device) -> Result<Option<(String, Foreign)>> {
    let is_above = |other: &Device| {
        let stands_on_it = other.link == Some(device.ifindex) && other.link_nsid.is_none();
        device.master == Some(other.ifindex) || stands_on_it && !other.is_pair()
    };
    for above in device::all()?.into_iter().filter(is_above) {
        if let Some(program) = Foreign::find(above.ifindex)? {
            return Ok(Some((above.name, program)));
        }
    }
    Ok(None)
}

/// Why a device takes no program below another one, and what helps.
fn beneath(device: &Device, above: String, program: &Foreign) -> Refusal {
    let (name, whose) = (&device.name, program.describe());
    let why = format!(
        "{name}: the kernel takes no program there, because {above} above it already has one"
    );
    if !program.redirects() {
        return (format!("{why}, {whose}"), "detach that first").into();
    }
    let both = format!(" first, then attach {name} and {above} at once");
    (why, Remedy::from(Verb::Detach(vec![above])) + both).into()
}

/// Attaches for as long as the link, or a pin of it, exists.
pub fn link(program: &OwnedFd, device: &Device, mode: Mode) -> Result<OwnedFd, Refused> {
    let (program_fd, ifindex) = (program.as_fd(), device.ifindex);
    let linked = match mode {
        Mode::Tc => sys::tcx_link_create(program_fd, ifindex),
        _ => sys::xdp_link_create(program_fd, ifindex, flags(mode)),
    };
    linked.map_err(|error| {
        let exit = match error.raw_os_error() {
            Some(nix::libc::EOPNOTSUPP | nix::libc::EINVAL | nix::libc::ERANGE) => {
                Exit::Unsupported
            }
            Some(nix::libc::EBUSY | nix::libc::EEXIST) => Exit::Conflict,
            Some(nix::libc::EPERM | nix::libc::EACCES) => Exit::Permission,
            Some(nix::libc::ENODEV) => Exit::NotFound,
            _ => Exit::Failed,
        };
        let why = match mode {
            Mode::Tc => error.to_string(),
            _ => driver_says(program, ifindex, mode).unwrap_or_else(|| error.to_string()),
        };
        Refused { exit, why }
    })
}

/// The driver's own words. The system call that makes links has none but an errno, so the program is
/// attached over netlink once more, which fails in the same way.
fn driver_says(program: &OwnedFd, ifindex: u32, mode: Mode) -> Option<String> {
    log::take_said();
    let no_other = flags(mode) | XdpFlags::UPDATE_IF_NOEXIST;
    if Xdp::new(program.as_fd())
        .attach(ifindex as i32, no_other)
        .is_ok()
    {
        let _ = sys::netlink_detach(ifindex, flags(mode));
    }
    log::take_said().netlink
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_driver_has_no_native_mode_does_not_read_like_an_error() {
        let reason = |why: &str| {
            let (exit, why) = (Exit::Unsupported, why.into());
            Refused { exit, why }.reason()
        };
        let none = reason("Underlying driver does not support XDP in native mode");
        assert_eq!(none, "its driver has no native mode");
        let large = reason("veth: Peer MTU is too large to set XDP");
        assert!(large.ends_with(": veth: Peer MTU is too large to set XDP"));
    }
}
