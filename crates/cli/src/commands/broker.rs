//! `flafka broker`: the embedded log alone.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use flafka_broker::config::Place;
use flafka_broker::{Broker, BrokerConfig};
use flafka_console::Console;
use tracing::info;

use super::kafka::runtime;
use super::running::{BROKER_DEADLINE, Shown, serve, stop_on_signals};
use crate::arguments::BrokerOptions;
use crate::exit::{Ending, Outcome, complain, counted};
use crate::logging;

pub(crate) fn run(options: BrokerOptions) -> Outcome {
    logging::start(None);
    let Some(config) = read_config(options.file.as_deref(), &options.overrides)? else {
        return Ok(Ending::BadConfiguration);
    };
    runtime()?.block_on(async {
        let stop = stop_on_signals()?;
        let broker = start(config).await?;
        let shown = Shown::default();
        shown.broker(&broker);
        if let Some(address) = options.monitoring {
            serve(
                Console::bind(address).await.context("serve /metrics")?,
                &shown,
                &stop,
            );
        }
        let fault = tokio::select! {
            () = stop.cancelled() => None,
            fault = failed(&broker) => Some(fault),
        };
        let closed = broker.shutdown(BROKER_DEADLINE).await;
        if let Some(fault) = fault {
            return Err(fault);
        }
        closed.context("close the log")?;
        info!("broker stopped");
        Ok(Ending::Done)
    })
}

/// Starts a broker and says where it is.
pub(crate) async fn start(config: BrokerConfig) -> anyhow::Result<Broker> {
    let dirs = config.log_dirs.iter().map(|dir| dir.display().to_string());
    let data = dirs.collect::<Vec<_>>().join(",");
    let broker = Broker::start(config).await?;
    info!(address = %broker.local_addr(), data, "broker is ready");
    Ok(broker)
}

/// Ends with the reason when the log with the broker's own tables accepts nothing any more, which only another start can
/// mend: it reads what the disk really has. Another data directory that fails is offline, and the broker goes on.
pub(crate) async fn failed(broker: &Broker) -> anyhow::Error {
    const LOOK: Duration = Duration::from_secs(1);
    loop {
        if let Some(fault) = broker.log().failure() {
            return anyhow::Error::new(fault).context(
                "the log has stopped accepting; nothing acknowledged is lost: look after the disk and start again",
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Reads server.properties and the overrides; `None` after listing what is wrong.
pub(crate) fn read_config(
    file: Option<&Path>,
    overrides: &[String],
) -> anyhow::Result<Option<BrokerConfig>> {
    let text = match file {
        None => Vec::new(),
        Some(path) => std::fs::read(path).with_context(|| format!("read {}", path.display()))?,
    };
    let name = file.map(|path| path.display().to_string());
    let at = |place: &Place| match (place, &name) {
        (Place::Line(line), Some(name)) => format!("{name}:{line}"),
        (place, _) => place.to_string(),
    };
    match BrokerConfig::from_properties_and_overrides(&text, overrides) {
        Ok((config, notes)) => {
            for note in notes {
                complain(&format!(
                    "{}: {}: {}",
                    at(&note.place),
                    note.key,
                    note.reason
                ));
            }
            Ok(Some(config))
        }
        Err(problems) => {
            for problem in &problems.0 {
                match (problem.place(), &name) {
                    (Place::Line(_), Some(name)) => complain(&format!("{name}: {problem}")),
                    _ => complain(&problem.to_string()),
                }
            }
            complain(&format!(
                "{}; the broker does not start",
                counted(problems.0.len() as u64, "problem")
            ));
            Ok(None)
        }
    }
}
