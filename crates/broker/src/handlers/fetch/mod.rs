//! Fetch (key 1): record batches to consumers, with long poll.
//!
//! Rules kept: whole batches only, and the first batch of an answer whatever its size (KIP-74, trap T6); session id 0,
//! so clients send full requests (T7); read_committed is accepted: without transactions the last stable offset is the
//! high watermark; a wrong leader epoch is told (KIP-320). An answer waits until `min_bytes` are there, `max_wait_ms`
//! is over, a partition has an error, the peer is gone or the broker stops.
//!
//! Records are not read here: [`wire`] writes the frame around the file ranges, and the connection reads them as the
//! socket takes them.

mod wire;

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use flafka_log_store::{Offset, ReadError, ReadPlan};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::{FetchRequest, TopicName};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use self::wire::{PartitionAnswer, TopicAnswer};
use super::{check_leader_epoch, online};
use crate::context::{HandlerContext, RequestContext};
use crate::dispatch::Response;
use crate::errors::KafkaCode;
use crate::log_dirs::Partition;

/// Reads this near the end of a partition, in records, are expected in the page cache and done in place; others go to
/// the blocking threads.
const RECENT_RECORDS: i64 = 100_000;
/// Longest wait, whatever the client asks for; Kafka clients use half a second.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// One partition to be read.
struct Wanted {
    index: i32,
    place: Result<Partition, ResponseError>,
    offset: Offset,
    max_bytes: usize,
}

struct WantedTopic {
    name: TopicName,
    partitions: Vec<Wanted>,
}

/// What a pass over the partitions found; data still lies in the segments.
struct Pass {
    topics: Vec<(TopicName, Vec<Found>)>,
    bytes: usize,
    has_error: bool,
    /// Where a batch is damaged.
    damaged: Vec<(Partition, Offset)>,
}

struct Found {
    index: i32,
    outcome: Result<ReadPlan, ResponseError>,
    is_recent: bool,
}

pub(crate) async fn respond(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: FetchRequest,
) -> Response {
    let version = request_context.api_version;
    // No session is ever handed out, so one that is named is another broker's, or from before a restart.
    if version >= 7 && request.session_id != 0 && request.session_epoch > 0 {
        return wire::encode(
            version,
            ResponseError::FetchSessionIdNotFound.code(),
            Vec::new(),
        );
    }
    let max_bytes = request.max_bytes.clamp(0, context.config.fetch_max_bytes) as usize;
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(MAX_WAIT);
    let deadline = Instant::now() + wait;
    let wanted = resolve(context, request);
    let mut changes: Option<Vec<watch::Receiver<Offset>>> = None;
    loop {
        let pass = read_all(context, &wanted, max_bytes);
        let over = Instant::now() >= deadline || request_context.disconnected.is_cancelled();
        for (place, offset) in &pass.damaged {
            name_damage(context, place, *offset).await;
        }
        if pass.bytes >= min_bytes || pass.has_error || over {
            context.metrics.fetched_bytes.add(pass.bytes as u64);
            return wire::encode(version, 0, pass.into_answers());
        }
        match &mut changes {
            // Looked at once more after the watches are in place: an append in between would be missed.
            None => changes = Some(watch_all(&wanted)),
            Some(changes) => {
                tokio::select! {
                    () = any_changed(changes) => {}
                    () = tokio::time::sleep_until(deadline) => {}
                    () = request_context.disconnected.cancelled() => {}
                }
            }
        }
    }
}

fn resolve(context: &HandlerContext, request: FetchRequest) -> Vec<WantedTopic> {
    request
        .topics
        .into_iter()
        .map(|topic| {
            let known = context.topics.get(&topic.topic);
            let place_of = |partition: &FetchPartition| {
                let place = known
                    .as_ref()
                    .and_then(|known| known.partition(partition.partition));
                let (log, _) = online(place)?;
                check_leader_epoch(log, partition.current_leader_epoch)?;
                place.cloned().ok_or(ResponseError::UnknownTopicOrPartition)
            };
            let partitions = topic
                .partitions
                .iter()
                .map(|partition| Wanted {
                    index: partition.partition,
                    place: place_of(partition),
                    offset: Offset(partition.fetch_offset),
                    max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                })
                .collect();
            WantedTopic {
                name: topic.topic,
                partitions,
            }
        })
        .collect()
}

fn read_all(context: &HandlerContext, wanted: &[WantedTopic], max_bytes: usize) -> Pass {
    let mut pass = Pass {
        topics: Vec::with_capacity(wanted.len()),
        bytes: 0,
        has_error: false,
        damaged: Vec::new(),
    };
    for topic in wanted {
        let mut found = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let room = max_bytes
                .saturating_sub(pass.bytes)
                .min(partition.max_bytes);
            let outcome = partition
                .place
                .as_ref()
                .map_err(|code| *code)
                .and_then(|place| {
                    let first = pass.bytes == 0;
                    let (log, stream) = online(Some(place))?;
                    let read = log.read(stream, partition.offset, room, first);
                    read.map_err(|error| {
                        if let ReadError::Corrupt { .. } = error {
                            pass.damaged.push((place.clone(), partition.offset));
                        }
                        read_failed(&topic.name, partition.index, &error)
                    })
                });
            let mut is_recent = false;
            match &outcome {
                Ok(plan) => {
                    pass.bytes += plan.length();
                    is_recent = plan.high_watermark.0 - partition.offset.0 < RECENT_RECORDS;
                }
                Err(_) => {
                    pass.has_error = true;
                    context.metrics.fetch_errors.add(1);
                }
            }
            found.push(Found {
                index: partition.index,
                outcome,
                is_recent,
            });
        }
        pass.topics.push((topic.name.clone(), found));
    }
    pass
}

fn read_failed(topic: &TopicName, partition: i32, error: &ReadError) -> ResponseError {
    match error {
        ReadError::UnknownStream(_) | ReadError::OutOfRange { .. } | ReadError::Closed => {}
        // Named once by the log, with its file; a client asks again and again.
        ReadError::Corrupt { .. } => {
            debug!(topic = %topic.as_str(), partition, %error, "read partition");
        }
        ReadError::Io(_) => {
            warn!(topic = %topic.as_str(), partition, %error, "read partition");
        }
    }
    error.kafka_code()
}

/// Has the log name and count a damaged batch, for `/health`: once, not with every fetch that meets it.
async fn name_damage(context: &HandlerContext, place: &Partition, offset: Offset) {
    let Ok((log, stream)) = place.online() else {
        return;
    };
    let met = (place.dir().index(), stream, offset);
    if !context.damage_met.is_new(met) {
        return;
    }
    match log.set_aside(stream, offset).await {
        Ok(Some(_)) => {}
        // It can be read after all, or the log is closed: the next one may ask again.
        Ok(None) | Err(_) => context.damage_met.forget(met),
    }
}

impl Pass {
    fn into_answers(self) -> Vec<TopicAnswer> {
        let answer = |found: Found| match found.outcome {
            Ok(plan) => PartitionAnswer {
                index: found.index,
                error_code: 0,
                high_watermark: plan.high_watermark.0,
                log_start: plan.log_start.0,
                records: plan.slices,
                is_recent: found.is_recent,
            },
            Err(code) => PartitionAnswer::failed(found.index, code),
        };
        self.topics
            .into_iter()
            .map(|(name, found)| TopicAnswer {
                name,
                partitions: found.into_iter().map(answer).collect(),
            })
            .collect()
    }
}

fn watch_all(wanted: &[WantedTopic]) -> Vec<watch::Receiver<Offset>> {
    wanted
        .iter()
        .flat_map(|topic| &topic.partitions)
        .filter_map(|partition| partition.place.as_ref().ok()?.online().ok())
        .filter_map(|(log, stream)| log.watch(stream).ok())
        .collect()
}

/// Waits until one of the watched values changes, or its stream is gone. Cancel safe.
async fn any_changed(changes: &mut [watch::Receiver<Offset>]) {
    if changes.is_empty() {
        std::future::pending::<()>().await;
    }
    let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = changes
        .iter_mut()
        .map(|receiver| {
            let wait: Pin<Box<dyn Future<Output = ()> + Send + '_>> = Box::pin(async move {
                // An error means that the stream was deleted; the next pass answers it.
                drop(receiver.changed().await);
            });
            wait
        })
        .collect();
    std::future::poll_fn(move |task| {
        if waits
            .iter_mut()
            .any(|wait| wait.as_mut().poll(task).is_ready())
        {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
