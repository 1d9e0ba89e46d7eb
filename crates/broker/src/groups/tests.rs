//! The coordinator from outside: waiting requests, timers, offsets, restarts, a log that fails. Tokio's clock is paused,
//! so waits of minutes pass at once and in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flafka_log_store::{Clock, CommitError, ManualClock, Op, Table};
use kafka_protocol::protocol::StrBytes;
use tokio_util::sync::CancellationToken;

use super::join::{JoinAnswer, Joined};
use super::store::CommitFuture;
use super::*;

/// A table in memory that can refuse.
#[derive(Default)]
struct Memory {
    entries: Mutex<BTreeMap<(u8, Bytes), Bytes>>,
    refuses: AtomicBool,
}

impl OffsetTable for Memory {
    fn commit(&self, changes: Vec<Op>) -> CommitFuture<'_> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.refuses.load(Ordering::Relaxed) {
                return Err(CommitError::Closed);
            }
            let mut entries = self.entries.lock().unwrap();
            for change in changes {
                match change {
                    Op::Put { table, key, value } => {
                        drop(entries.insert((table as u8, key), value))
                    }
                    Op::Delete { table, key } => drop(entries.remove(&(table as u8, key))),
                    other => panic!("unexpected {other:?}"),
                }
            }
            Ok(())
        })
    }

    fn get(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        let entries = self.entries.lock().unwrap();
        entries
            .get(&(table as u8, Bytes::copy_from_slice(key)))
            .cloned()
    }

    fn scan(&self, table: Table, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let entries = self.entries.lock().unwrap();
        entries
            .iter()
            .filter(|((kind, key), _)| *kind == table as u8 && key.starts_with(prefix))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// A running coordinator; its task ends with it.
struct Setup {
    table: Arc<Memory>,
    clock: Arc<ManualClock>,
    groups: Arc<GroupCoordinator>,
    stop: CancellationToken,
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start_with(config: GroupConfig, table: Arc<Memory>, clock: Arc<ManualClock>) -> Setup {
    let shared: Arc<dyn Clock> = clock.clone();
    let groups = Arc::new(GroupCoordinator::load(config, table.clone(), shared));
    let stop = CancellationToken::new();
    let (runner, token) = (Arc::clone(&groups), stop.clone());
    tokio::spawn(async move { runner.run(token).await });
    Setup {
        table,
        clock,
        groups,
        stop,
    }
}

fn start() -> Setup {
    start_with(
        GroupConfig::default(),
        Arc::default(),
        Arc::new(ManualClock::new(1_700_000_000_000)),
    )
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// The subscription of a consumer of one topic.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&[0xff; 4]);
    Bytes::from(bytes)
}

fn request(member_id: &StrBytes, new_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.clone(),
        new_member_id: text(new_id),
        instance_id: None,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        session_timeout: 10_000,
        rebalance_timeout: 60_000,
        protocol_type: text("consumer"),
        protocols: vec![Protocol {
            name: text("range"),
            metadata: subscription("t"),
        }],
        requires_member_id: true,
        can_skip_assignment: true,
    }
}

/// Joins as clients do: asks for an id first.
async fn join(groups: &GroupCoordinator, name: &str) -> JoinAnswer {
    let first = groups
        .join(&text("g"), request(&text(""), name))
        .await
        .unwrap_err();
    assert_eq!(
        (first.error, first.member_id.as_str()),
        (GroupError::MemberIdRequired, name)
    );
    groups.join(&text("g"), request(&text(name), "")).await
}

async fn sync(
    groups: &GroupCoordinator,
    joined: &Joined,
    assignments: &[(&str, &'static [u8])],
) -> Result<Bytes, GroupError> {
    let request = SyncRequest {
        member_id: joined.member_id.clone(),
        instance_id: None,
        generation: joined.generation,
        protocol_type: Some(text("consumer")),
        protocol: Some(text("range")),
        assignments: assignments
            .iter()
            .map(|(id, bytes)| (text(id), Bytes::from_static(bytes)))
            .collect(),
    };
    groups
        .sync(&text("g"), request)
        .await
        .map(|synced| synced.assignment)
}

/// One member in a stable group.
async fn stable(setup: &Setup, name: &str) -> Joined {
    let joined = join(&setup.groups, name).await.unwrap();
    assert_eq!(
        sync(&setup.groups, &joined, &[(name, b"all")])
            .await
            .unwrap(),
        "all"
    );
    joined
}

fn who(member_id: &str, generation: i32) -> OffsetCommit {
    OffsetCommit {
        group_id: text("g"),
        member_id: text(member_id),
        instance_id: None,
        generation,
    }
}

async fn commit(
    setup: &Setup,
    who: &OffsetCommit,
    topic: &str,
    offset: i64,
) -> Result<(), GroupError> {
    let kept = setup.groups.stamp(offset, 7, Some(&text("note")));
    setup
        .groups
        .commit_offsets(who, vec![(text(topic), 0, kept)])
        .await
}

fn fetched(setup: &Setup, topic: &str) -> Option<i64> {
    setup
        .groups
        .fetch_offset(&text("g"), topic, 0)
        .map(|committed| committed.offset)
}

fn state(setup: &Setup) -> Option<GroupState> {
    setup
        .groups
        .describe(&text("g"))
        .ok()
        .map(|summary| summary.state)
}

/// Moves both clocks, as time does.
async fn pass(setup: &Setup, time: Duration) {
    setup.clock.advance(time);
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn two_members_share_a_generation_and_its_assignment() {
    let setup = start();
    let first = stable(&setup, "a").await;
    assert_eq!(
        (first.generation, first.leader.as_str(), first.members.len()),
        (1, "a", 1)
    );

    let groups = Arc::clone(&setup.groups);
    let second = tokio::spawn(async move { join(&groups, "b").await });
    pass(&setup, Duration::from_millis(100)).await;
    let beat = setup.groups.heartbeat(&text("g"), &text("a"), None, 1);
    assert_eq!(beat, Err(GroupError::RebalanceInProgress));
    let first = setup
        .groups
        .join(&text("g"), request(&text("a"), ""))
        .await
        .unwrap();
    let second = second.await.unwrap().unwrap();
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!(
        (first.members.len(), second.members.len()),
        (2, 0),
        "only the leader gets the members"
    );

    let groups = Arc::clone(&setup.groups);
    let follower = tokio::spawn(async move { sync(&groups, &second, &[]).await });
    pass(&setup, Duration::from_millis(100)).await;
    assert!(!follower.is_finished(), "waits for the leader");
    let own = sync(&setup.groups, &first, &[("a", b"one"), ("b", b"two")]).await;
    assert_eq!(own.unwrap(), "one");
    assert_eq!(follower.await.unwrap().unwrap(), "two");

    let summary = setup.groups.describe(&text("g")).unwrap();
    assert_eq!(
        (summary.state, summary.protocol.as_str()),
        (GroupState::Stable, "range")
    );
    assert_eq!(summary.members[1].assignment, "two");
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_out_after_its_session_and_the_rest_goes_on() {
    let setup = start();
    let first = stable(&setup, "a").await;
    for _ in 0..3 {
        pass(&setup, Duration::from_secs(9)).await;
        assert_eq!(
            setup
                .groups
                .heartbeat(&text("g"), &text("a"), None, first.generation),
            Ok(())
        );
    }
    assert_eq!(state(&setup), Some(GroupState::Stable));
    pass(&setup, Duration::from_secs(11)).await;
    assert_eq!(
        state(&setup),
        None,
        "without members and offsets nothing is left"
    );
    let beat = setup
        .groups
        .heartbeat(&text("g"), &text("a"), None, first.generation);
    assert_eq!(beat, Err(GroupError::UnknownMember));
}

#[tokio::test(start_paused = true)]
async fn the_leader_that_rejoins_starts_a_rebalance_a_follower_does_not() {
    let setup = start();
    let leader = stable(&setup, "a").await;
    let again = setup
        .groups
        .join(&text("g"), request(&leader.member_id, ""))
        .await
        .unwrap();
    assert_eq!(again.generation, 2);
    assert_eq!(
        sync(&setup.groups, &again, &[("a", b"x")]).await.unwrap(),
        "x"
    );

    let groups = Arc::clone(&setup.groups);
    let second = tokio::spawn(async move { join(&groups, "b").await });
    pass(&setup, Duration::from_millis(10)).await;
    let leader = setup
        .groups
        .join(&text("g"), request(&text("a"), ""))
        .await
        .unwrap();
    let follower = second.await.unwrap().unwrap();
    assert!(
        sync(&setup.groups, &leader, &[("a", b"x"), ("b", b"y")])
            .await
            .is_ok()
    );
    assert_eq!(sync(&setup.groups, &follower, &[]).await.unwrap(), "y");
    let same = setup
        .groups
        .join(&text("g"), request(&text("b"), ""))
        .await
        .unwrap();
    assert_eq!(
        (same.generation, state(&setup)),
        (3, Some(GroupState::Stable))
    );
    let mut other = request(&text("b"), "");
    other.protocols[0].metadata = subscription("u");
    let groups = Arc::clone(&setup.groups);
    let changed = tokio::spawn(async move { groups.join(&text("g"), other).await });
    pass(&setup, Duration::from_millis(10)).await;
    assert_eq!(state(&setup), Some(GroupState::PreparingRebalance));
    changed.abort();
}

#[tokio::test(start_paused = true)]
async fn members_that_never_sync_are_out_at_the_deadline() {
    let setup = start();
    let joined = join(&setup.groups, "a").await.unwrap();
    for _ in 0..8 {
        pass(&setup, Duration::from_secs(7)).await;
        assert_eq!(
            setup
                .groups
                .heartbeat(&text("g"), &text("a"), None, joined.generation),
            Ok(())
        );
    }
    pass(&setup, Duration::from_secs(5)).await;
    assert_eq!(
        state(&setup),
        None,
        "heartbeats alone do not keep a member that never syncs"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_join_does_not_hold_the_group_up() {
    let setup = start();
    stable(&setup, "a").await;
    let groups = Arc::clone(&setup.groups);
    let dropped = tokio::spawn(async move { join(&groups, "b").await });
    pass(&setup, Duration::from_millis(10)).await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    let groups = Arc::clone(&setup.groups);
    let rejoin =
        tokio::spawn(async move { groups.join(&text("g"), request(&text("a"), "")).await });
    pass(&setup, Duration::from_secs(11)).await;
    let rejoined = rejoin.await.unwrap().unwrap();
    assert_eq!(
        rejoined.members.len(),
        1,
        "the lost member is out when its session ends"
    );
}

#[tokio::test(start_paused = true)]
async fn a_static_member_restarts_without_a_rebalance_and_its_former_self_is_fenced() {
    let setup = start();
    let instance = Some(text("i"));
    let mut first = request(&text(""), "old");
    first.instance_id = instance.clone();
    let mut second = request(&text(""), "new");
    second.instance_id = instance.clone();
    let joined = setup.groups.join(&text("g"), first).await.unwrap();
    assert_eq!(
        sync(&setup.groups, &joined, &[("old", b"mine")])
            .await
            .unwrap(),
        "mine"
    );

    let back = setup.groups.join(&text("g"), second).await.unwrap();
    assert_eq!(
        (back.generation, back.leader.as_str(), back.skip_assignment),
        (1, "new", true)
    );
    assert_eq!(sync(&setup.groups, &back, &[]).await.unwrap(), "mine");
    let beat = setup
        .groups
        .heartbeat(&text("g"), &text("old"), instance.as_ref(), 1);
    assert_eq!(beat, Err(GroupError::FencedInstance));
    let mut stale = who("old", 1);
    stale.instance_id = instance.clone();
    assert_eq!(
        commit(&setup, &stale, "t", 1).await,
        Err(GroupError::FencedInstance)
    );

    let by_instance = Leaving {
        member_id: text(""),
        instance_id: instance,
    };
    let outcomes = setup
        .groups
        .leave(&text("g"), &[by_instance.clone(), by_instance])
        .unwrap();
    assert_eq!(outcomes, [Ok(()), Err(GroupError::UnknownMember)]);
}

#[tokio::test(start_paused = true)]
async fn joins_that_cannot_work_are_refused() {
    let setup = start();
    let refused = async |group: &str, change: fn(&mut JoinRequest)| {
        let mut request = request(&text(""), "x");
        change(&mut request);
        setup
            .groups
            .join(&text(group), request)
            .await
            .unwrap_err()
            .error
    };
    assert_eq!(refused("", |_| ()).await, GroupError::InvalidGroupId);
    assert_eq!(
        refused("g", |join| join.session_timeout = 5_999).await,
        GroupError::InvalidSessionTimeout
    );
    assert_eq!(
        refused("g", |join| join.session_timeout = 1_800_001).await,
        GroupError::InvalidSessionTimeout
    );
    assert_eq!(
        refused("g", |join| join.protocols.clear()).await,
        GroupError::InconsistentProtocol
    );
    assert_eq!(
        refused("g", |join| join.member_id = text("who")).await,
        GroupError::UnknownMember
    );
    assert!(
        setup.groups.list().is_empty(),
        "refused joins leave no groups behind"
    );
    stable(&setup, "a").await;
    assert_eq!(
        refused("g", |join| join.protocol_type = text("connect")).await,
        GroupError::InconsistentProtocol
    );
    assert_eq!(
        refused("g", |join| join.protocols[0].name = text("sticky")).await,
        GroupError::InconsistentProtocol
    );
}

#[tokio::test(start_paused = true)]
async fn sizes_are_bounded() {
    let config = GroupConfig {
        max_group_size: 1,
        max_groups: 1,
        ..GroupConfig::default()
    };
    let setup = start_with(config, Arc::default(), Arc::new(ManualClock::new(0)));
    stable(&setup, "a").await;
    let second = setup.groups.join(&text("g"), request(&text(""), "b")).await;
    assert_eq!(second.unwrap_err().error, GroupError::GroupFull);
    let other = setup.groups.join(&text("h"), request(&text(""), "b")).await;
    assert_eq!(other.unwrap_err().error, GroupError::GroupFull);

    let config = GroupConfig {
        max_group_bytes: 100,
        ..GroupConfig::default()
    };
    let setup = start_with(config, Arc::default(), Arc::new(ManualClock::new(0)));
    let mut large = request(&text(""), "a");
    large.protocols[0].metadata = Bytes::from(vec![0; 200]);
    let answer = setup.groups.join(&text("g"), large).await;
    assert_eq!(answer.unwrap_err().error, GroupError::GroupFull);
}

#[tokio::test(start_paused = true)]
async fn an_initial_delay_gathers_the_members_of_a_new_group() {
    let config = GroupConfig {
        initial_rebalance_delay: Duration::from_secs(3),
        ..GroupConfig::default()
    };
    let setup = start_with(config, Arc::default(), Arc::new(ManualClock::new(0)));
    let joins = ["a", "b", "c"].map(|name| {
        let groups = Arc::clone(&setup.groups);
        tokio::spawn(async move { join(&groups, name).await.unwrap() })
    });
    for joined in joins {
        assert_eq!(joined.await.unwrap().generation, 1);
    }
    assert_eq!(setup.groups.describe(&text("g")).unwrap().members.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_by_the_running_generation_only() {
    let setup = start();
    let joined = stable(&setup, "a").await;
    assert_eq!(
        commit(&setup, &who("a", joined.generation), "t", 5).await,
        Ok(())
    );
    let kept = setup.groups.fetch_offset(&text("g"), "t", 0).unwrap();
    assert_eq!(
        (kept.offset, kept.leader_epoch, kept.metadata.as_str()),
        (5, 7, "note")
    );
    assert_eq!(
        commit(&setup, &who("a", 0), "t", 6).await,
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(
        commit(&setup, &who("b", 1), "t", 6).await,
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        commit(&setup, &who("", -1), "t", 6).await,
        Err(GroupError::UnknownMember)
    );
    let again = setup
        .groups
        .join(&text("g"), request(&text("a"), ""))
        .await
        .unwrap();
    let early = commit(&setup, &who("a", again.generation), "t", 6).await;
    assert_eq!(early, Err(GroupError::RebalanceInProgress));
    assert_eq!(fetched(&setup, "t"), Some(5));
}

#[tokio::test(start_paused = true)]
async fn groups_that_only_store_offsets_need_no_members() {
    let setup = start();
    assert_eq!(
        commit(&setup, &who("", 3), "t", 1).await,
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(commit(&setup, &who("", -1), "t", 1).await, Ok(()));
    assert_eq!(state(&setup), Some(GroupState::Empty));
    let all = setup.groups.fetch_all_offsets(&text("g"));
    assert_eq!(all[&text("t")][&0].offset, 1);
    assert_eq!(fetched(&setup, "unknown"), None);
    assert!(
        setup
            .groups
            .fetch_all_offsets(&text("no such group"))
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_that_the_log_refused() {
    let setup = start();
    assert_eq!(commit(&setup, &who("", -1), "t", 1).await, Ok(()));
    setup.table.refuses.store(true, Ordering::Relaxed);
    assert_eq!(
        commit(&setup, &who("", -1), "t", 2).await,
        Err(GroupError::NotStored)
    );
    assert_eq!(
        setup.groups.delete_group(&text("g")).await,
        Err(GroupError::NotStored)
    );
    assert_eq!(
        (fetched(&setup, "t"), state(&setup)),
        (Some(1), Some(GroupState::Empty))
    );
    setup.table.refuses.store(false, Ordering::Relaxed);
    assert_eq!(commit(&setup, &who("", -1), "t", 3).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn offsets_and_groups_survive_a_restart() {
    let setup = start();
    let joined = stable(&setup, "a").await;
    assert_eq!(
        commit(&setup, &who("a", joined.generation), "t", 5).await,
        Ok(())
    );
    let next = start_with(
        GroupConfig::default(),
        setup.table.clone(),
        setup.clock.clone(),
    );
    assert_eq!(
        (fetched(&next, "t"), state(&next)),
        (Some(5), Some(GroupState::Empty))
    );
    assert_eq!(next.groups.list()[0].protocol_type.as_str(), "consumer");
    let beat = next
        .groups
        .heartbeat(&text("g"), &text("a"), None, joined.generation);
    assert_eq!(beat, Err(GroupError::UnknownMember), "members join again");
    let stale = commit(&next, &who("a", joined.generation), "t", 9).await;
    assert_eq!(stale, Err(GroupError::UnknownMember));
    assert_eq!(stable(&next, "b").await.generation, joined.generation + 1);
}

#[tokio::test(start_paused = true)]
async fn offsets_expire_a_week_after_the_last_member_left() {
    let setup = start();
    let day = Duration::from_secs(86_400);
    let joined = stable(&setup, "a").await;
    assert_eq!(
        commit(&setup, &who("a", joined.generation), "t", 5).await,
        Ok(())
    );
    assert_eq!(
        commit(&setup, &who("a", joined.generation), "u", 5).await,
        Ok(())
    );
    setup.clock.advance(8 * day);
    for _ in 0..70 {
        pass(&setup, Duration::from_secs(9)).await;
        assert_eq!(
            setup.groups.heartbeat(&text("g"), &text("a"), None, 1),
            Ok(())
        );
    }
    assert_eq!(fetched(&setup, "u"), None, "not read by anybody for a week");
    assert_eq!(fetched(&setup, "t"), Some(5), "read by a member");
    // The member falls silent; six days later a restart must not begin the week anew.
    pass(&setup, Duration::from_secs(20)).await;
    pass(&setup, 6 * day).await;
    let next = start_with(
        GroupConfig::default(),
        setup.table.clone(),
        setup.clock.clone(),
    );
    pass(&next, Duration::from_secs(700)).await;
    assert_eq!(fetched(&next, "t"), Some(5));
    pass(&next, day).await;
    assert_eq!((fetched(&next, "t"), state(&next)), (None, None));
    assert!(setup.table.entries.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn groups_and_offsets_are_deleted_when_nobody_uses_them() {
    let setup = start();
    assert_eq!(
        setup.groups.delete_group(&text("g")).await,
        Err(GroupError::GroupIdNotFound)
    );
    let joined = stable(&setup, "a").await;
    for topic in ["t", "u"] {
        assert_eq!(
            commit(&setup, &who("a", joined.generation), topic, 5).await,
            Ok(())
        );
    }
    assert_eq!(
        setup.groups.delete_group(&text("g")).await,
        Err(GroupError::NonEmptyGroup)
    );
    let outcomes = setup
        .groups
        .delete_offsets(&text("g"), &[(text("t"), 0), (text("u"), 0)])
        .await;
    assert_eq!(
        outcomes,
        Ok(vec![Err(GroupError::SubscribedToTopic), Ok(())])
    );
    assert_eq!(
        (fetched(&setup, "t"), fetched(&setup, "u")),
        (Some(5), None)
    );

    let leaving = Leaving {
        member_id: text("a"),
        instance_id: None,
    };
    assert_eq!(setup.groups.leave(&text("g"), &[leaving]), Ok(vec![Ok(())]));
    assert_eq!(setup.groups.delete_group(&text("g")).await, Ok(()));
    assert_eq!(fetched(&setup, "t"), None);
    // The record of the emptied group may still be on its way; it must not bring the group back.
    pass(&setup, Duration::from_secs(60)).await;
    assert!(setup.groups.list().is_empty());
    assert!(setup.table.entries.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_deleted_topic_go_with_it() {
    let setup = start();
    for topic in ["t", "u"] {
        assert_eq!(commit(&setup, &who("", -1), topic, 5).await, Ok(()));
    }
    let ops = setup.groups.forget_topic("t");
    assert_eq!(ops.len(), 1);
    setup.table.commit(ops).await.unwrap();
    assert_eq!(
        (fetched(&setup, "t"), fetched(&setup, "u")),
        (None, Some(5))
    );
}
