//! What every handler is given: the services of the broker and the facts of the one request.
//!
//! [`HandlerContext`] is shared by all connections and cheap to clone; [`RequestContext`] belongs to one request.
//! Handlers take both by reference and own only the decoded request.

use std::net::SocketAddr;
use std::sync::Arc;

use flafka_log_store::Clock;
use kafka_protocol::protocol::StrBytes;
use tokio_util::sync::CancellationToken;

use crate::config::BrokerConfig;
use crate::damage_met::DamageMet;
use crate::groups::GroupCoordinator;
use crate::log_dirs::LogDirs;
use crate::metrics::BrokerMetrics;
use crate::producer_ids::ProducerIds;
use crate::topics::Topics;

/// The services behind all handlers. Clone = a handful of reference counts.
#[derive(Clone)]
pub struct HandlerContext {
    /// The effective configuration (`server.properties` over the defaults).
    pub config: Arc<BrokerConfig>,
    /// The data directories; the main one's log holds topics, offsets and every journaled table.
    pub log_dirs: LogDirs,
    /// Topic names, ids, partitions and configs.
    pub topics: Arc<Topics>,
    /// The coordinator of all consumer groups.
    pub groups: Arc<GroupCoordinator>,
    /// Producer ids, handed out from journaled blocks.
    pub(crate) producer_ids: Arc<ProducerIds>,
    /// Damaged batches that fetches have met.
    pub(crate) damage_met: Arc<DamageMet>,
    /// Counters for the console.
    pub metrics: Arc<BrokerMetrics>,
    /// Cancelled when the broker stops: long waits end early and answer.
    pub shutdown: CancellationToken,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Identity of this data directory as a Kafka cluster id.
    pub cluster_id: StrBytes,
}

/// Host and port that Metadata, FindCoordinator and DescribeCluster hand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Host name or address.
    pub host: StrBytes,
    /// TCP port.
    pub port: i32,
}

/// The facts of one request.
#[derive(Clone)]
pub struct RequestContext {
    /// The request's API version; already checked against the table of served versions.
    pub api_version: i16,
    /// The client id of the request header, if any.
    pub client_id: Option<StrBytes>,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The address this client is told to connect to (Metadata, FindCoordinator, DescribeCluster).
    pub advertised: Advertised,
    /// Cancelled when the peer is gone or the broker stops: a handler that waits (Fetch, JoinGroup, SyncGroup) must
    /// select on it and return; its answer is then thrown away.
    pub disconnected: CancellationToken,
}
