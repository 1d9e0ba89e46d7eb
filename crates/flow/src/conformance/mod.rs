//! One suite per contract; every implementation runs it in its own tests.
//!
//! A suite is an async function that takes a way to make the thing under test and panics with
//! the rule that was broken. It needs a tokio runtime.

pub mod channel;
pub mod doubles;
pub mod sink;
pub mod source;

use crate::batch::Batch;
use crate::event::Event;

/// A batch of events whose bodies are the numbers of `range`.
pub fn numbers(range: std::ops::Range<usize>) -> Batch {
    Batch::from_events(range.map(|number| Event::new(number.to_string())))
}

/// The bodies of a batch as numbers.
///
/// # Panics
/// When a body is not a number.
pub fn to_numbers(batch: &Batch) -> Vec<usize> {
    batch
        .iter()
        .map(|event| {
            let text = std::str::from_utf8(event.body).expect("a number");
            text.parse().expect("a number")
        })
        .collect()
}
