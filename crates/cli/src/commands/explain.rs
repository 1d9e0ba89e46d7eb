//! `flafka explain`: what each channel and the embedded log promise for what they have acknowledged, in plain words.
//!
//! Reads configurations only, no directory and no server, so it can be asked before anything runs.

use flafka_broker::BrokerConfig;
use flafka_flow::Promise;
use serde_json::{Value, json};

use super::broker::read_config;
use super::check::{Checked, check};
use super::log::text;
use super::running::home;
use crate::arguments::ExplainOptions;
use crate::exit::{Ending, Outcome, say};

/// A promise and whose it is.
struct Part {
    agent: Option<String>,
    name: String,
    kind: String,
    promise: Promise,
}

pub(crate) fn run(options: ExplainOptions) -> Outcome {
    let configuration = &options.configuration;
    let has_agents = !configuration.files.is_empty() || !configuration.uris.is_empty();
    let mut parts = Vec::new();
    if has_agents {
        let Some(channels) = channels(&options)? else {
            return Ok(Ending::BadConfiguration);
        };
        parts.extend(channels);
    }
    if !has_agents || options.broker_file.is_some() || !options.overrides.is_empty() {
        let Some(config) = read_config(options.broker_file.as_deref(), &options.overrides)? else {
            return Ok(Ending::BadConfiguration);
        };
        parts.push(Part {
            agent: None,
            name: "embedded log".to_owned(),
            kind: "broker".to_owned(),
            promise: of_broker(&config),
        });
    }
    if options.json {
        let all: Vec<Value> = parts.iter().map(as_json).collect();
        say(&Value::from(all).to_string())?;
    } else {
        let texts: Vec<String> = parts.iter().map(as_text).collect();
        say(&texts.join("\n\n"))?;
    }
    Ok(Ending::Done)
}

/// The channels of the agents asked for; `None` after listing what is wrong.
fn channels(options: &ExplainOptions) -> anyhow::Result<Option<Vec<Part>>> {
    let name = options.name.as_deref();
    let Checked::Good(agents) = check(&options.configuration, name)? else {
        return Ok(None);
    };
    let registry = flafka_agent::registry();
    let home = home();
    let mut parts = Vec::new();
    for agent in agents {
        if name.is_some_and(|name| name != agent.name) {
            continue;
        }
        for channel in agent.channels {
            let mut entries = registry.channels.iter();
            let entry = entries.find(|entry| entry.description.names.matches(&channel.type_name));
            let promise = entry.and_then(|entry| (entry.promise)(&channel.section, &home));
            parts.extend(promise.map(|promise| Part {
                agent: Some(agent.name.clone()),
                name: channel.name,
                kind: channel.type_name,
                promise,
            }));
        }
    }
    Ok(Some(parts))
}

fn of_broker(config: &BrokerConfig) -> Promise {
    let durability = config.durability;
    Promise {
        durability: format!(
            "{durability} (flafka.durability, which a topic's own flafka.durability overrides)"
        ),
        acknowledged: format!(
            "with acks=all and acks=1 {}; with acks=0 nothing is acknowledged",
            durability.acknowledged()
        ),
        kill_loses: "nothing".to_owned(),
        power_cut_loses: durability.power_cut_loses(),
        repeats: "what consumers had read since their last commit of offsets".to_owned(),
        capacity_events: None,
        capacity_bytes: None,
        when_full: match config.log_dirs.len() {
            1 => {
                "retention (log.retention.*, of a topic retention.*) is the only limit; on a full disk produces are \
                 answered KAFKA_STORAGE_ERROR and fetches go on"
            }
            _ => {
                "retention (log.retention.*, of a topic retention.*) is the only limit; produces to partitions on a full \
                 disk are answered KAFKA_STORAGE_ERROR, their fetches and all other partitions go on"
            }
        }
        .to_owned(),
        encrypted: None,
        directories: config
            .log_dirs
            .iter()
            .map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone()))
            .collect(),
    }
}

fn title(part: &Part) -> String {
    let Part {
        agent, name, kind, ..
    } = part;
    match agent {
        Some(agent) => format!("{agent}.channels.{name} ({kind})"),
        None => format!("{name} ({kind})"),
    }
}

fn as_text(part: &Part) -> String {
    let promise = &part.promise;
    let events = promise
        .capacity_events
        .map(|events| text::count(events, "event"));
    let bytes = promise.capacity_bytes.map(text::bytes);
    let capacity: Vec<String> = events.into_iter().chain(bytes).collect();
    let capacity = match capacity.is_empty() {
        true => "no limit of its own".to_owned(),
        false => capacity.join(", "),
    };
    let dirs = promise.directories.iter();
    let dirs: Vec<String> = dirs.map(|dir| dir.display().to_string()).collect();
    let mut lines = vec![
        ("durability", promise.durability.clone()),
        ("acknowledged", promise.acknowledged.clone()),
        ("SIGKILL loses", promise.kill_loses.clone()),
        ("power cut loses", promise.power_cut_loses.clone()),
        ("may come twice", promise.repeats.clone()),
        ("capacity", capacity),
        ("when full", promise.when_full.clone()),
    ];
    if let Some(encrypted) = &promise.encrypted {
        lines.push(("encrypted", encrypted.clone()));
    }
    if !dirs.is_empty() {
        lines.push(("directories", dirs.join(", ")));
    }
    let lines = lines
        .iter()
        .map(|(name, what)| format!("  {name:<16} {what}"));
    let all: Vec<String> = std::iter::once(title(part)).chain(lines).collect();
    all.join("\n")
}

fn as_json(part: &Part) -> Value {
    let promise = &part.promise;
    json!({
        "agent": part.agent,
        "name": part.name,
        "type": part.kind,
        "durability": promise.durability,
        "acknowledged": promise.acknowledged,
        "kill_loses": promise.kill_loses,
        "power_cut_loses": promise.power_cut_loses,
        "repeats": promise.repeats,
        "capacity_events": promise.capacity_events,
        "capacity_bytes": promise.capacity_bytes,
        "when_full": promise.when_full,
        "encrypted": promise.encrypted,
        "directories": promise.directories,
    })
}
