//! The kafka channel against librdkafka's mock cluster; real clusters are under `tests/real/`.

use std::sync::atomic::{AtomicU32, Ordering};

use flafka_flow::conformance::channel::{Promises, suite};
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::settings::{Report, Section, Settings};
use flafka_flow::{Event, Headers};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;

fn channel(bootstrap: &str, topic: &str, more: &[(&str, &str)]) -> Arc<dyn Channel> {
    let own = [
        ("kafka.bootstrap.servers", bootstrap),
        ("kafka.topic", topic),
        ("kafka.consumer.group.id", topic),
        ("kafka.pollTimeout", "100"),
    ];
    let section = Section::of(
        "a1.channels.c1",
        own.into_iter().chain(more.iter().copied()),
    );
    let mut report = Report::new();
    let config = KafkaChannelConfig::from_section(&section, &mut report);
    let config = config.unwrap_or_else(|| panic!("{report:?}"));
    KafkaChannelFactory::build(config, &build_context("c1")).expect("built")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_on_one_partition() {
    let cluster = MockCluster::new(1).expect("mock cluster");
    let bootstrap = cluster.bootstrap_servers();
    let topics = AtomicU32::new(0);
    let promises = Promises {
        capacity: None,
        ordered: true,
        durable: true,
        concurrent_leases: true,
    };
    suite(promises, async || {
        let topic = format!("channel-{}", topics.fetch_add(1, Ordering::Relaxed));
        cluster.create_topic(&topic, 1, 1).expect("topic");
        // The mock cluster lets a member that joins after another has left wait a session's time, less a second.
        channel(
            &bootstrap,
            &topic,
            &[("kafka.consumer.session.timeout.ms", "6000")],
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_header_that_is_no_number_fails_the_put() {
    let cluster = MockCluster::new(1).expect("mock cluster");
    cluster.create_topic("t", 3, 1).expect("topic");
    let channel = channel(
        &cluster.bootstrap_servers(),
        "t",
        &[("partitionIdHeader", "p"), ("defaultPartitionId", "1")],
    );
    channel.start().await.expect("start");
    let event = |partition: &str| Event {
        headers: Headers::single("p", partition),
        body: "x".into(),
    };
    let refused = channel.put(Batch::from_events([event("one")])).await;
    assert!(refused.is_err_and(|error| !error.is_retriable() && error.chain().contains("\"one\"")));
    channel
        .put(Batch::from_events([event("2"), Event::new("y")]))
        .await
        .expect("put");
    let mut origins = Vec::new();
    while origins.len() < 2 {
        let lease = channel.take(TakeLimit::events(10)).await.expect("take");
        origins.extend(lease.origin().iter().map(|run| run.partition));
        lease.commit().await.expect("commit");
    }
    origins.sort_unstable();
    assert_eq!(origins, [1, 2]);
    channel.stop().await.expect("stop");
}

/// Another process with the same `group.instance.id` took the member's place: librdkafka's client is of no use any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_gave_up_is_a_fault_until_the_channel_is_opened_again() {
    let cluster = MockCluster::new(1).expect("mock cluster");
    cluster.create_topic("t", 1, 1).expect("topic");
    let more = [
        ("kafka.consumer.group.instance.id", "one"),
        ("kafka.consumer.session.timeout.ms", "6000"),
        ("kafka.consumer.heartbeat.interval.ms", "100"),
    ];
    let channel = channel(&cluster.bootstrap_servers(), "t", &more);
    channel.start().await.expect("start");
    let three = ["a", "b", "c"].map(Event::new);
    channel.put(Batch::from_events(three)).await.expect("put");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut leases = Vec::new();
    while leases
        .iter()
        .map(|lease: &Lease| lease.batch().len())
        .sum::<usize>()
        < 3
    {
        assert!(Instant::now() < deadline, "nothing is read");
        leases.push(channel.take(TakeLimit::events(2)).await.expect("take"));
    }
    let fenced = RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
    cluster.request_errors(RDKafkaApiKey::Heartbeat, &[fenced]);
    while channel.fault().is_none() {
        assert!(Instant::now() < deadline, "the fault is never shown");
        drop(channel.take(TakeLimit::events(1)).await);
    }
    let fault = channel.fault().unwrap_or_default();
    assert!(fault.contains("FencedInstanceId"), "{fault}");
    let refused = channel.take(TakeLimit::events(1)).await.map(drop);
    assert!(refused.is_err_and(|error| error.is_retriable() && error.chain().contains("gave up")));
    channel.stop().await.expect("stop");
    channel.start().await.expect("start");
    assert_eq!(channel.fault(), None);
    // Leases from before give nothing back and commit nothing: the new consumer reads their events itself, once.
    leases.remove(0).commit().await.expect("delivered");
    leases.into_iter().for_each(Lease::rollback);
    let mut bodies = Vec::new();
    while bodies.len() < 3 {
        assert!(Instant::now() < deadline, "{bodies:?}");
        let lease = channel.take(TakeLimit::events(9)).await.expect("take");
        bodies.extend(lease.batch().iter().map(|event| event.body.to_vec()));
        lease.commit().await.expect("commit");
    }
    assert_eq!(bodies, [b"a", b"b", b"c"]);
    channel.stop().await.expect("stop");
}

/// A commit that is overtaken by a later one would take the group back behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leases_that_end_at_once_leave_the_group_behind_the_last_of_them() {
    const ROUNDS: i64 = 30;
    const LEASES: i64 = 8;
    let cluster = MockCluster::new(1).expect("mock cluster");
    cluster.create_topic("t", 1, 1).expect("topic");
    let channel = channel(&cluster.bootstrap_servers(), "t", &[]);
    channel.start().await.expect("start");
    let observer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "t")
        .create()
        .expect("a client");
    for round in 1..=ROUNDS {
        let events = (0..LEASES).map(|_| Event::new("x"));
        channel.put(Batch::from_events(events)).await.expect("put");
        let mut leases = Vec::new();
        while (leases.len() as i64) < LEASES {
            let lease = channel.take(TakeLimit::events(1)).await.expect("take");
            leases.extend((!lease.is_empty()).then_some(lease));
        }
        let commits = leases.into_iter().map(|lease| tokio::spawn(lease.commit()));
        for commit in commits.collect::<Vec<_>>() {
            commit.await.expect("no panic").expect("commit");
        }
        let mut asked = TopicPartitionList::new();
        asked.add_partition("t", 0);
        let limit = Duration::from_secs(30);
        let found = observer.committed_offsets(asked, limit).expect("offsets");
        let offset = found.elements()[0].offset();
        assert_eq!(offset, Offset::Offset(round * LEASES), "round {round}");
    }
    channel.stop().await.expect("stop");
}
