//! `flafka up`: agents and the embedded log in one process.

use anyhow::Context;
use flafka_config::topology::AgentConfig;
use tracing::info;

use super::agent::require_files;
use super::broker;
use super::check::{Checked, check};
use super::kafka::runtime;
use super::running::{
    BROKER_DEADLINE, Definitions, Shown, ending, run_agents, serve_monitoring, stop_on_signals,
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
    let Some(agents) = checked(&options)? else {
        return Ok(Ending::BadConfiguration);
    };
    runtime()?.block_on(async {
        let stop = stop_on_signals()?;
        let broker = broker::start(broker_config).await?;
        let shown = Shown::default();
        shown.broker(&broker);
        serve_monitoring(&definitions, &shown, &stop).await?;
        let (ran, fault) = {
            let running = run_agents(&agents, &shown, &stop);
            tokio::pin!(running);
            tokio::select! {
                ran = &mut running => (ran, None),
                fault = broker::failed(&broker) => {
                    stop.cancel();
                    (running.await, Some(fault))
                }
            }
        };
        let closed = broker.shutdown(BROKER_DEADLINE).await;
        if let Some(fault) = fault {
            return Err(fault);
        }
        closed.context("close the log")?;
        let stopped = ran?;
        info!("stopped");
        Ok(ending(stopped))
    })
}

/// The agents to run: those that were named, or all; `None` after listing what is wrong. As with
/// `flafka agent`, mistakes of agents that were not named are warnings.
fn checked(options: &UpOptions) -> anyhow::Result<Option<Vec<AgentConfig>>> {
    let wanted: Vec<Option<&str>> = if options.names.is_empty() {
        vec![None]
    } else {
        options
            .names
            .iter()
            .map(|name| Some(name.as_str()))
            .collect()
    };
    let mut agents: Vec<AgentConfig> = Vec::new();
    for name in wanted {
        let Checked::Good(found) = check(&options.configuration, name)? else {
            return Ok(None);
        };
        let new = found
            .into_iter()
            .filter(|agent| name.is_none_or(|name| agent.name == name));
        for agent in new {
            if !agents.iter().any(|known| known.name == agent.name) {
                agents.push(agent);
            }
        }
    }
    Ok(Some(agents))
}
