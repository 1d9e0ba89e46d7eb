//! What a load says when it is done: one JSON object, written by the Rust load and by the Java one alike.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::process::ticks_to_seconds;
use crate::sample::{Cost, Percentiles};

/// The outcome of one load.
pub(crate) struct Outcome {
    /// Events that went in and out.
    pub(crate) events: u64,
    /// From the first put to the last take.
    pub(crate) wall: Duration,
    pub(crate) cost: Cost,
    /// Of whole put transactions.
    pub(crate) waits: Option<Percentiles>,
}

impl Outcome {
    /// The object's fields, numbers all.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        let nanos = |wait: Duration| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let waits = self.waits.map(|waits| (nanos(waits.p50), nanos(waits.p99)));
        let mut fields = vec![
            ("events", self.events),
            ("wall_ns", nanos(self.wall)),
            ("cpu_ticks", self.cost.ticks()),
            ("peak_kib", self.cost.peak_bytes >> 10),
        ];
        fields.extend(
            waits
                .iter()
                .flat_map(|(p50, p99)| [("p50_ns", *p50), ("p99_ns", *p99)]),
        );
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect()
    }

    pub(crate) fn parse(value: &Value) -> Result<Self> {
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        let needed = |name: &str| {
            number(name).with_context(|| format!("the outcome has no number `{name}`: {value}"))
        };
        let waits = number("p50_ns").zip(number("p99_ns"));
        Ok(Self {
            events: needed("events")?,
            wall: Duration::from_nanos(needed("wall_ns")?),
            cost: Cost {
                cpu_seconds: ticks_to_seconds(needed("cpu_ticks")?),
                peak_bytes: needed("peak_kib")? << 10,
            },
            waits: waits.map(|(p50, p99)| Percentiles {
                p50: Duration::from_nanos(p50),
                p99: Duration::from_nanos(p99),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let outcome = Outcome {
            events: 1000,
            wall: Duration::from_millis(1500),
            cost: Cost {
                cpu_seconds: 2.5,
                peak_bytes: 3 << 20,
            },
            waits: Some(Percentiles {
                p50: Duration::from_micros(7),
                p99: Duration::from_micros(9),
            }),
        };
        let read = Outcome::parse(&Value::Object(outcome.fields())).expect("all fields");
        assert_eq!(read.fields(), outcome.fields());
        assert_eq!(read.cost.peak_bytes, 3 << 20);
        assert!(Outcome::parse(&Value::Null).is_err());
    }
}
