//! Small values of the ABI as the words that memory is read and written in.

use crate::datapath::abi::{self, Plain};

/// A value of 8 bytes as a word.
pub fn word_of<T: Plain>(value: &T) -> u64 {
    const { assert!(size_of::<T>() == 8) };
    let mut word = 0;
    abi::bytes_of_mut(&mut word).copy_from_slice(abi::bytes_of(value));
    word
}

/// The value of 8 bytes that a word is.
pub fn of_word<T: Plain>(word: u64) -> T {
    const { assert!(size_of::<T>() == 8) };
    let mut value = abi::zero();
    abi::bytes_of_mut(&mut value).copy_from_slice(abi::bytes_of(&word));
    value
}
