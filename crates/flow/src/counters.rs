//! The counters of a component, under Flume's names (reference 5.2), as lock-free numbers.
//!
//! [`Metric`] is the only list of names. Each component shows the set that Flume's does, so
//! dashboards work; what Flume does not count (netcat, logger, null) is counted all the same and
//! left out of the Flume JSON only.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;

/// Which kind of component a set of counters belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ComponentKind {
    /// A source.
    Source,
    /// A channel.
    Channel,
    /// A sink.
    Sink,
    /// The embedded log; Flume has none.
    Broker,
}

impl ComponentKind {
    /// Flume's word in capitals: the first half of a key of `/metrics`.
    pub fn label(self) -> &'static str {
        match self {
            ComponentKind::Source => "SOURCE",
            ComponentKind::Channel => "CHANNEL",
            ComponentKind::Sink => "SINK",
            ComponentKind::Broker => "BROKER",
        }
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident $unit:ident,)+) => {
        /// A Flume attribute name. The enum is the whole list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Metric { $($(#[doc = $doc])+ $name,)+ }

        impl Metric {
            /// Every metric, in the order of the enum.
            pub const ALL: &'static [Metric] = &[$(Metric::$name,)+];

            /// The name in Flume's JSON.
            pub fn name(self) -> &'static str {
                match self { $(Metric::$name => stringify!($name),)+ }
            }

            /// What it counts, one sentence.
            pub fn help(self) -> &'static str {
                match self { $(Metric::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// What kind of number it is.
            pub fn unit(self) -> Unit {
                match self { $(Metric::$name => Unit::$unit,)+ }
            }
        }
    };
}

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Grows from 0.
    Count,
    /// Grows from 0, in milliseconds.
    Milliseconds,
    /// Goes up and down.
    Gauge,
    /// 0 or 1; Flume prints `true` or `false`.
    Flag,
}

metrics! {
    /// Events handed over by clients or read by the source.
    EventReceivedCount Count,
    /// Events put into all required channels.
    EventAcceptedCount Count,
    /// Single-event calls received.
    AppendReceivedCount Count,
    /// Single-event calls put.
    AppendAcceptedCount Count,
    /// Batches received.
    AppendBatchReceivedCount Count,
    /// Batches put.
    AppendBatchAcceptedCount Count,
    /// Connections open now.
    OpenConnectionCount Gauge,
    /// Failures to read or decode input.
    EventReadFail Count,
    /// Puts that a channel refused.
    ChannelWriteFail Count,
    /// Other failures of the source.
    GenericProcessingFail Count,
    /// Milliseconds spent waiting for records from Kafka.
    KafkaEventGetTimer Milliseconds,
    /// Milliseconds spent committing offsets to Kafka.
    KafkaCommitTimer Milliseconds,
    /// Milliseconds spent sending to Kafka.
    KafkaEventSendTimer Milliseconds,
    /// Polls of Kafka that returned nothing.
    KafkaEmptyCount Count,
    /// Transactions rolled back.
    RollbackCount Count,
    /// Events in the channel now.
    ChannelSize Gauge,
    /// Events the channel can hold.
    ChannelCapacity Gauge,
    /// Events that a put was tried for.
    EventPutAttemptCount Count,
    /// Events put.
    EventPutSuccessCount Count,
    /// Takes tried.
    EventTakeAttemptCount Count,
    /// Events whose take was committed.
    EventTakeSuccessCount Count,
    /// Whether the channel is open.
    Open Flag,
    /// 1 when the channel is closed.
    Closed Gauge,
    /// 1 when the channel cannot work.
    Unhealthy Gauge,
    /// Puts that failed in storage.
    EventPutErrorCount Count,
    /// Takes that failed in storage.
    EventTakeErrorCount Count,
    /// Checkpoints that could not be written.
    CheckpointWriteErrorCount Count,
    /// Backup checkpoints that could not be written.
    CheckpointBackupWriteErrorCount Count,
    /// Files of the log that failed and were replaced by a fresh one.
    LogMendedCount Count,
    /// Damaged places that were found in the log.
    LogDamageCount Count,
    /// Bytes of the log that were damaged.
    LogDamagedByteCount Count,
    /// Offsets of the log that were lost with damaged bytes.
    LogLostOffsetCount Count,
    /// Connections or files opened.
    ConnectionCreatedCount Count,
    /// Connections or files closed.
    ConnectionClosedCount Count,
    /// Connections or files that failed.
    ConnectionFailedCount Count,
    /// Takes that found the channel empty.
    BatchEmptyCount Count,
    /// Batches with fewer events than the batch size.
    BatchUnderflowCount Count,
    /// Full batches.
    BatchCompleteCount Count,
    /// Events taken for delivery.
    EventDrainAttemptCount Count,
    /// Events delivered.
    EventDrainSuccessCount Count,
    /// Failures to write to the target.
    EventWriteFail Count,
    /// Failures to read from the channel.
    ChannelReadFail Count,
}

/// The attribute sets that Flume's components show (reference 5.2).
pub mod sets {
    use super::Metric::{self, *};

    /// Most sources.
    pub const SOURCE: &[Metric] = &[
        EventReceivedCount,
        EventAcceptedCount,
        AppendReceivedCount,
        AppendAcceptedCount,
        AppendBatchReceivedCount,
        AppendBatchAcceptedCount,
        OpenConnectionCount,
        EventReadFail,
        ChannelWriteFail,
        GenericProcessingFail,
    ];
    /// The kafka source.
    pub const KAFKA_SOURCE: &[Metric] = &[
        EventReceivedCount,
        EventAcceptedCount,
        AppendReceivedCount,
        AppendAcceptedCount,
        AppendBatchReceivedCount,
        AppendBatchAcceptedCount,
        OpenConnectionCount,
        KafkaEventGetTimer,
        KafkaCommitTimer,
        KafkaEmptyCount,
    ];
    /// The memory channel.
    pub const CHANNEL: &[Metric] = &[
        ChannelSize,
        ChannelCapacity,
        EventPutAttemptCount,
        EventPutSuccessCount,
        EventTakeAttemptCount,
        EventTakeSuccessCount,
    ];
    /// The spillable channel: Flume's, and what the log of its overflow has met.
    pub const SPILLABLE_CHANNEL: &[Metric] = &[
        ChannelSize,
        ChannelCapacity,
        EventPutAttemptCount,
        EventPutSuccessCount,
        EventTakeAttemptCount,
        EventTakeSuccessCount,
        LogMendedCount,
        LogDamageCount,
        LogDamagedByteCount,
        LogLostOffsetCount,
        CheckpointWriteErrorCount,
    ];
    /// The file channel: Flume's, and what its log has met.
    pub const FILE_CHANNEL: &[Metric] = &[
        ChannelSize,
        ChannelCapacity,
        EventPutAttemptCount,
        EventPutSuccessCount,
        EventTakeAttemptCount,
        EventTakeSuccessCount,
        Open,
        Closed,
        Unhealthy,
        EventPutErrorCount,
        EventTakeErrorCount,
        CheckpointWriteErrorCount,
        CheckpointBackupWriteErrorCount,
        LogMendedCount,
        LogDamageCount,
        LogDamagedByteCount,
        LogLostOffsetCount,
    ];
    /// The embedded log; the file channel shows the same beside Flume's.
    pub const LOG: &[Metric] = &[
        LogMendedCount,
        LogDamageCount,
        LogDamagedByteCount,
        LogLostOffsetCount,
        CheckpointWriteErrorCount,
    ];
    /// The kafka channel.
    pub const KAFKA_CHANNEL: &[Metric] = &[
        ChannelSize,
        ChannelCapacity,
        EventPutAttemptCount,
        EventPutSuccessCount,
        EventTakeAttemptCount,
        EventTakeSuccessCount,
        KafkaEventGetTimer,
        KafkaEventSendTimer,
        KafkaCommitTimer,
        RollbackCount,
    ];
    /// Most sinks.
    pub const SINK: &[Metric] = &[
        ConnectionCreatedCount,
        ConnectionClosedCount,
        ConnectionFailedCount,
        BatchEmptyCount,
        BatchUnderflowCount,
        BatchCompleteCount,
        EventDrainAttemptCount,
        EventDrainSuccessCount,
        EventWriteFail,
        ChannelReadFail,
    ];
    /// The kafka sink.
    pub const KAFKA_SINK: &[Metric] = &[
        ConnectionCreatedCount,
        ConnectionClosedCount,
        ConnectionFailedCount,
        BatchEmptyCount,
        BatchUnderflowCount,
        BatchCompleteCount,
        EventDrainAttemptCount,
        EventDrainSuccessCount,
        KafkaEventSendTimer,
        RollbackCount,
    ];
}

/// The counters of one component.
#[derive(Debug)]
pub struct Counters {
    kind: ComponentKind,
    name: Arc<str>,
    shown: &'static [Metric],
    in_flume_json: bool,
    values: Box<[AtomicI64]>,
    start_ms: AtomicI64,
    stop_ms: AtomicI64,
}

impl Counters {
    /// Counters of the component `name` that show `shown`. `in_flume_json` is false for the
    /// components that Flume's `/metrics` leaves out.
    pub fn new(
        kind: ComponentKind,
        name: &str,
        shown: &'static [Metric],
        in_flume_json: bool,
    ) -> Self {
        Self {
            kind,
            name: name.into(),
            shown,
            in_flume_json,
            values: Metric::ALL.iter().map(|_| AtomicI64::new(0)).collect(),
            start_ms: AtomicI64::new(0),
            stop_ms: AtomicI64::new(0),
        }
    }

    /// The component's kind.
    pub fn kind(&self) -> ComponentKind {
        self.kind
    }

    /// The component's name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The metrics that this component shows.
    pub fn shown(&self) -> &'static [Metric] {
        self.shown
    }

    /// Whether Flume's JSON shows this component.
    pub fn in_flume_json(&self) -> bool {
        self.in_flume_json
    }

    /// Adds `amount`. Once a batch, not once an event.
    pub fn add(&self, metric: Metric, amount: u64) {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        self.values[metric as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, value: i64) {
        self.values[metric as usize].store(value, Ordering::Relaxed);
    }

    /// Changes a gauge by `change`.
    pub fn shift(&self, metric: Metric, change: i64) {
        self.values[metric as usize].fetch_add(change, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self, metric: Metric) -> i64 {
        self.values[metric as usize].load(Ordering::Relaxed)
    }

    /// Marks the start: the counts (not the gauges) begin again at 0, as in Flume.
    pub fn started(&self, clock: &dyn Clock) {
        for metric in Metric::ALL {
            if matches!(metric.unit(), Unit::Count | Unit::Milliseconds) {
                self.set(*metric, 0);
            }
        }
        self.stop_ms.store(0, Ordering::Relaxed);
        self.start_ms.store(clock.now_ms(), Ordering::Relaxed);
    }

    /// Marks the stop.
    pub fn stopped(&self, clock: &dyn Clock) {
        self.stop_ms.store(clock.now_ms(), Ordering::Relaxed);
    }

    /// `StartTime` and `StopTime` in milliseconds; 0 = not yet.
    pub fn times(&self) -> (i64, i64) {
        (
            self.start_ms.load(Ordering::Relaxed),
            self.stop_ms.load(Ordering::Relaxed),
        )
    }

    /// `ChannelFillPercentage` as Flume computes it: `f64::MAX` for an unknown capacity.
    pub fn fill_percentage(&self) -> f64 {
        match self.get(Metric::ChannelCapacity) {
            0 => f64::MAX,
            capacity => 100.0 * self.get(Metric::ChannelSize) as f64 / capacity as f64,
        }
    }
}

/// All counters of a process; `/metrics` walks it.
#[derive(Debug, Clone, Default)]
pub struct CountersRegistry {
    all: Arc<Mutex<Vec<Arc<Counters>>>>,
}

impl CountersRegistry {
    /// Makes and lists counters; a component of the same kind and name is replaced.
    pub fn register(&self, counters: Counters) -> Arc<Counters> {
        let counters = Arc::new(counters);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.kind != counters.kind || other.name != counters.name);
        all.push(Arc::clone(&counters));
        counters
    }

    /// The counters of every component.
    pub fn all(&self) -> Vec<Arc<Counters>> {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets every component, as a reload does.
    pub fn clear(&self) {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn counts_restart_with_the_component_and_gauges_stay() {
        let registry = CountersRegistry::default();
        let counters = registry.register(Counters::new(
            ComponentKind::Channel,
            "c1",
            sets::CHANNEL,
            true,
        ));
        counters.add(Metric::EventPutAttemptCount, 7);
        counters.set(Metric::ChannelCapacity, 200);
        counters.set(Metric::ChannelSize, 50);
        assert_eq!(counters.fill_percentage(), 25.0);
        counters.started(&ManualClock::at(1000));
        assert_eq!(counters.get(Metric::EventPutAttemptCount), 0);
        assert_eq!(counters.get(Metric::ChannelSize), 50);
        assert_eq!(counters.times(), (1000, 0));
        registry.register(Counters::new(
            ComponentKind::Channel,
            "c1",
            sets::CHANNEL,
            true,
        ));
        assert_eq!(registry.all().len(), 1);
    }

    #[test]
    fn names_are_unique() {
        for (index, metric) in Metric::ALL.iter().enumerate() {
            assert_eq!(*metric as usize, index);
            assert!(!metric.help().is_empty());
        }
    }
}
