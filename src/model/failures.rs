//! What became of redirected frames that did not arrive.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serialize;

use super::Remedy;

/// Frames by why they were lost after the program had redirected them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// The device, or who reads behind it, takes no redirected frames, none in several buffers, or
    /// none on that CPU.
    pub not_supported: u64,
    pub mtu: u64,
    /// The device or its peer is down.
    pub link_down: u64,
    /// The device went away just then.
    pub no_device: u64,
    /// The device left frames over: its queue was full, or its peer's MTU is smaller.
    pub queue_full: u64,
    pub other: u64,
    /// Of these, the frames with which the kernel gave an error or a drop reason, by reason and by its name.
    pub errors: BTreeMap<Loss, BTreeMap<String, u64>>,
}

impl AddAssign<&Failures> for Failures {
    fn add_assign(&mut self, other: &Self) {
        for loss in Loss::ALL {
            *self.frames_mut(loss) += other.frames(loss);
        }
        for (loss, errors) in &other.errors {
            for (error, frames) in errors {
                self.add_error(*loss, error.clone(), *frames);
            }
        }
    }
}

impl Failures {
    /// Adds frames that were lost for one reason, with the kernel's error where it gave one.
    pub fn add(&mut self, loss: Loss, frames: u64, error: Option<String>) {
        *self.frames_mut(loss) += frames;
        if let Some(error) = error {
            self.add_error(loss, error, frames);
        }
    }

    fn add_error(&mut self, loss: Loss, error: String, frames: u64) {
        *self
            .errors
            .entry(loss)
            .or_default()
            .entry(error)
            .or_default() += frames;
    }

    pub fn total(&self) -> u64 {
        Loss::ALL.iter().map(|loss| self.frames(*loss)).sum()
    }

    /// Those that were lost for one reason.
    pub fn frames(&self, loss: Loss) -> u64 {
        match loss {
            Loss::NotSupported => self.not_supported,
            Loss::Mtu => self.mtu,
            Loss::LinkDown => self.link_down,
            Loss::NoDevice => self.no_device,
            Loss::QueueFull => self.queue_full,
            Loss::Other => self.other,
        }
    }

    fn frames_mut(&mut self, loss: Loss) -> &mut u64 {
        match loss {
            Loss::NotSupported => &mut self.not_supported,
            Loss::Mtu => &mut self.mtu,
            Loss::LinkDown => &mut self.link_down,
            Loss::NoDevice => &mut self.no_device,
            Loss::QueueFull => &mut self.queue_full,
            Loss::Other => &mut self.other,
        }
    }
}

/// Why frames are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    NotSupported,
    Mtu,
    LinkDown,
    NoDevice,
    QueueFull,
    Other,
}

impl Loss {
    pub const ALL: [Loss; 6] = [
        Loss::NotSupported,
        Loss::Mtu,
        Loss::LinkDown,
        Loss::NoDevice,
        Loss::QueueFull,
        Loss::Other,
    ];
}

/// Frames that were lost at a device for one reason, in words.
pub struct Reason {
    pub loss: Loss,
    pub frames: u64,
    pub why: &'static str,
    /// The kernel's errors, as C calls them, and its drop reasons.
    pub errors: Vec<String>,
    pub remedy: Remedy,
}

impl Reason {
    /// Why, with the kernel's errors and drop reasons.
    pub fn evidence(&self) -> String {
        let (errnos, reasons): (Vec<_>, Vec<_>) =
            self.errors.iter().cloned().partition(|name| is_errno(name));
        let all = [("errno", errnos), ("drop reason", reasons)];
        let named = all.into_iter().filter(|(_, names)| !names.is_empty());
        let named = named.map(|(word, names)| format!(", {word} {}", names.join(" and ")));
        self.why.to_string() + &named.collect::<String>()
    }
}

/// What C calls errors begins so, and has no underscore.
fn is_errno(name: &str) -> bool {
    name.starts_with('E') && !name.contains('_')
}
