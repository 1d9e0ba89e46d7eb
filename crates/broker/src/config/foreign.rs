//! Kafka keys without an effect on one node, keys that are refused, and the nearest key of a typing mistake.

use super::settings::SETTINGS;
use super::{ConfigProblem, Entry, Note, listeners};

/// Key (or prefix ending in a dot) and why it has no effect here.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    (
        "process.roles",
        "one process is broker and coordinator at once",
    ),
    ("controller.", "there is no controller quorum on one node"),
    (
        "zookeeper.",
        "there is no ZooKeeper; the log holds all metadata",
    ),
    (
        "metadata.",
        "there is no metadata quorum; the log holds all metadata",
    ),
    (
        "broker.heartbeat.interval.ms",
        "there is no controller to report to",
    ),
    (
        "broker.session.timeout.ms",
        "there is no controller to report to",
    ),
    (
        "initial.broker.registration.timeout.ms",
        "there is no controller to register with",
    ),
    ("broker.rack", "there is one node"),
    (
        "broker.id.generation.enable",
        "set node.id, or leave it out",
    ),
    ("reserved.broker.max.id", "there is one node"),
    ("inter.broker.", "there are no other brokers"),
    (
        "security.inter.broker.protocol",
        "there are no other brokers",
    ),
    ("replica.", "there are no replicas"),
    ("num.replica.", "there are no replicas"),
    (
        "default.replication.factor",
        "one node holds one replica of everything",
    ),
    (
        "offsets.topic.",
        "committed offsets live in the journaled tables of the log",
    ),
    (
        "offsets.commit.",
        "commits are journaled at once, without a topic",
    ),
    (
        "offsets.load.buffer.size",
        "committed offsets live in memory",
    ),
    (
        "transaction.",
        "transactions are not served; their keys are not advertised",
    ),
    (
        "transactional.",
        "transactions are not served; their keys are not advertised",
    ),
    (
        "producer.id.expiration.",
        "producer state is kept by the log",
    ),
    ("producer.purgatory.", "waiting requests are tasks"),
    ("fetch.purgatory.", "waiting requests are tasks"),
    ("delete.records.purgatory.", "waiting requests are tasks"),
    (
        "num.network.threads",
        "connections are tasks on the async threads",
    ),
    (
        "num.io.threads",
        "requests are tasks; the log has its own threads",
    ),
    ("background.threads", "the log has its own threads"),
    (
        "num.recovery.threads.",
        "recovery reads the journal, not every segment",
    ),
    ("queued.max.requests", "bounded by queued.max.request.bytes"),
    (
        "request.timeout.ms",
        "there are no other brokers to wait for",
    ),
    (
        "socket.connection.setup.",
        "this broker opens no connections",
    ),
    ("leader.imbalance.", "the one node leads every partition"),
    (
        "auto.leader.rebalance.enable",
        "the one node leads every partition",
    ),
    (
        "unclean.leader.election.",
        "the one node leads every partition",
    ),
    ("leader.replication.", "there are no replicas"),
    ("follower.replication.", "there are no replicas"),
    ("controlled.shutdown.", "there are no other brokers"),
    (
        "log.cleaner.threads",
        "one partition is compacted at a time",
    ),
    (
        "log.cleaner.io.buffer.size",
        "compaction reads and writes a mebibyte at a time",
    ),
    (
        "log.cleaner.io.buffer.load.factor",
        "the table of keys is filled to nine tenths",
    ),
    (
        "log.flush.",
        "flafka.durability decides; its default syncs before every acknowledgement",
    ),
    ("log.index.", "indexes are derived and sized by the log"),
    ("log.preallocate", "the log sizes its files itself"),
    ("log.message.format.version", "record batches v2 only"),
    (
        "log.message.downconversion.enable",
        "record batches v2 only",
    ),
    (
        "log.message.timestamp.difference.max.ms",
        "replaced by log.message.timestamp.before/after.max.ms",
    ),
    ("log.local.retention.", "there is no tiered storage"),
    ("log.dir.failure.timeout.ms", "there is one log directory"),
    ("remote.", "there is no tiered storage"),
    ("group.consumer.", "the classic group protocol is served"),
    (
        "group.coordinator.",
        "the group coordinator has no threads to set",
    ),
    ("group.share.", "share groups are not served"),
    ("group.streams.", "streams groups are not served"),
    ("share.", "share groups are not served"),
    ("quota.", "quotas are not served"),
    ("client.quota.", "quotas are not served"),
    ("replication.quota.", "there are no replicas"),
    ("alter.", "there are no replicas to move"),
    (
        "create.topic.policy.class.name",
        "Java classes cannot be loaded",
    ),
    (
        "alter.config.policy.class.name",
        "Java classes cannot be loaded",
    ),
    ("metric.reporters", "metrics are served by the console"),
    ("metrics.", "metrics are served by the console"),
    ("kafka.metrics.", "metrics are served by the console"),
    (
        "auto.include.jmx.reporter",
        "metrics are served by the console",
    ),
    ("telemetry.", "client telemetry is not advertised"),
    (
        "max.incremental.fetch.session.cache.slots",
        "fetch sessions are not kept; clients send full requests",
    ),
    (
        "max.request.partition.size.limit",
        "bounded by the element limit of a request",
    ),
    ("max.connection.creation.rate", "bounded by max.connections"),
    (
        "max.connections.per.ip.overrides",
        "bounded by max.connections.per.ip",
    ),
    (
        "connection.failed.authentication.delay.ms",
        "there is no authentication yet",
    ),
    (
        "connections.max.reauth.ms",
        "there is no authentication yet",
    ),
    ("host.name", "use listeners"),
    ("port", "use listeners"),
    (
        "early.start.listeners",
        "all listeners open once recovery is done",
    ),
    ("enable.", "KRaft switches have no meaning on one node"),
    ("unstable.", "KRaft switches have no meaning on one node"),
    ("internal.", "internal Kafka switches have no meaning here"),
    ("confluent.support.", "there is no vendor support channel"),
];

/// Key (or prefix ending in a dot) and why it stops the start.
const REFUSED: &[(&str, &str)] = &[
    (
        "ssl.",
        "TLS listeners are not served yet and clients would talk in plain text; remove it and listen on loopback, or put a TLS proxy in front",
    ),
    (
        "sasl.",
        "SASL is not served yet and every client would be let in; remove it and listen on loopback",
    ),
    (
        "listener.name.",
        "listener-specific security is not served yet; remove it and listen on loopback",
    ),
    (
        "authorizer.class.name",
        "there is no authorizer and every client would be let in; remove it",
    ),
    (
        "super.users",
        "there is no authorizer and every client would be let in; remove it",
    ),
    (
        "allow.everyone.if.no.acl.found",
        "there is no authorizer; remove it",
    ),
    (
        "principal.builder.class",
        "there is no authentication yet; remove it",
    ),
    (
        "security.providers",
        "Java classes cannot be loaded; remove it",
    ),
    (
        "delegation.token.",
        "there is no authentication yet; remove it",
    ),
    (
        "password.encoder.",
        "there are no stored passwords; remove it",
    ),
];

pub(super) fn judge(entry: &Entry, notes: &mut Vec<Note>, problems: &mut Vec<ConfigProblem>) {
    if let Some(reason) = find(REFUSED, &entry.key) {
        problems.push(ConfigProblem::Unsupported {
            place: entry.place.clone(),
            key: entry.key.clone(),
            reason,
        });
        return;
    }
    if let Some(reason) = find(WITHOUT_EFFECT, &entry.key) {
        notes.push(Note {
            place: entry.place.clone(),
            key: entry.key.clone(),
            reason,
        });
        return;
    }
    problems.push(ConfigProblem::UnknownKey {
        place: entry.place.clone(),
        key: entry.key.clone(),
        nearest: nearest(&entry.key),
    });
}

fn find(table: &[(&str, &'static str)], key: &str) -> Option<&'static str> {
    table
        .iter()
        .find(|(name, _)| *name == key || (name.ends_with('.') && key.starts_with(name)))
        .map(|(_, reason)| *reason)
}

/// The known key closest in spelling, if at most a third of the letters differ.
fn nearest(key: &str) -> Option<&'static str> {
    let whole_keys = WITHOUT_EFFECT
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !name.ends_with('.'));
    SETTINGS
        .iter()
        .map(|setting| setting.key)
        .chain(listeners::KEYS.iter().copied())
        .chain(whole_keys)
        .map(|known| (distance(key, known), known))
        .filter(|(distance, known)| *distance * 3 <= known.len().max(key.len()))
        .min()
        .map(|(_, known)| known)
}

/// Edit distance (insert, delete, replace), one row at a time.
pub(crate) fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
