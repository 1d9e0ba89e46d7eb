//! What topic, produce and consume share: a client configuration from the command line.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use flafka_kafka_client::{Role, client_config};
use rdkafka::ClientConfig;

use crate::arguments::ClientOptions;

/// `KEY=VALUE` words as a map.
pub(crate) fn pairs(words: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |word: &String| {
        let (key, value) = word
            .split_once('=')
            .with_context(|| format!("{word:?} is not KEY=VALUE"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    words.iter().map(pair).collect()
}

/// The configuration of a client.
pub(crate) fn config(
    role: Role,
    options: &ClientOptions,
    defaults: &[(&str, &str)],
) -> anyhow::Result<ClientConfig> {
    let properties = pairs(&options.properties)?;
    match client_config(role, &options.bootstrap, &properties, defaults, &[]) {
        Ok(config) => Ok(config),
        Err(refused) => bail!("{}", refused.join("\n")),
    }
}

/// A runtime for one command.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")
}
