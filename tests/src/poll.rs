//! Waiting by asking: every wait in the whole-system tests has a question, a deadline and a sentence for the failure.
//!
//! Invariant: a wait that ends in time costs at most one pause more than it had to; one that does not says what it
//! waited for and what the last answer was.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Asks `attempt` until it answers `Ok(Some(value))`, at the latest until `limit` has passed.
///
/// An `Err` of the attempt is taken as "not yet" and becomes the reason shown when time runs out.
///
/// # Errors
/// `what` did not happen within `limit`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let last_error = match attempt() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if started.elapsed() >= limit {
            let seconds = limit.as_secs_f64();
            match last_error {
                Some(error) => return Err(error.context(format!("{what}: not within {seconds} s"))),
                None => bail!("{what}: not within {seconds} s"),
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// [`until`] for a plain yes or no.
///
/// # Errors
/// `what` did not become true within `limit`.
pub fn until_true(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, limit, || Ok(attempt()?.then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_yes_ends_the_wait() {
        let mut asked = 0;
        let value = until("three", Duration::from_secs(5), || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(value.expect("the third answer is yes"), 3);
    }

    #[test]
    fn a_wait_in_vain_names_what_it_waited_for_and_the_last_error() {
        let error = until(
            "the moon",
            Duration::from_millis(20),
            || -> Result<Option<()>> { bail!("no moon yet") },
        )
        .expect_err("it never comes");
        let text = format!("{error:#}");
        assert!(
            text.contains("the moon") && text.contains("no moon yet"),
            "{text}"
        );
    }
}
