//! A producer that acknowledges whole batches.
//!
//! Each record carries its batch's ticket; librdkafka's delivery report counts it down. So
//! waiting costs once a batch, and a sink learns of the first failure of its batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Message};
use thiserror::Error;
use tokio::sync::Notify;

use crate::client_log::ClientLog;

/// Why a batch was not acknowledged.
#[derive(Debug, Clone, Error)]
pub enum ProducerError {
    /// The client could not be made from its properties.
    #[error("make a Kafka producer")]
    Create(#[source] KafkaError),
    /// A record was not taken or not acknowledged.
    #[error("send to topic {topic}")]
    Send {
        /// The topic.
        topic: String,
        /// The cause.
        #[source]
        source: KafkaError,
    },
    /// The client has ended for good; another one has to be made.
    #[error("the Kafka client gave up ({code:?}): {reason}; another one is made")]
    Fatal {
        /// librdkafka's code.
        code: RDKafkaErrorCode,
        /// What led to it.
        reason: String,
    },
}

impl ProducerError {
    /// Whether sending the batch again can help.
    pub fn is_retriable(&self) -> bool {
        match self {
            ProducerError::Create(_) => false,
            ProducerError::Fatal { .. } => true,
            ProducerError::Send { source, .. } => !matches!(
                source.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::MessageSizeTooLarge
                        | RDKafkaErrorCode::InvalidTopic
                        | RDKafkaErrorCode::InvalidRecord
                        | RDKafkaErrorCode::TopicAuthorizationFailed
                )
            ),
        }
    }

    /// The topic, when the error is that it does not have the partition (any more, or yet).
    pub fn unknown_partition(&self) -> Option<&str> {
        match self {
            ProducerError::Create(_) | ProducerError::Fatal { .. } => None,
            ProducerError::Send { topic, source } => match source.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopicOrPartition,
                ) => Some(topic),
                _ => None,
            },
        }
    }
}

/// Whether idempotence may be the default beside these properties (Java's names): as in Java, not when one of them
/// contradicts it.
pub fn idempotence_fits(acks: &str, properties: &BTreeMap<String, String>) -> bool {
    let number = |key: &str| properties.get(key)?.trim().parse::<i64>().ok();
    let in_flight = number("max.in.flight.requests.per.connection");
    matches!(acks.trim(), "all" | "-1")
        && in_flight.is_none_or(|in_flight| in_flight <= 5)
        && number("retries") != Some(0)
}

/// One record to send, borrowed; the client copies it.
#[derive(Debug, Clone, Default)]
pub struct OutRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; none lets the client choose by key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: &'a [u8],
    /// Create time in milliseconds; none is now.
    pub timestamp_ms: Option<i64>,
    /// Record headers.
    pub headers: Option<OwnedHeaders>,
}

/// The records of one batch that are not answered yet, and the first failure.
#[derive(Debug, Default)]
pub struct BatchTicket {
    waiting: AtomicUsize,
    failure: Mutex<Option<ProducerError>>,
    changed: Notify,
}

impl BatchTicket {
    fn answered(&self, failure: Option<ProducerError>) {
        if let Some(failure) = failure {
            let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(failure);
        }
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_waiters();
        }
    }

    async fn wait(&self) -> Result<(), ProducerError> {
        loop {
            let changed = self.changed.notified();
            if self.waiting.load(Ordering::Acquire) == 0 {
                break;
            }
            changed.await;
        }
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        failure.map_or(Ok(()), Err)
    }
}

/// Counts a batch's records down as the broker answers.
#[derive(Default)]
struct Deliveries {
    log: ClientLog,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.log.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<BatchTicket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Arc<BatchTicket>) {
        let failure = result
            .as_ref()
            .err()
            .map(|(source, message)| ProducerError::Send {
                topic: message.topic().to_owned(),
                source: source.clone(),
            });
        ticket.answered(failure);
    }
}

/// A producer shared by everything of one component.
pub struct BatchProducer {
    client: Arc<ThreadedProducer<Deliveries>>,
}

impl BatchProducer {
    /// Makes the client; it connects in the background.
    ///
    /// # Errors
    /// When librdkafka does not accept the properties.
    pub fn new(config: &ClientConfig) -> Result<Self, ProducerError> {
        let client = config
            .create_with_context(Deliveries::default())
            .map_err(ProducerError::Create)?;
        Ok(Self {
            client: Arc::new(client),
        })
    }

    /// Sends records and returns when the broker has acknowledged every one of them, as `acks`
    /// says. Order within a partition is kept.
    ///
    /// # Errors
    /// With the first failure; some records may have been written all the same.
    ///
    /// # Cancel safety
    /// Not cancel-safe: a dropped call may have sent any of the records.
    pub async fn send_all<'a>(
        &self,
        records: impl Iterator<Item = OutRecord<'a>>,
    ) -> Result<(), ProducerError> {
        let ticket = Arc::new(BatchTicket::default());
        ticket.waiting.store(1, Ordering::Release);
        let mut outcome = Ok(());
        for record in records {
            outcome = self.enqueue(&ticket, record).await;
            if outcome.is_err() {
                break;
            }
        }
        ticket.answered(None);
        let answered = ticket.wait().await;
        self.client.context().log.show_due();
        outcome
            .and(answered)
            .map_err(|error| self.fatal().unwrap_or(error))
    }

    /// Why the client has ended, if it has: what it says of single records then is only that.
    fn fatal(&self) -> Option<ProducerError> {
        let (code, reason) = self.client.client().fatal_error()?;
        Some(ProducerError::Fatal { code, reason })
    }

    /// Whether the client has met an error after which it refuses everything, such as a sequence that the broker does
    /// not know any more (a topic that was deleted and made again). Another client has to be made.
    pub fn is_broken(&self) -> bool {
        self.client.client().fatal_error().is_some()
    }

    /// How many partitions a topic has; `None` when the cluster does not say within five
    /// seconds. Asking may create the topic, where the cluster allows it.
    pub async fn partition_count(&self, topic: &str) -> Option<i32> {
        const DEADLINE: Duration = Duration::from_secs(5);
        let (client, topic) = (Arc::clone(&self.client), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = client
                .client()
                .fetch_metadata(Some(&topic), DEADLINE)
                .ok()?;
            let found = metadata
                .topics()
                .iter()
                .find(|known| known.name() == topic)?;
            i32::try_from(found.partitions().len())
                .ok()
                .filter(|count| *count > 0)
        });
        asked.await.ok().flatten()
    }

    /// Waits up to `deadline` for what is still under way.
    pub async fn close(self, deadline: Duration) {
        let client = self.client;
        let flushed = tokio::task::spawn_blocking(move || client.flush(deadline)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!(
                "producer closed with unacknowledged records; they were never reported as sent"
            );
        }
    }

    async fn enqueue(
        &self,
        ticket: &Arc<BatchTicket>,
        record: OutRecord<'_>,
    ) -> Result<(), ProducerError> {
        const ROOM_CHECK: Duration = Duration::from_millis(1);
        let topic = record.topic;
        ticket.waiting.fetch_add(1, Ordering::AcqRel);
        let mut out = BaseRecord {
            topic,
            partition: record.partition,
            payload: Some(record.value),
            key: record.key,
            timestamp: record.timestamp_ms,
            headers: record.headers,
            delivery_opaque: Arc::clone(ticket),
        };
        let mut asked = false;
        loop {
            match self.client.send(out) {
                Ok(()) => return Ok(()),
                // As the Java producer: perhaps the partition was added since the metadata was read. The answer comes
                // through this client, which then knows it.
                Err((
                    KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition),
                    returned,
                )) if !asked => {
                    out = returned;
                    asked = true;
                    self.partition_count(topic).await;
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    out = returned;
                    tokio::time::sleep(ROOM_CHECK).await;
                }
                Err((source, _)) => {
                    ticket.answered(None);
                    let topic = topic.to_owned();
                    return Err(ProducerError::Send { topic, source });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    #[tokio::test]
    async fn a_batch_is_acknowledged_or_fails_as_a_whole() {
        let cluster = MockCluster::new(1).expect("mock");
        cluster.create_topic("t", 2, 1).expect("topic");
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("acks", "all")
            .set("message.timeout.ms", "3000");
        let producer = BatchProducer::new(&config).expect("producer");
        let bodies: Vec<String> = (0..500).map(|n| n.to_string()).collect();
        let record = |body: &'static str, partition| OutRecord {
            topic: "t",
            partition: Some(partition),
            value: body.as_bytes(),
            ..OutRecord::default()
        };
        producer
            .send_all(bodies.iter().map(|body| OutRecord {
                topic: "t",
                value: body.as_bytes(),
                ..OutRecord::default()
            }))
            .await
            .expect("acknowledged");
        producer
            .send_all(std::iter::empty())
            .await
            .expect("nothing to do");
        let failed = producer
            .send_all([record("good", 0), record("bad", 99)].into_iter())
            .await;
        assert!(
            matches!(failed, Err(ProducerError::Send { .. })),
            "{failed:?}"
        );
        producer.close(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn a_client_that_refuses_everything_says_so() {
        let cluster = MockCluster::new(1).expect("mock");
        cluster.create_topic("t", 1, 1).expect("topic");
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "5000");
        let producer = BatchProducer::new(&config).expect("producer");
        let one = || {
            let record = OutRecord {
                topic: "t",
                value: b"x",
                ..OutRecord::default()
            };
            std::iter::once(record)
        };
        producer.send_all(one()).await.expect("acknowledged");
        assert!(!producer.is_broken());
        let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        cluster.request_errors(RDKafkaApiKey::Produce, &[unknown]);
        let refused = producer.send_all(one()).await.expect_err("refused");
        assert!(
            matches!(refused, ProducerError::Fatal { .. }) && refused.is_retriable(),
            "{refused}"
        );
        assert!(producer.is_broken());
        producer.send_all(one()).await.expect_err("for good");
    }

    #[test]
    fn idempotence_gives_way_to_what_contradicts_it() {
        let fits = |acks, pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            let owned = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            idempotence_fits(acks, &owned.collect())
        };
        let in_flight = "max.in.flight.requests.per.connection";
        assert!(fits("all", &[]) && fits("-1", &[(in_flight, "5"), ("retries", "3")]));
        assert!(!fits("1", &[]) && !fits("all", &[(in_flight, "6")]));
        assert!(!fits("all", &[("retries", "0")]));
    }
}
