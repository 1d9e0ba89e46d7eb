//! The file channel alone, batch by batch, beside Flume's file channel and the disk's own synced appends of the same
//! size, all in one round on one disk.

mod load;
mod outcome;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flafka_tests::real::flume_program;

pub(crate) use self::load::Load;
use self::outcome::Outcome;
use crate::arguments::Arguments;
use crate::limits;
use crate::process::Process;
use crate::sample::{Durability, Sample};
use crate::workplace::{Workplace, deadline};

/// Events in a transaction, and bytes of a body.
const SHAPES: [(usize, usize); 4] = [(100, 200), (1000, 200), (100, 1024), (1000, 1024)];
/// Threads that put at the same time.
const PUTTERS: [usize; 3] = [1, 4, 16];
/// Name of the program that loads Flume's channel.
const JAVA: &str = "bench/java/FileChannelLoad.java";
/// Where a load writes its outcome.
const RESULT: &str = "result.json";

/// Ours and the bare disk.
pub(crate) fn alone(
    workplace: &Workplace,
    arguments: &Arguments,
    durability: Durability,
) -> Result<Vec<Sample>> {
    each(arguments, |shape| {
        Ok(vec![
            shape.ours(workplace, durability)?,
            shape.bare(workplace)?,
        ])
    })
}

/// Ours, Flume's and the bare disk, one after the other.
pub(crate) fn beside_flume(workplace: &Workplace, arguments: &Arguments) -> Result<Vec<Sample>> {
    each(arguments, |shape| {
        Ok(vec![
            shape.ours(workplace, Durability::Fsync)?,
            shape.flumes(workplace)?,
            shape.bare(workplace)?,
        ])
    })
}

/// A start with a backlog that a killed process left.
pub(crate) fn backlog(workplace: &Workplace, arguments: &Arguments) -> Result<Vec<Sample>> {
    let folder = workplace.fresh()?;
    let result = folder.path().join(RESULT);
    let shape = Shape {
        batch: 1000,
        body: 200,
        putters: 1,
        seconds: 0,
    };
    let bytes = arguments.input_bytes();
    let data = folder.path().join("data");
    let limit = deadline(bytes);
    let mut fill = shape.words(&data, Durability::Os, &result);
    fill.push(format!("--leave-bytes={bytes}"));
    load(folder.path(), &fill, limit)?;
    let mut first = shape.words(&data, Durability::Fsync, &result);
    first.push("--first-only".to_owned());
    let outcome = load(folder.path(), &first, limit)?;
    let mut sample = shape.sample("", outcome, Durability::Fsync);
    sample.name = format!("start with {} MiB waiting, first batch", bytes >> 20);
    Ok(vec![sample])
}

fn load(folder: &Path, words: &[String], limit: Instant) -> Result<Outcome> {
    let own = std::env::current_exe().context("find the own program")?;
    Process::start(&own, words, &folder.join("load.out"))?.finish(limit)?;
    Outcome::read(&folder.join(RESULT))
}

fn each(
    arguments: &Arguments,
    mut measure: impl FnMut(Shape) -> Result<Vec<Sample>>,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (batch, body) in SHAPES {
        for putters in PUTTERS {
            let shape = Shape {
                batch,
                body,
                putters,
                seconds: if arguments.quick { 1 } else { 8 },
            };
            samples.extend(measure(shape).with_context(|| shape.name("load"))?);
        }
    }
    Ok(samples)
}

/// One load.
#[derive(Debug, Clone, Copy)]
struct Shape {
    batch: usize,
    body: usize,
    putters: usize,
    seconds: u64,
}

impl Shape {
    fn name(self, who: &str) -> String {
        let (batch, body, putters) = (self.batch, self.body, self.putters);
        format!("{who}: {putters} × {batch} × {body} B")
    }

    fn limit(self) -> Instant {
        Instant::now() + Duration::from_secs(60 + 10 * self.seconds)
    }

    /// The command line of the load.
    fn words(self, data: &Path, durability: Durability, result: &Path) -> Vec<String> {
        vec![
            "load".to_owned(),
            format!("--dir={}", data.display()),
            format!("--batch={}", self.batch),
            format!("--body={}", self.body),
            format!("--putters={}", self.putters),
            format!("--durability={}", durability.word()),
            format!("--result={}", result.display()),
        ]
    }

    fn ours(self, workplace: &Workplace, durability: Durability) -> Result<Sample> {
        let folder = workplace.fresh()?;
        let result = folder.path().join(RESULT);
        let mut words = self.words(&folder.path().join("data"), durability, &result);
        words.push(format!("--seconds={}", self.seconds));
        let outcome = load(folder.path(), &words, self.limit())?;
        Ok(self.sample("flafka", outcome, durability))
    }

    fn flumes(self, workplace: &Workplace) -> Result<Sample> {
        let folder = workplace.fresh()?;
        let result = folder.path().join(RESULT);
        let mut words = vec![folder.path().join("data").display().to_string()];
        words.extend([self.batch, self.body, self.putters].map(|number| number.to_string()));
        words.extend([self.seconds.to_string(), result.display().to_string()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let program = flume_program(Path::new(JAVA), &["-Xmx512m"], &words)?;
        let log = folder.path().join("load.out");
        Process::command(program, &log)?.finish(self.limit())?;
        let outcome = Outcome::read(&result)?;
        Ok(self.sample("Flume 1.11", outcome, Durability::Fsync))
    }

    /// What the disk does with the bytes of one transaction of each putter.
    fn bare(self, workplace: &Workplace) -> Result<Sample> {
        let folder = workplace.fresh()?;
        limits::synced_writes(
            &folder.path().join("bare"),
            self.name("append + fdatasync"),
            self.batch * self.body * self.putters,
        )
    }

    fn sample(self, who: &str, outcome: Outcome, durability: Durability) -> Sample {
        Sample {
            name: self.name(&format!("file channel of {who}")),
            durability: Some(durability),
            events: outcome.events,
            bytes: outcome.events * self.body as u64,
            wall: outcome.wall,
            cost: Some(outcome.cost),
            waits: outcome.waits,
        }
    }
}
