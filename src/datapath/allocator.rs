//! Which numbers are free in all banks of a kind. What is taken is in memory until it is stored: a change
//! that is given up, or killed, has taken nothing.

use super::bitmap::{BITS, Bitmap};

/// The numbers of all banks: bank * BITS + index.
#[derive(Default)]
pub struct Allocator {
    banks: Vec<Bank>,
    /// No bank before this one has a free number.
    first: usize,
}

struct Bank {
    taken: Bitmap,
    free: u32,
    is_stored: bool,
}

impl Bank {
    fn new(taken: Bitmap, is_stored: bool) -> Self {
        let free = BITS - taken.count();
        Bank {
            taken,
            free,
            is_stored,
        }
    }
}

impl Allocator {
    /// What the banks' bitmaps say.
    pub fn new(banks: impl IntoIterator<Item = Bitmap>) -> Self {
        let banks = banks.into_iter().map(|taken| Bank::new(taken, true));
        Allocator {
            banks: banks.collect(),
            first: 0,
        }
    }

    pub fn banks(&self) -> u32 {
        self.banks.len() as u32
    }

    /// Adds empty banks.
    pub fn extend(&mut self, count: u32) {
        let new = (0..count).map(|_| Bank::new(Bitmap::default(), true));
        self.banks.extend(new);
    }

    /// How many numbers are free.
    pub fn free(&self) -> usize {
        self.banks.iter().map(|bank| bank.free as usize).sum()
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.banks.len() * BITS as usize - self.free()
    }

    /// Takes numbers that follow one another: within a bank, or whole banks.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        match count {
            1 => self.take_one(),
            _ if count <= BITS => self.take_run(count),
            _ => self.take_banks(count.div_ceil(BITS)),
        }
    }

    fn take_one(&mut self) -> Option<u32> {
        while self.banks.get(self.first)?.free == 0 {
            self.first += 1;
        }
        let bank = &mut self.banks[self.first];
        let index = bank.taken.take_first(0)?;
        bank.free -= 1;
        bank.is_stored = false;
        Some(self.first as u32 * BITS + index)
    }

    fn take_run(&mut self, count: u32) -> Option<u32> {
        for (number, bank) in self.banks.iter_mut().enumerate().skip(self.first) {
            if bank.free < count {
                continue;
            }
            if let Some(index) = bank.taken.take_run(count) {
                bank.free -= count;
                bank.is_stored = false;
                return Some(number as u32 * BITS + index);
            }
        }
        None
    }

    fn take_banks(&mut self, count: u32) -> Option<u32> {
        let count = count as usize;
        let are_free = |banks: &[Bank]| banks.iter().all(|bank| bank.free == BITS);
        let start = self.banks.windows(count).position(are_free)?;
        for bank in &mut self.banks[start..start + count] {
            (0..BITS).for_each(|index| bank.taken.take(index));
            bank.free = 0;
            bank.is_stored = false;
        }
        Some(start as u32 * BITS)
    }

    /// Frees all numbers but those that are marked.
    pub fn keep_only(&mut self, marks: &Marks) {
        let kept = |number| marks.banks.get(number).cloned().unwrap_or_default();
        for (number, bank) in self.banks.iter_mut().enumerate() {
            let kept = kept(number);
            let is_stored = bank.is_stored && bank.taken == kept;
            *bank = Bank::new(kept, is_stored);
        }
        self.first = 0;
    }

    /// The bitmaps that are not stored yet; from now on they are.
    pub fn store<E>(&mut self, put: impl Fn(u32, &Bitmap) -> Result<(), E>) -> Result<(), E> {
        for (number, bank) in self.banks.iter_mut().enumerate() {
            if !bank.is_stored {
                put(number as u32, &bank.taken)?;
                bank.is_stored = true;
            }
        }
        Ok(())
    }

    /// The numbers that are taken and not marked.
    pub fn unmarked<'a>(&'a self, marks: &'a Marks) -> impl Iterator<Item = u32> + 'a {
        let numbers = |(number, bank): (usize, &'a Bank)| {
            let first = number as u32 * BITS;
            let taken = (0..BITS).filter(|&index| bank.taken.is_taken(index));
            taken.map(move |index| first + index)
        };
        let all = self.banks.iter().enumerate().flat_map(numbers);
        all.filter(|&number| !marks.has(number))
    }
}

/// Numbers that are in use.
#[derive(Default)]
pub struct Marks {
    banks: Vec<Bitmap>,
}

impl Marks {
    /// For as many banks as there are; numbers beyond them are left out.
    pub fn new(banks: u32) -> Self {
        Marks {
            banks: vec![Bitmap::default(); banks as usize],
        }
    }

    pub fn has(&self, number: u32) -> bool {
        let bank = self.banks.get((number / BITS) as usize);
        bank.is_some_and(|bank| bank.is_taken(number % BITS))
    }

    pub fn mark(&mut self, number: u32) {
        if let Some(bank) = self.banks.get_mut((number / BITS) as usize) {
            bank.take(number % BITS);
        }
    }

    /// Marks numbers that follow one another.
    pub fn mark_run(&mut self, first: u32, count: u32) {
        (0..count).for_each(|offset| self.mark(first.saturating_add(offset)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_banks(count: u32) -> Allocator {
        let mut allocator = Allocator::default();
        allocator.extend(count);
        allocator
    }

    #[test]
    fn runs_lie_in_one_bank_and_larger_ones_take_whole_banks() {
        let mut all = with_banks(4);
        assert_eq!(all.take(4000), Some(0));
        assert_eq!(all.take(252), Some(BITS));
        assert_eq!(all.take(2 * BITS), Some(2 * BITS));
        assert_eq!(all.take(2 * BITS), None);
        assert_eq!(all.take(1), Some(4000));
        assert_eq!(all.free(), 95 + BITS as usize - 252);
        assert_eq!(all.taken() + all.free(), 4 * BITS as usize);
        all.extend(2);
        assert_eq!(all.take(2 * BITS), Some(4 * BITS));
    }

    #[test]
    fn what_is_not_marked_is_free_again_and_stored_once() {
        let mut all = with_banks(2);
        (0..BITS + 9).for_each(|number| assert_eq!(all.take(1), Some(number)));
        let mut marks = Marks::new(all.banks());
        marks.mark_run(5, 2);
        marks.mark(BITS);
        marks.mark(u32::MAX);
        assert_eq!(all.unmarked(&marks).count(), BITS as usize + 6);
        all.keep_only(&marks);
        assert_eq!((all.taken(), all.take(6)), (3, Some(7)));
        let stored = std::cell::RefCell::new(Vec::new());
        let put = |number, _: &Bitmap| -> Result<(), ()> {
            stored.borrow_mut().push(number);
            Ok(())
        };
        all.store(put).unwrap();
        all.store(put).unwrap();
        assert_eq!(stored.into_inner(), [0, 1]);
    }
}
