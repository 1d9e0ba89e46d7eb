//! What every channel must do (see [`crate::channel`]).

use std::sync::Arc;
use std::time::Duration;

use super::{numbers, to_numbers};
use crate::batch::Batch;
use crate::channel::{Channel, ChannelError, Lease, TakeLimit};
use crate::counters::Metric;
use crate::event::{Event, Headers};

const DEADLINE: Duration = Duration::from_secs(20);

/// What a channel promises, so that the suite knows what to ask.
#[derive(Debug, Clone, Copy)]
pub struct Promises {
    /// Events it can hold, when that is limited; make it 100 for the suite.
    pub capacity: Option<usize>,
    /// Events come out in the order in which they were put.
    pub ordered: bool,
    /// What was put is there again after stop and start.
    pub durable: bool,
    /// Several leases may be out at once.
    pub concurrent_leases: bool,
}

/// Runs every rule, each on a new channel from `make`, which must be empty and not started, with
/// a `keep-alive` of about a tenth of a second.
///
/// # Panics
/// With the rule that was broken.
pub async fn suite<F>(promises: Promises, mut make: F)
where
    F: AsyncFnMut() -> Arc<dyn Channel>,
{
    put_then_take(make().await, promises).await;
    rollback_returns_events_first(make().await, promises).await;
    dropped_lease_rolls_back(make().await).await;
    empty_take_returns_an_empty_lease(make().await).await;
    headers_and_bytes_survive(make().await, promises).await;
    counters_move(make().await).await;
    waiting_take_wakes(make().await).await;
    producers_and_consumers_lose_nothing(make().await, promises).await;
    if promises.concurrent_leases {
        leases_end_in_any_order(make().await, promises).await;
    }
    if let Some(capacity) = promises.capacity {
        full_channel_refuses_whole_batches(make().await, capacity).await;
    }
    if promises.durable {
        contents_survive_a_restart(make().await).await;
    }
}

async fn start(channel: &Arc<dyn Channel>) {
    channel.start().await.expect("an idle channel starts");
}

async fn take(channel: &Arc<dyn Channel>, events: usize) -> Lease {
    let taking = async {
        loop {
            let lease = channel
                .take(TakeLimit::events(events))
                .await
                .expect("take works");
            if !lease.is_empty() {
                return lease;
            }
        }
    };
    tokio::time::timeout(DEADLINE, taking)
        .await
        .expect("the channel has events")
}

async fn drain(channel: &Arc<dyn Channel>, count: usize) -> Vec<usize> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let lease = take(channel, 30).await;
        seen.extend(to_numbers(lease.batch()));
        lease.commit().await.expect("commit works");
    }
    seen
}

async fn put_then_take(channel: Arc<dyn Channel>, promises: Promises) {
    start(&channel).await;
    channel.put(numbers(0..10)).await.expect("put");
    channel.put(numbers(10..25)).await.expect("put");
    let lease = take(&channel, 7).await;
    assert!(lease.batch().len() <= 7, "a take respects its limit");
    let mut seen = to_numbers(lease.batch());
    lease.commit().await.expect("commit");
    seen.extend(drain(&channel, 25 - seen.len()).await);
    if !promises.ordered {
        seen.sort_unstable();
    }
    assert_eq!(
        seen,
        (0..25).collect::<Vec<_>>(),
        "all events once, in order"
    );
    channel.stop().await.expect("stop");
}

async fn rollback_returns_events_first(channel: Arc<dyn Channel>, promises: Promises) {
    start(&channel).await;
    channel.put(numbers(0..20)).await.expect("put");
    let lease = take(&channel, 8).await;
    let first = to_numbers(lease.batch());
    lease.rollback();
    let again = take(&channel, first.len()).await;
    if promises.ordered {
        assert_eq!(
            to_numbers(again.batch()),
            first,
            "rolled back events come again first"
        );
    }
    again.rollback();
    let mut seen = drain(&channel, 20).await;
    seen.sort_unstable();
    assert_eq!(
        seen,
        (0..20).collect::<Vec<_>>(),
        "rollbacks neither lose nor double"
    );
    channel.stop().await.expect("stop");
}

async fn dropped_lease_rolls_back(channel: Arc<dyn Channel>) {
    start(&channel).await;
    channel.put(numbers(0..3)).await.expect("put");
    drop(take(&channel, 10).await);
    let mut seen = drain(&channel, 3).await;
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2], "a dropped lease rolls back");
    channel.stop().await.expect("stop");
}

async fn empty_take_returns_an_empty_lease(channel: Arc<dyn Channel>) {
    start(&channel).await;
    let taken = tokio::time::timeout(DEADLINE, channel.take(TakeLimit::events(5))).await;
    let lease = taken
        .expect("an empty take ends after keep-alive")
        .expect("an empty take is no error");
    assert!(lease.is_empty());
    lease.commit().await.expect("an empty lease commits");
    channel
        .put(Batch::new())
        .await
        .expect("an empty put is no error");
    channel.stop().await.expect("stop");
}

async fn headers_and_bytes_survive(channel: Arc<dyn Channel>, promises: Promises) {
    start(&channel).await;
    let mut events = vec![
        Event {
            headers: [("a", "1"), ("host", "näme"), ("empty", "")]
                .into_iter()
                .collect::<Headers>(),
            body: vec![0, 10, 13, 255, 0].into(),
        },
        Event::new(""),
        Event::new(vec![b'x'; 100_000]),
    ];
    channel
        .put(Batch::from_events(events.clone()))
        .await
        .expect("put");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let lease = take(&channel, 10).await;
        seen.extend(lease.batch().to_events());
        lease.commit().await.expect("commit");
    }
    if !promises.ordered {
        events.sort_by(|one, other| one.body.cmp(&other.body));
        seen.sort_by(|one, other| one.body.cmp(&other.body));
    }
    for (seen, put) in seen.iter().zip(&events) {
        assert_eq!(seen.body, put.body, "bodies are bytes");
        let sorted = |headers: &Headers| {
            let mut pairs: Vec<_> = headers
                .iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect();
            pairs.sort();
            pairs
        };
        assert_eq!(
            sorted(&seen.headers),
            sorted(&put.headers),
            "headers survive"
        );
    }
    channel.stop().await.expect("stop");
}

async fn counters_move(channel: Arc<dyn Channel>) {
    start(&channel).await;
    channel.put(numbers(0..6)).await.expect("put");
    let lease = take(&channel, 4).await;
    let taken = lease.batch().len() as i64;
    lease.commit().await.expect("commit");
    channel.refresh();
    let counters = channel.counters();
    assert_eq!(
        counters.get(Metric::EventPutAttemptCount),
        6,
        "EventPutAttemptCount"
    );
    assert_eq!(
        counters.get(Metric::EventPutSuccessCount),
        6,
        "EventPutSuccessCount"
    );
    assert_eq!(
        counters.get(Metric::EventTakeSuccessCount),
        taken,
        "EventTakeSuccessCount"
    );
    assert!(
        counters.get(Metric::EventTakeAttemptCount) > 0,
        "EventTakeAttemptCount"
    );
    if counters.get(Metric::ChannelCapacity) > 0 {
        assert_eq!(counters.get(Metric::ChannelSize), 6 - taken, "ChannelSize");
    }
    channel.stop().await.expect("stop");
}

async fn waiting_take_wakes(channel: Arc<dyn Channel>) {
    start(&channel).await;
    let taker = tokio::spawn({
        let channel = Arc::clone(&channel);
        async move { to_numbers(take(&channel, 10).await.batch()) }
    });
    tokio::task::yield_now().await;
    channel.put(numbers(0..1)).await.expect("put");
    let seen = tokio::time::timeout(DEADLINE, taker)
        .await
        .expect("a waiting take wakes")
        .expect("no panic");
    assert_eq!(seen, [0]);
    channel.stop().await.expect("stop");
}

async fn producers_and_consumers_lose_nothing(channel: Arc<dyn Channel>, promises: Promises) {
    start(&channel).await;
    let mut producers = Vec::new();
    for producer in 0..3usize {
        let channel = Arc::clone(&channel);
        producers.push(tokio::spawn(async move {
            for batch in 0..20usize {
                let first = producer * 1000 + batch * 10;
                while let Err(error) = channel.put(numbers(first..first + 10)).await {
                    assert!(error.is_retriable(), "{error}");
                    tokio::task::yield_now().await;
                }
            }
        }));
    }
    let consumers = if promises.concurrent_leases { 2 } else { 1 };
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut takers = Vec::new();
    for _ in 0..consumers {
        let (channel, seen) = (Arc::clone(&channel), Arc::clone(&seen));
        takers.push(tokio::spawn(async move {
            let mut round = 0;
            loop {
                if seen.lock().expect("no panic").len() >= 600 {
                    return;
                }
                let lease = channel.take(TakeLimit::events(17)).await.expect("take");
                round += 1;
                if round % 5 == 0 {
                    lease.rollback();
                    continue;
                }
                let numbers = to_numbers(lease.batch());
                lease.commit().await.expect("commit");
                seen.lock().expect("no panic").extend(numbers);
            }
        }));
    }
    for task in producers.into_iter().chain(takers) {
        tokio::time::timeout(DEADLINE, task)
            .await
            .expect("no dead end")
            .expect("no panic");
    }
    let mut seen = seen.lock().expect("no panic").clone();
    seen.sort_unstable();
    let expected: Vec<usize> = (0..3)
        .flat_map(|producer| (0..200).map(move |n| producer * 1000 + n))
        .collect();
    assert_eq!(seen, expected, "concurrent use neither loses nor doubles");
    channel.stop().await.expect("stop");
}

async fn leases_end_in_any_order(channel: Arc<dyn Channel>, promises: Promises) {
    start(&channel).await;
    channel.put(numbers(0..30)).await.expect("put");
    let first = take(&channel, 10).await;
    let second = take(&channel, 10).await;
    let third = take(&channel, 10).await;
    let mut seen: Vec<usize> = to_numbers(second.batch());
    second.commit().await.expect("commit");
    let returned = to_numbers(first.batch());
    first.rollback();
    seen.extend(to_numbers(third.batch()));
    third.commit().await.expect("commit");
    let rest = drain(&channel, 30 - seen.len()).await;
    if promises.ordered {
        assert_eq!(
            rest[..returned.len()],
            returned[..],
            "the oldest events come first again"
        );
    }
    seen.extend(rest);
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
    channel.stop().await.expect("stop");
}

async fn full_channel_refuses_whole_batches(channel: Arc<dyn Channel>, capacity: usize) {
    start(&channel).await;
    let mut put = 0;
    while put + 10 <= capacity {
        channel
            .put(numbers(put..put + 10))
            .await
            .expect("there is room");
        put += 10;
    }
    let refused = tokio::time::timeout(DEADLINE, channel.put(numbers(put..put + 20)))
        .await
        .expect("a full channel answers after keep-alive");
    assert!(
        matches!(refused, Err(ChannelError::Full { .. })),
        "full is said so: {refused:?}"
    );
    let lease = take(&channel, 20).await;
    let taken = lease.batch().len();
    let waiting = tokio::spawn({
        let channel = Arc::clone(&channel);
        async move { channel.put(numbers(put..put + taken)).await }
    });
    let mut seen = to_numbers(lease.batch());
    lease.commit().await.expect("commit");
    let outcome = tokio::time::timeout(DEADLINE, waiting)
        .await
        .expect("no dead end")
        .expect("no panic");
    if outcome.is_ok() {
        put += taken;
    }
    seen.extend(drain(&channel, put - seen.len()).await);
    seen.sort_unstable();
    assert_eq!(
        seen,
        (0..put).collect::<Vec<_>>(),
        "a refused batch left nothing behind"
    );
    channel.stop().await.expect("stop");
}

async fn contents_survive_a_restart(channel: Arc<dyn Channel>) {
    start(&channel).await;
    channel.put(numbers(0..40)).await.expect("put");
    let lease = take(&channel, 10).await;
    let mut seen = to_numbers(lease.batch());
    lease.commit().await.expect("commit");
    let open = take(&channel, 5).await;
    drop(open);
    channel.stop().await.expect("stop");
    start(&channel).await;
    seen.extend(drain(&channel, 40 - seen.len()).await);
    seen.sort_unstable();
    assert_eq!(
        seen,
        (0..40).collect::<Vec<_>>(),
        "nothing is lost or doubled over a restart"
    );
    channel.stop().await.expect("stop");
}
