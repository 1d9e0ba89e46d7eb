//! One measurement, and rows of the table made of several.

use std::time::Duration;

/// What acknowledges a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// After an fsync.
    Fsync,
    /// When the operating system has it.
    Os,
}

impl Durability {
    /// The value of `flafka.durability`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
        }
    }
}

/// Half and 99 of 100 of the waits are not longer than these.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Percentiles {
    /// Of all `waits`; none when there are none.
    pub(crate) fn of(mut waits: Vec<Duration>) -> Option<Self> {
        waits.sort_unstable();
        let at = |percent: usize| waits.get((waits.len() * percent / 100).min(waits.len() - 1));
        if waits.is_empty() {
            return None;
        }
        Some(Self {
            p50: *at(50)?,
            p99: *at(99)?,
        })
    }
}

/// Processor time and memory of the process that was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// User and system time, in seconds.
    pub(crate) cpu_seconds: f64,
    /// `VmHWM`.
    pub(crate) peak_bytes: u64,
}

impl Cost {
    /// The processor time in the kernel's ticks.
    pub(crate) fn ticks(self) -> u64 {
        (self.cpu_seconds * rustix::param::clock_ticks_per_second() as f64).round() as u64
    }
}

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// What was measured, as the table shows it.
    pub(crate) name: String,
    pub(crate) durability: Option<Durability>,
    /// Events, records, or operations.
    pub(crate) events: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
    pub(crate) wall: Duration,
    pub(crate) cost: Option<Cost>,
    pub(crate) waits: Option<Percentiles>,
}

impl Sample {
    /// Bytes a second, in millions.
    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.wall.as_secs_f64()
    }

    /// Events a second.
    pub(crate) fn events_per_second(&self) -> f64 {
        self.events as f64 / self.wall.as_secs_f64()
    }

    /// Processor seconds for 10⁹ bytes.
    pub(crate) fn cpu_per_gigabyte(&self) -> Option<f64> {
        let cost = self.cost?;
        Some(cost.cpu_seconds / (self.bytes as f64 / 1e9))
    }
}

/// The samples of one measurement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    samples: Vec<Sample>,
}

impl Row {
    /// Sorts samples into rows by name and durability, in the order of their first appearance.
    pub(crate) fn add_to(rows: &mut Vec<Row>, sample: Sample) {
        let same = |row: &&mut Row| {
            row.samples.first().is_some_and(|first| {
                first.name == sample.name && first.durability == sample.durability
            })
        };
        match rows.iter_mut().find(same) {
            Some(row) => row.samples.push(sample),
            None => rows.push(Row {
                samples: vec![sample],
            }),
        }
    }

    /// The run in the middle, by speed.
    pub(crate) fn median(&self) -> Option<&Sample> {
        let mut sorted: Vec<&Sample> = self.samples.iter().collect();
        sorted.sort_by(|a, b| a.events_per_second().total_cmp(&b.events_per_second()));
        sorted.get(sorted.len() / 2).copied()
    }

    /// Slowest and fastest run, in millions of bytes a second; none of a single run.
    pub(crate) fn spread(&self) -> Option<(f64, f64)> {
        let speeds = self.samples.iter().map(Sample::megabytes_per_second);
        let (low, high) = speeds.fold((f64::MAX, 0.0), |(low, high): (f64, f64), speed| {
            (low.min(speed), high.max(speed))
        });
        (self.samples.len() > 1).then_some((low, high))
    }

    /// The largest peak of all runs.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        self.samples
            .iter()
            .filter_map(|sample| Some(sample.cost?.peak_bytes))
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, seconds: u64) -> Sample {
        Sample {
            name: name.to_owned(),
            durability: None,
            events: 1000,
            bytes: 200_000_000,
            wall: Duration::from_secs(seconds),
            cost: Some(Cost {
                cpu_seconds: 0.5,
                peak_bytes: seconds << 20,
            }),
            waits: None,
        }
    }

    #[test]
    fn rows_show_the_median_and_the_largest_peak() {
        let mut rows = Vec::new();
        for (name, seconds) in [("a", 4), ("b", 1), ("a", 1), ("a", 2)] {
            Row::add_to(&mut rows, sample(name, seconds));
        }
        assert_eq!(rows.len(), 2);
        let median = rows[0].median().expect("three samples");
        assert_eq!(median.wall, Duration::from_secs(2));
        assert_eq!(median.cpu_per_gigabyte(), Some(2.5));
        assert_eq!(rows[0].spread(), Some((50.0, 200.0)));
        assert_eq!(rows[0].peak_bytes(), Some(4 << 20));
        assert_eq!(rows[1].spread(), None);
    }

    #[test]
    fn percentiles_are_waits_that_happened() {
        let waits = (1..=200).rev().map(Duration::from_millis).collect();
        let found = Percentiles::of(waits).expect("waits");
        assert_eq!(found.p50, Duration::from_millis(101));
        assert_eq!(found.p99, Duration::from_millis(199));
        assert!(Percentiles::of(Vec::new()).is_none());
    }
}
