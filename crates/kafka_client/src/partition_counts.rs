//! How many partitions topics have, for whoever chooses partitions itself.
//!
//! Learned as the Java producer learns it: again when `metadata.max.age.ms` is over, at once when a record names a
//! partition beyond what is known, and after an error that says a partition is unknown. So partitions that are added
//! are used without a restart. Invariant: a topic is asked about at most once a second, however many records name a
//! partition that it does not have.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::producer::BatchProducer;

/// Java's `metadata.max.age.ms`, and librdkafka's `topic.metadata.refresh.interval.ms`.
const MAX_AGE: Duration = Duration::from_secs(300);
/// Between two questions about one topic.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Topics remembered; events can name any number of them.
const MOST_TOPICS: usize = 4096;

/// Partition counts by topic, with their age.
#[derive(Debug)]
pub struct PartitionCounts {
    max_age: Duration,
    known: HashMap<String, Known>,
}

/// What is known of a topic.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// `None` when the cluster did not say.
    count: Option<i32>,
    asked: Instant,
    /// To be asked again, whatever the age.
    doubtful: bool,
}

impl PartitionCounts {
    /// Nothing known, aged by the producer properties (Java's names) of the user.
    pub fn new(properties: &BTreeMap<String, String>) -> Self {
        let given = properties.get("metadata.max.age.ms");
        let millis = given.and_then(|text| text.trim().parse().ok());
        Self {
            max_age: millis.map_or(MAX_AGE, Duration::from_millis),
            known: HashMap::new(),
        }
    }

    /// The count of a topic, if the cluster has said it.
    pub fn get(&self, topic: &str) -> Option<i32> {
        self.known.get(topic)?.count
    }

    /// The cluster refused a partition of the topic, so its count is asked for before it is used again.
    pub fn doubt(&mut self, topic: &str) {
        if let Some(known) = self.known.get_mut(topic) {
            known.doubtful = true;
        }
    }

    /// Asks for what is missing, too old or doubtful. `wanted` are topics with the highest partition that is going to be
    /// used.
    pub async fn learn(&mut self, producer: &BatchProducer, wanted: &HashMap<&str, i32>) {
        for (topic, highest) in wanted {
            let now = Instant::now();
            if !self.is_due(topic, *highest, now) {
                continue;
            }
            let answer = producer.partition_count(topic).await;
            self.note(topic, answer, now);
        }
    }

    fn is_due(&self, topic: &str, highest: i32, now: Instant) -> bool {
        let Some(known) = self.known.get(topic) else {
            return true;
        };
        let age = now.saturating_duration_since(known.asked);
        let beyond = known.count.is_none_or(|count| highest >= count);
        age >= self.max_age || (age >= ASK_AGAIN && (beyond || known.doubtful))
    }

    fn note(&mut self, topic: &str, answer: Option<i32>, now: Instant) {
        if self.known.len() >= MOST_TOPICS && !self.known.contains_key(topic) {
            self.known.clear();
        }
        // An answer that does not come leaves what was known.
        let count = answer.or_else(|| self.get(topic));
        let known = Known {
            count,
            asked: now,
            doubtful: false,
        };
        self.known.insert(topic.to_owned(), known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(max_age: &str) -> PartitionCounts {
        let properties = [("metadata.max.age.ms".to_owned(), max_age.to_owned())];
        PartitionCounts::new(&properties.into())
    }

    #[test]
    fn a_count_is_asked_for_again_when_it_is_old() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for (mut counts, age) in [
            (counts("5000"), 5_000),
            (PartitionCounts::new(&BTreeMap::new()), 300_000),
        ] {
            assert!(counts.is_due("t", 0, start));
            counts.note("t", Some(3), start);
            assert!(!counts.is_due("t", 2, at(age - 1)));
            assert!(counts.is_due("t", 2, at(age)));
            assert!(counts.is_due("u", 0, start), "another topic");
        }
    }

    #[test]
    fn a_partition_beyond_the_count_is_asked_for_but_not_all_the_time() {
        let start = Instant::now();
        let mut counts = counts("300000");
        counts.note("t", Some(3), start);
        assert!(!counts.is_due("t", 3, start + ASK_AGAIN / 2));
        assert!(counts.is_due("t", 3, start + ASK_AGAIN));
        counts.note("t", None, start + ASK_AGAIN);
        assert_eq!(counts.get("t"), Some(3), "no answer changes nothing");
        counts.doubt("t");
        assert!(!counts.is_due("t", 0, start + ASK_AGAIN));
        assert!(counts.is_due("t", 0, start + ASK_AGAIN * 2));
        counts.note("t", Some(2), start + ASK_AGAIN * 2);
        assert!(!counts.is_due("t", 0, start + ASK_AGAIN * 4));
    }

    #[test]
    fn topics_named_by_events_do_not_add_up() {
        let mut counts = counts("300000");
        for topic in 0..MOST_TOPICS * 2 {
            counts.note(&topic.to_string(), Some(1), Instant::now());
        }
        assert!(counts.known.len() <= MOST_TOPICS);
    }
}
