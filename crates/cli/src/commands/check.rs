//! `flafka check`, and the check that every start runs first.

use std::io::IsTerminal;

use flafka_config::topology::AgentConfig;
use flafka_config::{LoadOptions, Outcome as CheckOutcome, load_and_check, render};

use super::running::Definitions;
use crate::arguments::{CheckOptions, ConfigurationOptions};
use crate::exit::{Ending, Outcome, complain, say};

/// What a check found.
pub(crate) enum Checked {
    /// No error: these agents can be built.
    Good(Vec<AgentConfig>),
    /// Errors, which were printed.
    Bad,
}

pub(crate) fn run(mut options: CheckOptions) -> Outcome {
    options
        .configuration
        .files
        .splice(0..0, options.positional.drain(..));
    super::agent::require_files(&options.configuration)?;
    let outcome = load(&options.configuration, options.name.as_deref())?;
    if options.json {
        say(&render::json(&outcome))?;
    } else {
        say(&render::text(
            &outcome,
            style(std::io::stdout().is_terminal()),
        ))?;
    }
    Ok(if outcome.has_errors() {
        Ending::BadConfiguration
    } else {
        Ending::Done
    })
}

/// Checks a configuration before a start; prints what is worth knowing.
pub(crate) fn check(
    options: &ConfigurationOptions,
    agent: Option<&str>,
) -> anyhow::Result<Checked> {
    let outcome = load(options, agent)?;
    if !outcome.problems.is_empty() {
        complain(&render::text(
            &outcome,
            style(std::io::stderr().is_terminal()),
        ));
    }
    if outcome.has_errors() {
        return Ok(Checked::Bad);
    }
    Ok(Checked::Good(outcome.agents))
}

/// Loads and checks a configuration; prints nothing.
pub(crate) fn load(
    options: &ConfigurationOptions,
    agent: Option<&str>,
) -> anyhow::Result<CheckOutcome> {
    let definitions = Definitions::parse(&options.properties)?.0;
    flafka_agent::set_system_properties(definitions.clone());
    let load = LoadOptions {
        uris: options.uris.clone(),
        definitions,
        lenient: options.flume_lenient,
        ..LoadOptions::of_process(options.files.clone())
    };
    Ok(load_and_check(&load, &flafka_agent::registry(), agent))
}

/// Colours on a terminal only.
fn style(terminal: bool) -> render::Style {
    render::Style {
        color: terminal && std::env::var_os("NO_COLOR").is_none(),
        ascii: false,
    }
}
