//! The broker as a whole: open the log, recover, listen; stop in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flafka_log_store::{Clock, CommitError, Fs, Log, RealFs, RecoveryReport, SystemClock};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::BrokerConfig;
use crate::connection::BUDGET_UNIT;
use crate::context::HandlerContext;
use crate::groups::{GroupConfig, GroupCoordinator};
use crate::listener::{Acceptor, Listener, OpenConnections, announce};
use crate::log_dirs::{self, LogDirError, LogDirs};
use crate::metrics::BrokerMetrics;
use crate::producer_ids::ProducerIds;
use crate::topics::{Topics, TopicsOpenError};

/// Descriptors kept for each log and the rest of the process when connections are counted against the limit.
const RESERVED_DESCRIPTORS: usize = 256;

/// Why a broker cannot start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directories do not open: locked, damaged, no room, not those of one broker.
    #[error(transparent)]
    LogDirs(#[from] LogDirError),
    /// The topic table cannot be read.
    #[error("open the topics in {}: {source}", dir.display())]
    Topics {
        /// The data directory.
        dir: PathBuf,
        /// What is wrong.
        source: TopicsOpenError,
    },
    /// A listener cannot be bound.
    #[error(
        "listen on {listener}: {source}; choose another address with `listeners`, or stop what uses it"
    )]
    Listen {
        /// The listener as configured.
        listener: String,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// A running broker. Dropping it without [`Broker::shutdown`] leaves its tasks to the runtime.
pub struct Broker {
    context: HandlerContext,
    addresses: Vec<SocketAddr>,
    tasks: TaskTracker,
    recovery: RecoveryReport,
}

impl Broker {
    /// Opens the logs, recovers topics, producer ids and groups, then listens. Must run on a Tokio runtime with time
    /// and I/O enabled.
    ///
    /// # Errors
    /// The log, a topic or a listener cannot be opened; nothing keeps running then.
    pub async fn start(config: BrokerConfig) -> Result<Broker, StartError> {
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        Broker::start_with(config, fs, Arc::new(SystemClock::new())).await
    }

    /// As [`Broker::start`], with a file system and a clock of one's own (tests).
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub async fn start_with(
        mut config: BrokerConfig,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
    ) -> Result<Broker, StartError> {
        limit_connections(&mut config);
        let config = Arc::new(config);
        let (dirs, recovery) = log_dirs::open(&config, fs, Arc::clone(&clock)).await?;
        let opened = Broker::open(Arc::clone(&config), dirs.clone(), clock, recovery).await;
        if opened.is_err()
            && let Err(error) = dirs.close().await
        {
            warn!(%error, "close the log after a failed start");
        }
        opened
    }

    async fn open(
        config: Arc<BrokerConfig>,
        dirs: LogDirs,
        clock: Arc<dyn Clock>,
        recovery: RecoveryReport,
    ) -> Result<Broker, StartError> {
        let topics = Topics::open(dirs.clone(), Arc::clone(&config), Arc::clone(&clock))
            .await
            .map_err(|source| StartError::Topics {
                dir: dirs.main_dir().path().to_owned(),
                source,
            })?;
        let log = dirs.main();
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        let mut listeners = Vec::new();
        for endpoint in &config.listeners {
            let failed = |source| StartError::Listen {
                listener: endpoint.to_string(),
                source,
            };
            let listener = Listener::bind(endpoint, &config).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            announce(&listener, address);
            listeners.push((listener, address));
        }
        let groups = Arc::new(GroupCoordinator::load(
            GroupConfig::from(&*config),
            Arc::new(log.clone()),
            Arc::clone(&clock),
        ));
        let context = HandlerContext {
            cluster_id: StrBytes::from_string(log.cluster_id().to_owned()),
            topics: Arc::new(topics),
            groups: Arc::clone(&groups),
            producer_ids: Arc::new(ProducerIds::open(log.clone())),
            damage_met: Arc::default(),
            metrics: Arc::new(BrokerMetrics::of(&dirs)),
            shutdown,
            clock,
            config,
            log_dirs: dirs,
        };
        let stop = context.shutdown.clone();
        tasks.spawn(async move { groups.run(stop).await });
        let acceptor = Acceptor {
            budget: Arc::new(Semaphore::new(
                context.config.queued_max_request_bytes / BUDGET_UNIT,
            )),
            open: OpenConnections::new(&context.config),
            tasks: tasks.clone(),
            context: context.clone(),
        };
        let mut addresses = Vec::with_capacity(listeners.len());
        for (listener, address) in listeners {
            addresses.push(address);
            tasks.spawn(listener.accept_all(acceptor.clone()));
        }
        Ok(Broker {
            context,
            addresses,
            tasks,
            recovery,
        })
    }

    /// Where the first listener is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where all listeners are bound, in the order of `listeners`.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The log with the broker's own tables: that of the main data directory.
    pub fn log(&self) -> &Log {
        self.context.log_dirs.main()
    }

    /// The data directories.
    pub fn log_dirs(&self) -> &LogDirs {
        &self.context.log_dirs
    }

    /// The topic registry.
    pub fn topics(&self) -> &Arc<Topics> {
        &self.context.topics
    }

    /// The group coordinator.
    pub fn groups(&self) -> &Arc<GroupCoordinator> {
        &self.context.groups
    }

    /// The counters.
    pub fn metrics(&self) -> &Arc<BrokerMetrics> {
        &self.context.metrics
    }

    /// The configuration it runs with.
    pub fn config(&self) -> &BrokerConfig {
        &self.context.config
    }

    /// What the start found and repaired in the main data directory.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Stops in order: no new connections and requests, answers to what was read, then the log with a final
    /// checkpoint. After `deadline` connections are left behind unanswered; the log is closed all the same.
    ///
    /// # Errors
    /// The main log's final checkpoint failed; the next start recovers from the journal.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), CommitError> {
        self.context.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait())
            .await
            .is_err()
        {
            warn!(
                open = self.tasks.len(),
                "stop with unanswered requests: the deadline is over"
            );
        }
        self.context.log_dirs.close().await?;
        info!("broker stopped");
        Ok(())
    }
}

/// Raises the soft limit of open files to the hard one and keeps `max.connections` below it, so that connections can
/// never take the descriptors that the log needs.
fn limit_connections(config: &mut BrokerConfig) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limits.maximum,
        Err(_) => limits.current,
    };
    let Some(current) = current.and_then(|current| usize::try_from(current).ok()) else {
        return;
    };
    let reserved = RESERVED_DESCRIPTORS.saturating_mul(config.log_dirs.len());
    let most = current.saturating_sub(reserved).max(1);
    if config.max_connections > most {
        warn!(
            max_connections = config.max_connections,
            lowered_to = most,
            open_files = current,
            "lower max.connections to what the limit of open files allows"
        );
        config.max_connections = most;
    }
}
