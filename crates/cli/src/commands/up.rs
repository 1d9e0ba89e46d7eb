//! `flafka up`: agents and the embedded log in one process.

use anyhow::{Context, bail};
use flafka_config::topology::AgentConfig;
use tracing::info;

use super::agent::require_files;
use super::broker;
use super::check::{Checked, check};
use super::kafka::runtime;
use super::running::{
    BROKER_DEADLINE, Definitions, Shown, run_agents, serve_monitoring, stop_on_signals,
};
use crate::arguments::UpOptions;
use crate::exit::{Ending, Outcome};
use crate::logging;

pub(crate) fn run(options: UpOptions) -> Outcome {
    let definitions = Definitions::parse(&options.configuration.properties)?;
    logging::start(definitions.root_logger());
    require_files(&options.configuration)?;
    let Some(broker_config) =
        broker::read_config(options.broker_file.as_deref(), &options.overrides)?
    else {
        return Ok(Ending::BadConfiguration);
    };
    let first = options.names.first().map(String::as_str);
    let Checked::Good(agents) = check(&options.configuration, first)? else {
        return Ok(Ending::BadConfiguration);
    };
    let agents = chosen(agents, &options.names)?;
    runtime()?.block_on(async {
        let stop = stop_on_signals()?;
        let broker = broker::start(broker_config).await?;
        let shown = Shown::default();
        shown.broker(broker.metrics());
        serve_monitoring(&definitions, &shown, &stop).await?;
        let ran = run_agents(&agents, &shown, &stop).await;
        broker
            .shutdown(BROKER_DEADLINE)
            .await
            .context("close the log")?;
        ran?;
        info!("stopped");
        Ok(Ending::Done)
    })
}

fn chosen(agents: Vec<AgentConfig>, names: &[String]) -> anyhow::Result<Vec<AgentConfig>> {
    if names.is_empty() {
        return Ok(agents);
    }
    for name in names {
        if !agents.iter().any(|agent| agent.name == *name) {
            let known: Vec<_> = agents.iter().map(|agent| agent.name.as_str()).collect();
            bail!(
                "no agent {name} in the configuration; there are: {}",
                known.join(", ")
            );
        }
    }
    Ok(agents
        .into_iter()
        .filter(|agent| names.contains(&agent.name))
        .collect())
}
