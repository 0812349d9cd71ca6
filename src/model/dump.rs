//! Frames that are taken away from the stack.

use std::time::SystemTime;

/// A queue that frames are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadQueue {
    pub number: u32,
    /// The driver writes the frames where they are read.
    pub zero_copy: bool,
}

/// A frame that was taken.
#[derive(Clone, Copy, Debug)]
pub struct TakenFrame<'a> {
    /// When it was read.
    pub time: SystemTime,
    /// The queue that it came by.
    pub queue: u32,
    pub bytes: &'a [u8],
}

/// What became of the frames that were wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// They were read.
    pub read: u64,
    /// They were taken, and not read, because enough were.
    pub beyond: u64,
    /// They were lost because they came faster than they were read.
    pub lost: u64,
    /// They were too long for the sockets, and went to the stack.
    pub too_long: u64,
}
