//! Which numbers of a bank are taken: one bit for each.

use super::abi;

/// How many numbers a bank has.
pub const BITS: u32 = abi::BITMAP_BYTES * 8;

const WORDS: usize = BITS as usize / 64;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bitmap([u64; WORDS]);

impl Default for Bitmap {
    fn default() -> Self {
        Bitmap([0; WORDS])
    }
}

impl From<&abi::bitmap> for Bitmap {
    fn from(stored: &abi::bitmap) -> Self {
        let mut words = [0; WORDS];
        abi::bytes_of_mut(&mut words).copy_from_slice(&stored.bitmap);
        Bitmap(words)
    }
}

impl Bitmap {
    /// The bits as the map has them.
    pub fn stored(&self) -> abi::bitmap {
        let mut stored: abi::bitmap = abi::zero();
        stored.bitmap.copy_from_slice(abi::bytes_of(&self.0));
        stored
    }

    pub fn is_taken(&self, index: u32) -> bool {
        self.0[index as usize / 64] >> (index % 64) & 1 == 1
    }

    pub fn take(&mut self, index: u32) {
        self.0[index as usize / 64] |= 1 << (index % 64);
    }

    /// How many are taken.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Takes the lowest one that is free, from a number on.
    pub fn take_first(&mut self, from: u32) -> Option<u32> {
        let free = self.next(from, |word| !word)?;
        self.take(free);
        Some(free)
    }

    /// Takes so many that follow one another, the lowest that are free.
    pub fn take_run(&mut self, length: u32) -> Option<u32> {
        let mut from = 0;
        loop {
            let start = self.next(from, |word| !word)?;
            let end = self.next(start, |word| word).unwrap_or(BITS);
            if end - start >= length {
                (start..start + length).for_each(|index| self.take(index));
                return Some(start);
            }
            from = end;
        }
    }

    /// The next number whose bit is set in the words that `view` makes.
    fn next(&self, from: u32, view: impl Fn(u64) -> u64) -> Option<u32> {
        let mut mask = u64::MAX << (from % 64);
        for place in from as usize / 64..WORDS {
            let word = view(self.0[place]) & mask;
            if word != 0 {
                return Some(place as u32 * 64 + word.trailing_zeros());
            }
            mask = u64::MAX;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_ones_are_taken_first() {
        let mut bitmap = Bitmap::default();
        assert_eq!(bitmap.take_run(63), Some(0));
        assert_eq!(bitmap.take_first(0), Some(63));
        assert_eq!(bitmap.take_first(70), Some(70));
        assert_eq!(bitmap.take_run(7), Some(71));
        assert_eq!(bitmap.take_run(6), Some(64));
        assert_eq!(bitmap.take_run(BITS - 78), Some(78));
        assert_eq!((bitmap.take_first(0), bitmap.take_run(1)), (None, None));
        assert_eq!(bitmap.count(), BITS);
    }

    #[test]
    fn what_is_stored_is_read() {
        let mut bitmap = Bitmap::default();
        [0, 9, 4095].iter().for_each(|&index| bitmap.take(index));
        assert_eq!(Bitmap::from(&bitmap.stored()), bitmap);
        assert!(bitmap.is_taken(9) && !bitmap.is_taken(8));
    }
}
