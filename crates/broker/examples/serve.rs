//! A broker from a `server.properties` file or the defaults, until Ctrl-C. For trying clients by hand:
//! `cargo run -p flafka-broker --example serve -- [server.properties]`

use std::time::Duration;

use flafka_broker::{Broker, BrokerConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let config = match std::env::args().nth(1) {
        Some(path) => {
            let (config, notes) = BrokerConfig::from_properties(&std::fs::read(path)?)?;
            for note in notes {
                tracing::info!(place = %note.place, key = %note.key, "no effect: {}", note.reason);
            }
            config
        }
        None => BrokerConfig::default(),
    };
    let broker = Broker::start(config).await?;
    tracing::info!(recovery = ?broker.recovery(), address = %broker.local_addr(), "ready");
    tokio::signal::ctrl_c().await?;
    broker.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}
