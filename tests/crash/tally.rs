//! Counts what came out, and compares it with what went in.

use std::collections::HashMap;

use anyhow::{Result, ensure};

use crate::conf::{SINK_BATCH, TAIL_BATCH};
use crate::load::{Outcome, POSTERS, Sent};
use crate::text::{Identity, Way};

/// Puts of taildir that one kill may repeat. The position journal follows the puts within milliseconds, and a put takes
/// at least one fsync; this many leave room for a machine that stalls between the two.
const TAIL_PUTS_REPEATED: u64 = 20;

/// How often agent and log were killed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kills {
    pub(crate) agent: u64,
    pub(crate) agent_at_start: u64,
    pub(crate) log: u64,
}

/// What was read from the topic.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    seed: u64,
    seen: HashMap<(bool, usize, u64), u32>,
    newest_of_poster: HashMap<usize, u64>,
    records: u64,
    torn: Vec<String>,
    disorder: Vec<String>,
}

fn key(identity: Identity) -> (bool, usize, u64) {
    (identity.way == Way::Http, identity.sender, identity.number)
}

impl Tally {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Takes one record in the order of the topic.
    pub(crate) fn record(&mut self, value: &[u8]) {
        self.records += 1;
        let text = String::from_utf8_lossy(value);
        let whole = Identity::of(&text).filter(|identity| identity.text(self.seed) == text);
        let Some(identity) = whole else {
            self.torn.push(text.chars().take(120).collect());
            return;
        };
        let times = self.seen.entry(key(identity)).or_default();
        *times += 1;
        if *times > 1 || identity.way == Way::Tail {
            return;
        }
        let newest = self.newest_of_poster.entry(identity.sender).or_default();
        if identity.number < *newest {
            self.disorder.push(format!("{identity} after {newest}"));
        }
        *newest = identity.number;
    }

    fn times(&self, way: Way, sender: usize, number: u64) -> u32 {
        let known = self.seen.get(&(way == Way::Http, sender, number));
        known.copied().unwrap_or(0)
    }

    /// Whether an event has come out.
    pub(crate) fn has(&self, identity: Identity) -> bool {
        self.seen.contains_key(&key(identity))
    }

    /// Records read so far.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Complete lines and acknowledged events that have not come out.
    pub(crate) fn missing(&self, sent: &Sent) -> Vec<Identity> {
        let lines = (0..).zip(&sent.lines).flat_map(|(sender, lines)| {
            (0..*lines).map(move |number| Identity {
                way: Way::Tail,
                sender,
                number,
            })
        });
        let posts = (0..).zip(&sent.posts).flat_map(|(sender, posts)| {
            let acknowledged = (0_u64..)
                .zip(posts)
                .filter(|(_, post)| post.outcome == Outcome::Acknowledged);
            acknowledged.flat_map(move |(post, of)| {
                (0..of.events).map(move |event| Identity {
                    way: Way::Http,
                    sender,
                    number: (post << 8) + event,
                })
            })
        });
        lines
            .chain(posts)
            .filter(|identity| !self.seen.contains_key(&key(*identity)))
            .collect()
    }

    /// The verdict: a report to print.
    ///
    /// # Errors
    /// Something is lost, torn, out of order, half stored, or there too often.
    pub(crate) fn verdict(&self, sent: &Sent, kills: Kills) -> Result<String> {
        let mut report = Vec::new();
        let missing = self.missing(sent);
        let count = |wanted: fn(&Outcome) -> bool| {
            let posts = sent.posts.iter().flatten();
            let chosen = posts.filter(|post| wanted(&post.outcome));
            chosen.fold((0, 0), |(posts, events), post| {
                (posts + 1, events + post.events)
            })
        };
        let (acknowledged, acknowledged_events) = count(|o| *o == Outcome::Acknowledged);
        let (unanswered, _) = count(|o| *o == Outcome::Unanswered);
        let (refused, _) = count(|o| matches!(o, Outcome::Refused(_)));
        let (stored, halves) = self.unacknowledged(sent);
        let [tail_repeats, http_repeats] = [false, true].map(|http| self.repeats(http));
        let sink_bound = kills.agent * SINK_BATCH as u64;
        let tail_bound = self.repeats_bound(kills) - sink_bound;
        report.push(format!(
            "agent killed {} times, {} of them within 0.2 s of its start; log killed {} times",
            kills.agent, kills.agent_at_start, kills.log
        ));
        report.push(format!(
            "http: {acknowledged} posts acknowledged ({acknowledged_events} events), {refused} refused, {unanswered} \
             unanswered at a kill, {stored} of these stored all the same (at most {})",
            kills.agent * POSTERS as u64
        ));
        report.push(format!(
            "tail: {} complete lines; topic: {} records",
            sent.lines.iter().sum::<u64>(),
            self.records
        ));
        report.push(format!(
            "lost {}, torn {}, half-stored posts {}, out of order {}",
            missing.len(),
            self.torn.len(),
            halves.len(),
            self.disorder.len()
        ));
        report.push(format!(
            "there again: {http_repeats} events of http (at most {sink_bound}: a batch of the sink a kill), {tail_repeats} \
             lines (at most {tail_bound}: that, and what taildir put since it last noted its positions)"
        ));
        let report = report.join("\n  ");
        let first = |of: &[String]| {
            of.iter()
                .take(5)
                .cloned()
                .collect::<Vec<_>>()
                .join("\n    ")
        };
        let names: Vec<String> = missing.iter().map(Identity::to_string).collect();
        ensure!(missing.is_empty(), "lost: {}\n  {report}", first(&names));
        ensure!(
            self.torn.is_empty(),
            "torn: {}\n  {report}",
            first(&self.torn)
        );
        ensure!(halves.is_empty(), "half: {}\n  {report}", first(&halves));
        ensure!(
            self.disorder.is_empty(),
            "order: {}\n  {report}",
            first(&self.disorder)
        );
        ensure!(
            stored <= kills.agent * POSTERS as u64,
            "too many stored\n  {report}"
        );
        ensure!(http_repeats <= sink_bound, "http repeats\n  {report}");
        ensure!(tail_repeats <= tail_bound, "line repeats\n  {report}");
        Ok(report)
    }

    /// Most records that kills may repeat, on both ways together.
    pub(crate) fn repeats_bound(&self, kills: Kills) -> u64 {
        kills.agent * (2 * SINK_BATCH as u64 + TAIL_PUTS_REPEATED * TAIL_BATCH as u64)
    }

    /// What must not be whatever happened: texts that nobody sent, posts that came in part, posts out of order.
    pub(crate) fn sound(&self, sent: &Sent) -> Result<()> {
        let (_, halves) = self.unacknowledged(sent);
        for (what, found) in [
            ("torn", &self.torn),
            ("half stored", &halves),
            ("out of order", &self.disorder),
        ] {
            let first: Vec<&str> = found.iter().take(5).map(String::as_str).collect();
            ensure!(found.is_empty(), "{what}: {}", first.join("\n  "));
        }
        Ok(())
    }

    /// Records beyond the first of their kind.
    pub(crate) fn repeats(&self, http: bool) -> u64 {
        let of_way = self.seen.iter().filter(|((way, _, _), _)| *way == http);
        of_way.map(|(_, times)| u64::from(times - 1)).sum()
    }

    /// Posts that were not acknowledged and are stored all the same, and those that are stored in part.
    fn unacknowledged(&self, sent: &Sent) -> (u64, Vec<String>) {
        let (mut stored, mut halves) = (0, Vec::new());
        for (sender, posts) in sent.posts.iter().enumerate() {
            for (number, post) in (0_u64..).zip(posts) {
                if post.outcome == Outcome::Acknowledged {
                    continue;
                }
                let there = (0..post.events)
                    .filter(|event| self.times(Way::Http, sender, (number << 8) + event) > 0)
                    .count() as u64;
                stored += u64::from(there > 0);
                if there != 0 && there != post.events {
                    halves.push(format!(
                        "{there} of {} events of post {number} of poster {sender}",
                        post.events
                    ));
                }
            }
        }
        (stored, halves)
    }
}
