//! What was typed, of the bytes that a terminal sends.
//!
//! crossterm 0.29 reads keys, too, but tries again for ever where the terminal has gone (its issue 793), waits for the
//! rest of a sequence however long that takes, and cannot be waited for together with signals.

/// A key that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

const ESCAPE: u8 = 0x1b;

/// Bytes of which keys are made.
#[derive(Default)]
pub struct Keys(Vec<u8>);

/// What the first bytes are.
enum Parsed {
    /// So many of them; None: nothing that means something here.
    Whole(usize, Option<Key>),
    /// The beginning of something.
    Part,
}

impl Keys {
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next key that is whole.
    pub fn next(&mut self) -> Option<Key> {
        while let Parsed::Whole(length, key) = parse(&self.0) {
            self.0.drain(..length);
            if key.is_some() {
                return key;
            }
        }
        None
    }

    /// Whether the rest of a key is still to come, or it was the escape key.
    pub fn is_open(&self) -> bool {
        !self.0.is_empty()
    }

    /// What it is when no rest comes.
    pub fn close(&mut self) -> Option<Key> {
        let is_escape = self.0 == [ESCAPE];
        self.0.clear();
        is_escape.then_some(Key::Escape)
    }
}

fn parse(bytes: &[u8]) -> Parsed {
    let Some(&first) = bytes.first() else {
        return Parsed::Part;
    };
    match first {
        ESCAPE => sequence(&bytes[1..]),
        b'\r' | b'\n' => Parsed::Whole(1, Some(Key::Enter)),
        0x7f | 0x08 => Parsed::Whole(1, Some(Key::Backspace)),
        0..0x20 => Parsed::Whole(1, None),
        _ => character(bytes),
    }
}

fn character(bytes: &[u8]) -> Parsed {
    let length = match bytes[0] {
        0..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf8 => 4,
        _ => return Parsed::Whole(1, None),
    };
    let Some(bytes) = bytes.get(..length) else {
        return Parsed::Part;
    };
    match str::from_utf8(bytes) {
        Ok(text) => Parsed::Whole(length, text.chars().next().map(Key::Char)),
        Err(_) => Parsed::Whole(1, None),
    }
}

/// What follows the escape character: CSI or SS3, parameters, and a letter or a tilde.
fn sequence(bytes: &[u8]) -> Parsed {
    let is_last = |byte: &u8| (0x40..0x7f).contains(byte);
    match bytes {
        [] | [b'[' | b'O'] => Parsed::Part,
        [b'[' | b'O', rest @ ..] => match rest.iter().position(is_last) {
            Some(last) => Parsed::Whole(last + 3, named(&rest[..=last])),
            None => Parsed::Part,
        },
        // Another key came with it.
        _ => Parsed::Whole(1, Some(Key::Escape)),
    }
}

fn named(sequence: &[u8]) -> Option<Key> {
    Some(match sequence {
        b"A" => Key::Up,
        b"B" => Key::Down,
        b"H" | b"1~" | b"7~" => Key::Home,
        b"F" | b"4~" | b"8~" => Key::End,
        b"5~" => Key::PageUp,
        b"6~" => Key::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(chunks: &[&[u8]]) -> Vec<Key> {
        let mut keys = Keys::default();
        let mut all = Vec::new();
        for chunk in chunks {
            keys.add(chunk);
            all.extend(std::iter::from_fn(|| keys.next()));
        }
        assert_eq!(keys.is_open(), keys.close().is_some());
        all
    }

    #[test]
    fn keys_are_told_apart_however_their_bytes_come() {
        use Key::*;
        let typed = b"q/\xc3\xbc\r\x7f\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1b[4~";
        let wanted = [
            Char('q'),
            Char('/'),
            Char('ü'),
            Enter,
            Backspace,
            Up,
            Down,
            PageUp,
            PageDown,
            Home,
            End,
        ];
        assert_eq!(keys(&[typed]), wanted);
        let one_by_one: Vec<&[u8]> = typed.chunks(1).collect();
        assert_eq!(keys(&one_by_one), wanted);
    }

    #[test]
    fn what_means_nothing_here_is_passed_over() {
        let typed = b"\x1b[1;5C\x01\xff\xc3(\x1b[200~a";
        assert_eq!(keys(&[typed]), [Key::Char('('), Key::Char('a')]);
    }

    #[test]
    fn escape_is_a_key_when_nothing_follows() {
        let mut keys = Keys::default();
        keys.add(b"\x1b");
        assert_eq!((keys.next(), keys.is_open()), (None, true));
        assert_eq!(keys.close(), Some(Key::Escape));
        keys.add(b"\x1b/");
        let both = [keys.next(), keys.next()];
        assert_eq!(both, [Some(Key::Escape), Some(Key::Char('/'))]);
        keys.add(b"\x1b[");
        assert_eq!((keys.next(), keys.close()), (None, None));
    }
}
