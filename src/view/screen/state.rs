//! What somebody has chosen to see, by the keys that were pressed.

use super::keys::Key;

/// In which order rows come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Those that lose packets, then the busiest.
    #[default]
    Busiest,
    /// As `rule list` has them.
    Rules,
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Draw,
    /// Other rows, or the same ones in another order.
    Choose,
    End,
}

#[derive(Default)]
pub struct State {
    pub order: Order,
    /// What rows must have in their words.
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    /// How many rows are above those on the screen.
    pub above: usize,
    /// How many rows were on the screen.
    pub page: usize,
}

impl State {
    pub fn press(&mut self, key: Key) -> Next {
        match key {
            Key::Up => self.above = self.above.saturating_sub(1),
            Key::Down => self.above = self.above.saturating_add(1),
            Key::PageUp => self.above = self.above.saturating_sub(self.page.max(1)),
            Key::PageDown => self.above = self.above.saturating_add(self.page.max(1)),
            Key::Home => self.above = 0,
            Key::End => self.above = usize::MAX,
            _ if self.typing => return self.edit(key),
            Key::Escape if !self.filter.is_empty() => return self.filter_by(String::new()),
            Key::Escape | Key::Char('q') => return Next::End,
            Key::Char('/') => self.typing = true,
            Key::Char('s') => {
                self.order = match self.order {
                    Order::Busiest => Order::Rules,
                    Order::Rules => Order::Busiest,
                };
                self.above = 0;
                return Next::Choose;
            }
            _ => {}
        }
        Next::Draw
    }

    fn edit(&mut self, key: Key) -> Next {
        let mut filter = self.filter.clone();
        match key {
            Key::Char(c) => filter.push(c),
            Key::Backspace => drop(filter.pop()),
            Key::Escape => filter.clear(),
            _ => {}
        }
        self.typing = !matches!(key, Key::Enter | Key::Escape);
        self.filter_by(filter)
    }

    fn filter_by(&mut self, filter: String) -> Next {
        if self.filter == filter {
            return Next::Draw;
        }
        self.filter = filter;
        self.above = 0;
        Next::Choose
    }

    /// Whether the filter lets something through; case does not matter, and neither do underscores.
    pub fn lets(&self, words: impl FnOnce() -> String) -> bool {
        self.filter.is_empty() || plain(&words()).contains(&plain(&self.filter))
    }

    /// How many of so many rows are above the screen, where so many fit on it.
    pub fn above(&self, rows: usize, fit: usize) -> usize {
        self.above.min(rows.saturating_sub(fit))
    }
}

fn plain(text: &str) -> String {
    text.to_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(state: &mut State, text: &str) {
        for c in text.chars() {
            state.press(Key::Char(c));
        }
    }

    #[test]
    fn a_filter_is_typed_kept_and_cleared() {
        let mut state = State::default();
        assert_eq!(state.press(Key::Char('/')), Next::Draw);
        typed(&mut state, "qs!");
        assert_eq!(state.press(Key::Backspace), Next::Choose);
        assert_eq!(state.press(Key::Enter), Next::Draw);
        assert_eq!((state.filter.as_str(), state.typing), ("qs", false));
        assert_eq!(state.press(Key::Escape), Next::Choose);
        assert_eq!(state.filter, "");
        assert_eq!(state.press(Key::Escape), Next::End);
        typed(&mut state, "/x");
        assert_eq!(state.press(Key::Escape), Next::Choose);
        assert_eq!((state.filter.as_str(), state.typing), ("", false));
        assert_eq!(state.press(Key::Char('q')), Next::End);
    }

    #[test]
    fn a_filter_knows_no_case() {
        let filter = String::from("No_Rule");
        let state = State {
            filter,
            ..State::default()
        };
        assert!(state.lets(|| "lan skb pass no_rule".into()));
        assert!(state.lets(|| "NO RULE".into()));
        assert!(!state.lets(|| "lan skb pass".into()));
    }

    #[test]
    fn arrows_stay_within_the_rows() {
        let mut state = State::default();
        state.press(Key::Up);
        assert_eq!(state.above(10, 4), 0);
        state.page = 4;
        state.press(Key::PageDown);
        state.press(Key::Down);
        assert_eq!(state.above(10, 4), 5);
        state.press(Key::End);
        assert_eq!((state.above(10, 4), state.above(3, 4)), (6, 0));
        state.press(Key::Home);
        assert_eq!(state.above(10, 4), 0);
    }

    #[test]
    fn another_order_begins_at_the_top() {
        let mut state = State {
            above: 5,
            ..State::default()
        };
        assert_eq!(state.press(Key::Char('s')), Next::Choose);
        assert_eq!((state.order, state.above), (Order::Rules, 0));
        state.press(Key::Char('s'));
        assert_eq!(state.order, Order::Busiest);
    }
}
