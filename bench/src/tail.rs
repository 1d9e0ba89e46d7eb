//! A file of lines, tailed to its end: taildir → channel → sink. From the start of the process to the last byte out.

use std::path::Path;

use anyhow::Result;

use crate::agent::{Agent, Channel, Sink};
use crate::arguments::Arguments;
use crate::input;
use crate::sample::Sample;
use crate::workplace::{Workplace, deadline};

/// Measures one run.
pub(crate) fn run(
    workplace: &Workplace,
    arguments: &Arguments,
    channel: Channel,
    sink: Sink,
) -> Result<Sample> {
    let line_bytes = arguments.event_bytes as usize;
    let events = arguments.input_bytes() / arguments.event_bytes;
    let bytes = events * arguments.event_bytes;
    let file = input_file(workplace, events, line_bytes)?;
    let folder = workplace.fresh()?;
    let out = folder.path().join("out");
    std::fs::create_dir(&out)?;
    let source = source(&file, folder.path());
    let mut agent = Agent::start(workplace, folder.path(), &source, channel, sink)?;
    let limit = deadline(bytes);
    let what = "all events come out";
    match sink {
        Sink::FileRoll => agent.until(limit, what, |_| {
            Ok((input::folder_bytes(&out)? >= bytes).then_some(()))
        })?,
        Sink::Null => agent.until(limit, what, |agent| {
            Ok(agent.taken()?.filter(|taken| *taken >= events).map(drop))
        })?,
    }
    let wall = agent.started.elapsed();
    let cost = agent.cost()?;
    if sink == Sink::Null {
        let taken = agent.taken()?.unwrap_or_default();
        anyhow::ensure!(taken == events, "{events} events went in, {taken} came out");
    }
    agent.stop()?;
    if sink == Sink::FileRoll {
        input::check_files(&out, events, line_bytes)?;
    }
    Ok(Sample {
        name: name(channel, sink).to_owned(),
        durability: channel.durability(),
        events,
        bytes,
        wall,
        cost: Some(cost),
        waits: None,
    })
}

fn name(channel: Channel, sink: Sink) -> &'static str {
    match (channel, sink) {
        (Channel::Memory, Sink::Null) => "tail → memory channel → null",
        (Channel::Memory, Sink::FileRoll) => "tail → memory channel → file_roll",
        (Channel::File(_), Sink::Null) => "tail → file channel → null",
        (Channel::File(_), Sink::FileRoll) => "tail → file channel → file_roll",
    }
}

/// The input, made once for all runs.
fn input_file(workplace: &Workplace, events: u64, line_bytes: usize) -> Result<std::path::PathBuf> {
    let folder = workplace.path().join("input");
    let path = folder.join("lines.log");
    if !path.try_exists()? {
        std::fs::create_dir_all(&folder)?;
        input::write(&path, events, line_bytes)?;
    }
    Ok(path)
}

fn source(file: &Path, folder: &Path) -> String {
    format!(
        "a1.sources.r1.type = TAILDIR\n\
         a1.sources.r1.filegroups = f1\n\
         a1.sources.r1.filegroups.f1 = {}\n\
         a1.sources.r1.positionFile = {}\n\
         a1.sources.r1.batchSize = 1000\n",
        file.display(),
        folder.join("positions.json").display()
    )
}
