//! `flafka version`: five lines like Flume's.

use crate::exit::{Ending, Outcome, say};

pub(crate) fn run() -> Outcome {
    say(&format!("Flafka {}", env!("CARGO_PKG_VERSION")))?;
    say("Runs the configuration of Apache Flume 1.11, speaks the protocol of Apache Kafka 4")?;
    say(concat!("License ", env!("CARGO_PKG_LICENSE")))?;
    Ok(Ending::Done)
}
