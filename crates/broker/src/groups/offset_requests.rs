//! OffsetCommit, OffsetFetch, OffsetDelete, DeleteGroups and the expiry of offsets.
//!
//! The log's table is the only copy of the offsets. A commit is checked against the group under the lock, then written
//! outside it; the answer waits for the log. Commits of one client keep their order because a connection hands over one
//! request after the other and the log's queue is fair.

use std::collections::{BTreeMap, BTreeSet};

use flafka_log_store::{Op, Table};
use kafka_protocol::protocol::StrBytes;

use super::coordinator::{GroupCoordinator, check_offsets_id};
use super::error::GroupError;
use super::group::GroupState;
use super::offsets::{
    CommittedOffset, detach, group_key, offset_key, offsets_prefix, parse_offset_key,
};
use super::slots::{Slot, put_record};
use super::subscription;

/// Who commits.
#[derive(Debug, Clone)]
pub(crate) struct OffsetCommit {
    pub(crate) group_id: StrBytes,
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    /// -1 for those who are no members.
    pub(crate) generation: i32,
}

/// Offsets of one group, by topic and partition.
pub(crate) type GroupOffsets = BTreeMap<StrBytes, BTreeMap<i32, CommittedOffset>>;

impl GroupCoordinator {
    /// Whether `metadata` is short enough to be kept with an offset.
    pub(crate) fn check_metadata(&self, metadata: Option<&StrBytes>) -> Result<(), GroupError> {
        if metadata.map_or(0, |text| text.len()) > self.config.offset_metadata_max_bytes {
            return Err(GroupError::OffsetMetadataTooLarge);
        }
        Ok(())
    }

    /// An offset as it is kept, committed now.
    pub(crate) fn stamp(
        &self,
        offset: i64,
        leader_epoch: i32,
        metadata: Option<&StrBytes>,
    ) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch,
            committed_at_ms: self.clock.now_ms(),
            metadata: metadata.map(detach).unwrap_or_default(),
        }
    }

    /// OffsetCommit of partitions that exist; durable when this returns `Ok`.
    ///
    /// # Errors
    /// For all partitions alike: the group refuses the member, or the log the write.
    pub(crate) async fn commit_offsets(
        &self,
        who: &OffsetCommit,
        offsets: Vec<(StrBytes, i32, CommittedOffset)>,
    ) -> Result<(), GroupError> {
        check_offsets_id(&who.group_id)?;
        let mut ops = Vec::with_capacity(offsets.len() + 1);
        {
            let now = self.now();
            let mut groups = self.lock();
            if !groups.slots.contains_key(&who.group_id) {
                if who.generation >= 0 {
                    return Err(GroupError::IllegalGeneration);
                }
                if offsets.is_empty() {
                    return Ok(());
                }
            }
            let slot = self.ensure_slot(&mut groups, &who.group_id)?;
            let (member_id, instance_id) = (&who.member_id, who.instance_id.as_ref());
            slot.group
                .check_commit(now, member_id, instance_id, who.generation)?;
            if offsets.is_empty() {
                return Ok(());
            }
            if !slot.has_offsets {
                slot.has_offsets = true;
                ops.push(put_record(&who.group_id, slot));
            }
        }
        ops.extend(offsets.iter().map(|(topic, partition, offset)| Op::Put {
            table: Table::GroupOffsets,
            key: offset_key(&who.group_id, topic, *partition),
            value: offset.encode(),
        }));
        if let Err(error) = self.table.commit(ops).await {
            tracing::warn!(group = %who.group_id, %error, "offsets were not committed");
            self.lock().dirty.insert(who.group_id.clone());
            return Err(GroupError::NotStored);
        }
        // The group may have been deleted meanwhile; its new offsets must not be left without it.
        let mut groups = self.lock();
        self.ensure_slot(&mut groups, &who.group_id)?.has_offsets = true;
        Ok(())
    }

    /// The committed offset of one partition (OffsetFetch). `None` if there is none.
    pub(crate) fn fetch_offset(
        &self,
        group_id: &StrBytes,
        topic: &str,
        partition: i32,
    ) -> Option<CommittedOffset> {
        let key = offset_key(group_id, topic, partition);
        self.table
            .get(Table::GroupOffsets, &key)
            .and_then(|value| CommittedOffset::decode(&value))
    }

    /// All committed offsets of a group (OffsetFetch of all topics).
    pub(crate) fn fetch_all_offsets(&self, group_id: &StrBytes) -> GroupOffsets {
        let mut offsets = GroupOffsets::new();
        for (key, value) in self
            .table
            .scan(Table::GroupOffsets, &offsets_prefix(group_id))
        {
            if let Some((_, topic, partition)) = parse_offset_key(&key)
                && let Some(offset) = CommittedOffset::decode(&value)
            {
                offsets.entry(topic).or_default().insert(partition, offset);
            }
        }
        offsets
    }

    /// DeleteGroups: the group, which must be without members, and its offsets.
    pub(crate) async fn delete_group(&self, group_id: &StrBytes) -> Result<(), GroupError> {
        check_offsets_id(group_id)?;
        let _in_order = self.records.lock().await;
        {
            let mut groups = self.lock();
            let slot = groups
                .slots
                .get_mut(group_id)
                .ok_or(GroupError::GroupIdNotFound)?;
            slot.group.begin_delete()?;
        }
        // Until this is durable the group is dead: nobody can join or commit in between.
        let mut ops = vec![Op::Delete {
            table: Table::Groups,
            key: group_key(group_id),
        }];
        ops.extend(
            self.table
                .scan(Table::GroupOffsets, &offsets_prefix(group_id))
                .into_iter()
                .map(|(key, _)| Op::Delete {
                    table: Table::GroupOffsets,
                    key,
                }),
        );
        let revive = Revive {
            coordinator: self,
            group_id,
        };
        self.table.commit(ops).await.map_err(|error| {
            tracing::warn!(group = %group_id, %error, "group was not deleted");
            GroupError::NotStored
        })?;
        std::mem::forget(revive);
        let mut groups = self.lock();
        if let Some(slot) = groups.slots.get_mut(group_id) {
            slot.group.cancel_delete();
            slot.has_offsets = false;
        }
        self.step(&mut groups, group_id, |_, _, _| ());
        Ok(())
    }

    /// OffsetDelete: forgets the offsets of some partitions; one outcome for each.
    ///
    /// # Errors
    /// For the whole request: the group does not exist, has members of an unknown kind, or the log refused.
    pub(crate) async fn delete_offsets(
        &self,
        group_id: &StrBytes,
        partitions: &[(StrBytes, i32)],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        check_offsets_id(group_id)?;
        let read_topics = {
            let groups = self.lock();
            let slot = groups
                .slots
                .get(group_id)
                .ok_or(GroupError::GroupIdNotFound)?;
            match slot.group.state() {
                GroupState::Dead => return Err(GroupError::GroupIdNotFound),
                GroupState::Empty => BTreeSet::new(),
                _ => subscribed_topics(slot).ok_or(GroupError::NonEmptyGroup)?,
            }
        };
        let outcome = |(topic, _): &(StrBytes, i32)| {
            if read_topics.contains(topic.as_str()) {
                Err(GroupError::SubscribedToTopic)
            } else {
                Ok(())
            }
        };
        let outcomes: Vec<_> = partitions.iter().map(outcome).collect();
        let ops: Vec<Op> = partitions
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|((topic, partition), _)| Op::Delete {
                table: Table::GroupOffsets,
                key: offset_key(group_id, topic, *partition),
            })
            .collect();
        if !ops.is_empty() {
            self.table.commit(ops).await.map_err(|error| {
                tracing::warn!(group = %group_id, %error, "offsets were not deleted");
                GroupError::NotStored
            })?;
        }
        Ok(outcomes)
    }

    /// Forgets offsets of a topic that is deleted, in every group: the operations for the topic's own commit group.
    pub fn forget_topic(&self, topic: &str) -> Vec<Op> {
        let all = self.table.scan(Table::GroupOffsets, &[]);
        let of_topic = all.into_iter().filter(|(key, _)| {
            parse_offset_key(key).is_some_and(|(_, name, _)| name.as_str() == topic)
        });
        of_topic
            .map(|(key, _)| Op::Delete {
                table: Table::GroupOffsets,
                key,
            })
            .collect()
    }

    /// Forgets offsets whose time is over, and groups of which nothing is left.
    pub(super) async fn expire_offsets(&self) {
        let candidates: Vec<StrBytes> = {
            let groups = self.lock();
            let kept = groups.slots.iter().filter(|(_, slot)| slot.has_offsets);
            kept.map(|(group_id, _)| group_id.clone()).collect()
        };
        for group_id in candidates {
            self.expire_group(&group_id).await;
        }
    }

    async fn expire_group(&self, group_id: &StrBytes) {
        let _in_order = self.records.lock().await;
        let (ops, left) = {
            let groups = self.lock();
            let Some(slot) = groups.slots.get(group_id) else {
                return;
            };
            let Some(rule) = Expiry::of(slot) else { return };
            let end_ms = self.clock.now_ms().saturating_sub(
                i64::try_from(self.config.offsets_retention.as_millis()).unwrap_or(i64::MAX),
            );
            let stored = self
                .table
                .scan(Table::GroupOffsets, &offsets_prefix(group_id));
            let total = stored.len();
            let expired: Vec<Op> = stored
                .into_iter()
                .filter(|(key, value)| rule.applies(key, value, end_ms))
                .map(|(key, _)| Op::Delete {
                    table: Table::GroupOffsets,
                    key,
                })
                .collect();
            let left = total - expired.len();
            (expired, left)
        };
        self.remove_expired(group_id, ops, left).await;
    }

    async fn remove_expired(&self, group_id: &StrBytes, mut ops: Vec<Op>, left: usize) {
        let count = ops.len();
        if left == 0 {
            ops.push(Op::Delete {
                table: Table::Groups,
                key: group_key(group_id),
            });
        }
        if ops.is_empty() {
            return;
        }
        if let Err(error) = self.table.commit(ops).await {
            tracing::warn!(group = %group_id, %error, "expired offsets were not removed, trying again later");
            return;
        }
        if count > 0 {
            tracing::info!(group = %group_id, count, "removed expired offsets");
        }
        let mut groups = self.lock();
        // A commit may have come in between; only the table knows.
        let none = self
            .table
            .scan(Table::GroupOffsets, &offsets_prefix(group_id))
            .is_empty();
        if let Some(slot) = groups.slots.get_mut(group_id) {
            slot.has_offsets = !none;
        }
        self.step(&mut groups, group_id, |_, _, _| ());
    }
}

/// When offsets of a group expire.
enum Expiry {
    /// Together, this long after the group lost its last member.
    Since(i64),
    /// One by one after their commit: nobody ever joined the group.
    EachSinceCommit,
    /// One by one, but not those of topics that members read.
    Unread(BTreeSet<String>),
}

impl Expiry {
    fn of(slot: &Slot) -> Option<Expiry> {
        match slot.group.state() {
            GroupState::Empty if slot.group.protocol_type().is_none() => {
                Some(Expiry::EachSinceCommit)
            }
            GroupState::Empty => slot.empty_since_ms.map(Expiry::Since),
            GroupState::Stable => subscribed_topics(slot).map(Expiry::Unread),
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Dead => {
                None
            }
        }
    }

    fn applies(&self, key: &[u8], value: &[u8], end_ms: i64) -> bool {
        let Some(committed) = CommittedOffset::decode(value) else {
            return false;
        };
        match self {
            Expiry::Since(empty_since_ms) => {
                committed.committed_at_ms.max(*empty_since_ms) <= end_ms
            }
            Expiry::EachSinceCommit => committed.committed_at_ms <= end_ms,
            Expiry::Unread(topics) => {
                let read = parse_offset_key(key)
                    .is_none_or(|(_, topic, _)| topics.contains(topic.as_str()));
                !read && committed.committed_at_ms <= end_ms
            }
        }
    }
}

/// The topics that members read; `None` if that cannot be known.
fn subscribed_topics(slot: &Slot) -> Option<BTreeSet<String>> {
    if !slot.group.is_consumer_group() {
        return None;
    }
    let mut topics = BTreeSet::new();
    for subscription in slot.group.subscriptions() {
        subscription::collect_topics(&subscription, &mut topics)?;
    }
    Some(topics)
}

/// Takes a deletion back when the log refused it or its request was dropped.
struct Revive<'a> {
    coordinator: &'a GroupCoordinator,
    group_id: &'a StrBytes,
}

impl Drop for Revive<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.coordinator.lock().slots.get_mut(self.group_id) {
            slot.group.cancel_delete();
        }
    }
}
