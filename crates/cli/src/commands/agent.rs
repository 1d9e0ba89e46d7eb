//! `flafka agent`: Flume's `flume-ng agent`, with the configuration checked first and watched.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use flafka_agent::{Agent, Deadlines, HealthBoard, KeptChannels, Stopped};
use flafka_config::topology::AgentConfig;
use flafka_flow::clock::SystemClock;
use flafka_flow::counters::CountersRegistry;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::check::{Checked, check};
use super::kafka::runtime;
use super::running::{
    Definitions, Shown, ending, home, run_agents, serve_monitoring, stop_on_signals,
};
use crate::arguments::{AgentOptions, ConfigurationOptions, JavaOptions};
use crate::exit::{Ending, Outcome, chain, say};
use crate::logging;

pub(crate) fn run(mut options: AgentOptions) -> Outcome {
    let definitions = Definitions::parse(&options.configuration.properties)?;
    logging::start(definitions.root_logger());
    refuse_java(&options.java)?;
    if options.configuration.files.is_empty() && options.configuration.uris.is_empty() {
        bail!("no configuration: give a file with -f FILE");
    }
    fall_back_to_backup(&mut options)?;
    let Checked::Good(agents) = check(&options.configuration, Some(&options.name))? else {
        return Ok(Ending::BadConfiguration);
    };
    let agent = only(agents, &options.name)?;
    if options.dryrun {
        return describe(&agent);
    }
    write_backup(&options)?;
    runtime()?.block_on(run_until_stopped(&options, &definitions, agent))
}

async fn run_until_stopped(
    options: &AgentOptions,
    definitions: &Definitions,
    agent: AgentConfig,
) -> Outcome {
    let stop = stop_on_signals()?;
    let shown = Shown::default();
    serve_monitoring(definitions, &shown, &stop).await?;
    let mut agent = agent;
    let mut seen = newest(&options.configuration.files);
    loop {
        let round = stop.child_token();
        let current = [agent.clone()];
        let running = run_agents(&current, &shown, &round);
        let changed = watch(options, &mut seen, &stop);
        tokio::pin!(running, changed);
        let next = tokio::select! {
            ended = &mut running => return Ok(ending(ended?)),
            next = &mut changed => next,
        };
        if let Some(next) = &next {
            let registry = flafka_agent::registry();
            let next = std::slice::from_ref(next);
            shown.kept.prepare(next, &registry, &home());
        }
        round.cancel();
        let stopped = running.await?;
        let Some(next) = next else {
            return Ok(ending(stopped));
        };
        if stop.is_cancelled() {
            return Ok(ending(stopped.max(drain_kept(&next, &shown).await?)));
        }
        info!(
            agent = next.name,
            "configuration changed; the agent starts anew"
        );
        agent = next;
    }
}

/// A stop in the middle of a reload: the old agent has left what its channels held to the new one, which is started to
/// deliver it and stopped at once, with the time that a stop gives for that.
async fn drain_kept(agent: &AgentConfig, shown: &Shown) -> anyhow::Result<Stopped> {
    const START: Duration = Duration::from_secs(5);
    const LOOK: Duration = Duration::from_millis(20);
    if !shown.kept.holds_any() {
        return Ok(Stopped::Whole);
    }
    let round = CancellationToken::new();
    let agents = std::slice::from_ref(agent);
    let started = async {
        let ready = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if shown.board.ready() {
                    break;
                }
            }
        };
        if tokio::time::timeout(START, ready).await.is_err() {
            info!(agent = agent.name, "not all of the agent has started");
        }
        round.cancel();
    };
    let (ended, ()) = tokio::join!(run_agents(agents, shown, &round), started);
    ended
}

/// Waits for a good new configuration; `None` when the process is to stop.
async fn watch(
    options: &AgentOptions,
    seen: &mut Option<SystemTime>,
    stop: &CancellationToken,
) -> Option<AgentConfig> {
    let period = Duration::from_secs(options.poll_interval);
    loop {
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(period) => {}
        }
        let now = newest(&options.configuration.files);
        if options.no_reload_conf || now <= *seen {
            continue;
        }
        *seen = now;
        match check(&options.configuration, Some(&options.name)) {
            Ok(Checked::Good(agents)) => match buildable(agents, &options.name) {
                Ok(agent) => {
                    if let Err(error) = write_backup(options) {
                        warn!(error = chain(&error), "the backup was not written");
                    }
                    return Some(agent);
                }
                Err(error) => warn!(
                    error = chain(&error),
                    "the new configuration is not used; the old one keeps running"
                ),
            },
            Ok(Checked::Bad) => {
                warn!("the new configuration has errors; the old one keeps running")
            }
            Err(error) => warn!(
                error = chain(&error),
                "the new configuration cannot be read; the old one keeps running"
            ),
        }
    }
}

/// Latest modification of the files; a file that is gone does not count.
fn newest(files: &[PathBuf]) -> Option<SystemTime> {
    let modified = |path: &PathBuf| {
        std::fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    files.iter().filter_map(modified).max()
}

/// The agent, built once and forgotten: what cannot be built never replaces what runs.
fn buildable(agents: Vec<AgentConfig>, name: &str) -> anyhow::Result<AgentConfig> {
    let agent = only(agents, name)?;
    let aside = flafka_agent::AgentOptions {
        clock: Arc::new(SystemClock),
        counters: CountersRegistry::default(),
        board: HealthBoard::default(),
        home: home(),
        deadlines: Deadlines::default(),
        kept: KeptChannels::default(),
    };
    Agent::build(&agent, &flafka_agent::registry(), aside)?;
    Ok(agent)
}

fn only(agents: Vec<AgentConfig>, name: &str) -> anyhow::Result<AgentConfig> {
    let found = agents.into_iter().find(|agent| agent.name == name);
    found.with_context(|| format!("nothing of agent {name} survives the configuration's errors"))
}

/// Options of `flume-ng` that cannot be had are refused; those without a meaning here are noted.
fn refuse_java(java: &JavaOptions) -> anyhow::Result<()> {
    if java.zookeeper.is_some() || java.zookeeper_path.is_some() {
        bail!(
            "-z/-p: a configuration in ZooKeeper is not available in this version; write it to a file and give -f FILE"
        );
    }
    if java.conf_user.is_some() || java.conf_password.is_some() || java.auth_provider.is_some() {
        bail!(
            "-user/-pwd/-a: a configuration over http is not available in this version; give -f FILE"
        );
    }
    if let Some(class) = &java.conf_provider {
        bail!("-prov {class}: a Java class cannot be loaded here; give -f FILE");
    }
    let moot = [
        (
            java.conf.is_some(),
            "--conf: flume-env.sh and log4j2.xml are not read; FLAFKA_LOG sets the log level",
        ),
        (java.classpath.is_some(), "--classpath: there is no JVM"),
        (
            java.plugins_path.is_some(),
            "--plugins-path: Java plug-ins cannot be loaded",
        ),
        (!java.jvm.is_empty(), "-X…: there is no JVM to tune"),
    ];
    for (_, note) in moot.iter().filter(|(given, _)| *given) {
        info!("{note}");
    }
    Ok(())
}

fn backup_path(options: &AgentOptions) -> Option<PathBuf> {
    let dir = options.backup_directory.as_deref()?;
    Some(dir.join(format!(".{}.properties", options.name)))
}

/// Flume's `-b`: when no file can be read, the last good configuration is used.
fn fall_back_to_backup(options: &mut AgentOptions) -> anyhow::Result<()> {
    let readable = |path: &PathBuf| std::fs::File::open(path).is_ok();
    let files = &options.configuration.files;
    if files.is_empty() || files.iter().all(readable) {
        return Ok(());
    }
    if let Some(backup) = backup_path(options).filter(|backup| readable(backup)) {
        warn!(backup = %backup.display(), "the configuration cannot be read; its backup is used");
        options.configuration.files = vec![backup];
    }
    Ok(())
}

/// Keeps the text of a good configuration, all files one after the other.
fn write_backup(options: &AgentOptions) -> anyhow::Result<()> {
    let Some(backup) = backup_path(options) else {
        return Ok(());
    };
    let files = &options.configuration.files;
    if files.contains(&backup) {
        return Ok(());
    }
    let yaml = |path: &&PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
    };
    if let Some(path) = files.iter().find(yaml) {
        bail!("-b keeps properties files only, not {}", path.display());
    }
    let mut text = Vec::new();
    for path in files {
        text.extend(std::fs::read(path).with_context(|| format!("read {}", path.display()))?);
        text.push(b'\n');
    }
    replace(&backup, &text).with_context(|| format!("write the backup {}", backup.display()))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&temporary, bytes)?;
    std::fs::File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// What would run, a line a component.
fn describe(agent: &AgentConfig) -> Outcome {
    say(&format!("agent {}", agent.name))?;
    for source in &agent.sources {
        let channels: Vec<_> = source
            .channels
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        say(&format!(
            "  source {} ({}) -> {} [{}]",
            source.name,
            source.type_name,
            channels.join(" "),
            source.selector.type_name
        ))?;
    }
    for channel in &agent.channels {
        say(&format!(
            "  channel {} ({})",
            channel.name, channel.type_name
        ))?;
    }
    for sink in &agent.sinks {
        say(&format!(
            "  sink {} ({}) <- {}",
            sink.name, sink.type_name, sink.channel
        ))?;
    }
    for group in &agent.sink_groups {
        say(&format!(
            "  sink group {} ({}): {}",
            group.name,
            group.processor_type,
            group.sinks.join(" ")
        ))?;
    }
    Ok(Ending::Done)
}

/// The configuration options without a name, for commands that run several agents.
pub(crate) fn require_files(options: &ConfigurationOptions) -> anyhow::Result<()> {
    if options.files.is_empty() && options.uris.is_empty() {
        bail!("no configuration: give a file with -f FILE");
    }
    Ok(())
}
