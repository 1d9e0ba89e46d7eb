//! What is measured, by name.

use anyhow::{Context, Result, bail};

use crate::agent::{Channel, Sink};
use crate::arguments::{Arguments, Durabilities};
use crate::sample::{Durability, Row, Sample};
use crate::workplace::{Workplace, say};
use crate::{channel, http, limits, log, tail, topic};

/// Measures one run of a case.
type Measure = fn(&Workplace, &Arguments, Durability) -> Result<Vec<Sample>>;

/// One measurement.
pub(crate) struct Case {
    /// For `--only`.
    name: &'static str,
    /// Whether a log is involved, so that durability matters.
    durable: bool,
    /// Whether it is measured only when it is named: it needs Java, or much time.
    on_request: bool,
    measure: Measure,
}

/// All measurements, in the order of the table.
const CASES: &[Case] = &[
    Case {
        name: "tail-null",
        durable: false,
        on_request: false,
        measure: |workplace, arguments, _| {
            Ok(vec![tail::run(
                workplace,
                arguments,
                Channel::Memory,
                Sink::Null,
            )?])
        },
    },
    Case {
        name: "tail-memory",
        durable: false,
        on_request: false,
        measure: |workplace, arguments, _| {
            Ok(vec![tail::run(
                workplace,
                arguments,
                Channel::Memory,
                Sink::FileRoll,
            )?])
        },
    },
    Case {
        name: "tail-file",
        durable: true,
        on_request: false,
        measure: |workplace, arguments, durability| {
            let channel = Channel::File(durability);
            Ok(vec![tail::run(
                workplace,
                arguments,
                channel,
                Sink::FileRoll,
            )?])
        },
    },
    Case {
        name: "http-file",
        durable: true,
        on_request: false,
        measure: |workplace, arguments, durability| {
            Ok(vec![http::run(workplace, arguments, durability)?])
        },
    },
    Case {
        name: "topic-200",
        durable: true,
        on_request: false,
        measure: |workplace, arguments, durability| {
            topic::run(workplace, arguments, durability, 200)
        },
    },
    Case {
        name: "topic-1024",
        durable: true,
        on_request: false,
        measure: |workplace, arguments, durability| {
            topic::run(workplace, arguments, durability, 1024)
        },
    },
    Case {
        name: "log",
        durable: true,
        on_request: true,
        measure: log::run,
    },
    Case {
        name: "channel",
        durable: true,
        on_request: true,
        measure: channel::alone,
    },
    Case {
        name: "flume-channel",
        durable: false,
        on_request: true,
        measure: |workplace, arguments, _| channel::beside_flume(workplace, arguments),
    },
    Case {
        name: "backlog",
        durable: false,
        on_request: true,
        measure: |workplace, arguments, _| channel::backlog(workplace, arguments),
    },
    Case {
        name: "limits",
        durable: false,
        on_request: false,
        measure: |workplace, _, _| limits::run(workplace),
    },
];

/// The cases and durabilities that the command line asks for.
pub(crate) fn chosen(arguments: &Arguments) -> Result<Vec<(&'static Case, Durability)>> {
    for name in &arguments.only {
        if !CASES.iter().any(|case| case.name == name) {
            let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            bail!("--only {name}: the measurements are {}", names.join(", "));
        }
    }
    let wanted = |case: &&Case| match arguments.only.is_empty() {
        true => !case.on_request,
        false => arguments.only.iter().any(|name| name == case.name),
    };
    let durabilities: &[Durability] = match arguments.durability {
        Durabilities::Fsync => &[Durability::Fsync],
        Durabilities::Os => &[Durability::Os],
        Durabilities::Both => &[Durability::Fsync, Durability::Os],
    };
    let each = |case: &'static Case| {
        let count = if case.durable { durabilities.len() } else { 1 };
        durabilities[..count]
            .iter()
            .map(move |durability| (case, *durability))
    };
    Ok(CASES.iter().filter(wanted).flat_map(each).collect())
}

/// Measures all, round by round, so that a slow minute of the machine does not hit one case only.
pub(crate) fn run(
    chosen: &[(&'static Case, Durability)],
    arguments: &Arguments,
    workplace: &Workplace,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let rounds = arguments.rounds();
    let steps = chosen.len() * rounds as usize;
    let mut step = 0;
    for _ in 0..rounds {
        for (case, durability) in chosen {
            step += 1;
            let mode = match case.durable {
                true => format!(" ({})", durability.word()),
                false => String::new(),
            };
            say(&format!("[{step}/{steps}] {}{mode} …", case.name));
            let samples = (case.measure)(workplace, arguments, *durability)
                .with_context(|| format!("{}{mode}", case.name))?;
            for sample in samples {
                say(&format!("    {}", crate::report::sentence(&sample)));
                Row::add_to(&mut rows, sample);
            }
        }
    }
    Ok(rows)
}
