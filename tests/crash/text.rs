//! The texts of events: each can be made again from its identity, so that one changed byte is seen.

use std::fmt;

/// Longest filler in characters, but for one text in 64 that is ten times as long.
const FILLER: u64 = 200;
/// What fillers are made of: also what JSON has to escape, and characters of several bytes.
const LETTERS: [char; 16] = [
    'a', 'b', 'c', 'x', 'Y', 'Z', '0', '9', ' ', '"', '\\', '{', '}', 'é', '€', '😀',
];

/// Which way an event takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A line in a file.
    Tail,
    /// An event of a post.
    Http,
}

/// The identity of an event: its way, who sent it, and the how manieth of that sender it is. For posts the number is
/// the post's times 256 plus the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) way: Way,
    pub(crate) sender: usize,
    pub(crate) number: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::Tail => 't',
            Way::Http => 'h',
        };
        write!(f, "{way}.{}.{}", self.sender, self.number)
    }
}

impl Identity {
    /// The whole text under `seed`.
    pub(crate) fn text(&self, seed: u64) -> String {
        let mut state = seed ^ (self.number << 8) ^ ((self.sender as u64) << 1) ^ self.way as u64;
        let choice = scramble(&mut state);
        let length = choice % FILLER * if choice >> 58 == 0 { 10 } else { 1 };
        let mut text = format!("{self} ");
        for _ in 0..length {
            text.push(LETTERS[(scramble(&mut state) >> 60) as usize]);
        }
        text.push('.');
        text
    }

    /// The identity that a text claims.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let (identity, _) = text.split_once(' ')?;
        let mut parts = identity.split('.');
        let way = match parts.next()? {
            "t" => Way::Tail,
            "h" => Way::Http,
            _ => return None,
        };
        let sender = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok()?;
        Some(Self {
            way,
            sender,
            number,
        })
    }
}

/// SplitMix64.
pub(crate) fn scramble(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
