//! The owner of all groups: answers waiting requests, keeps the timers, and writes group records.
//!
//! One lock guards all groups. It is held for one step of a state machine and never across an await; groups see a few
//! requests a second, so it is not contended. Requests that must wait (JoinGroup, SyncGroup) leave a ticket in their
//! group and a channel here. Deadlines only ever move later between the steps that recompute them, so a heartbeat
//! touches no timer: a timer that fires early finds nothing due and is set again.
//!
//! Invariant: every ticket is answered once, or taken back by the request that is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flafka_log_store::{Clock, Op, Table};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::GroupConfig;
use super::error::GroupError;
use super::group::{Group, GroupState, GroupSummary};
use super::join::{JoinAnswer, JoinFailure, JoinRequest};
use super::member::{Millis, Ticket};
use super::offsets::{GroupRecord, parse_group_key, parse_offset_key};
use super::session::{Leaving, SyncAnswer, SyncRequest};
use super::slots::{Groups, Slot, put_record};
use super::store::OffsetTable;

/// Longest group id and member id. The protocol could say more; a key of the log's tables has to hold it.
const MAX_ID_BYTES: usize = 2048;
/// How often group records that the log refused are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The coordinator of all consumer groups of this broker. Shared by reference; [`GroupCoordinator::run`] must run for
/// deadlines to pass.
pub struct GroupCoordinator {
    pub(super) config: GroupConfig,
    pub(super) table: Arc<dyn OffsetTable>,
    pub(super) clock: Arc<dyn Clock>,
    groups: Mutex<Groups>,
    /// Held while group records are written or deleted, so that they reach the log in the order of what happened.
    pub(super) records: tokio::sync::Mutex<()>,
    pub(super) wake: Notify,
    origin: Instant,
}

/// A group as ListGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The group id.
    pub group_id: StrBytes,
    /// `consumer`, `connect`, or empty if nobody ever joined.
    pub protocol_type: StrBytes,
    /// Its state.
    pub state: GroupState,
}

impl GroupCoordinator {
    /// A coordinator that knows the groups and offsets of `table`. All of them are without members.
    pub fn load(
        config: GroupConfig,
        table: Arc<dyn OffsetTable>,
        clock: Arc<dyn Clock>,
    ) -> GroupCoordinator {
        let now_ms = clock.now_ms();
        let coordinator = GroupCoordinator {
            config,
            table,
            clock,
            groups: Mutex::default(),
            records: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            origin: Instant::now(),
        };
        let mut groups = coordinator.lock();
        for (key, value) in coordinator.table.scan(Table::Groups, &[]) {
            let (Some(group_id), Some(record)) =
                (parse_group_key(&key), GroupRecord::decode(&value))
            else {
                tracing::warn!(key = ?key, "group record in the log is not readable and is left alone");
                continue;
            };
            let protocol_type = Some(record.protocol_type).filter(|kind| !kind.is_empty());
            let group = Group::new(coordinator.limits(), record.generation, protocol_type);
            let empty_since_ms = Some(record.empty_since_ms.unwrap_or(now_ms));
            groups.slots.insert(
                group_id,
                Slot {
                    group,
                    timer: None,
                    has_offsets: true,
                    empty_since_ms,
                },
            );
        }
        for (key, _) in coordinator.table.scan(Table::GroupOffsets, &[]) {
            if let Some((group_id, ..)) = parse_offset_key(&key) {
                let slot = groups.slots.entry(group_id);
                slot.or_insert_with(|| coordinator.new_slot(now_ms))
                    .has_offsets = true;
            }
        }
        drop(groups);
        coordinator
    }

    /// Lets deadlines pass, offsets expire, and group records reach the log, until `shutdown`.
    ///
    /// # Cancel safety
    /// Safe: what is not done is done by the next call.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut check = tokio::time::interval(self.config.offsets_retention_check.max(RETRY));
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut retry_at: Option<Instant> = None;
        loop {
            let next = self.pass_time();
            if retry_at.is_none_or(|at| at <= Instant::now()) {
                retry_at = if self.write_records().await {
                    None
                } else {
                    Some(Instant::now() + RETRY)
                };
            }
            let until = [next, retry_at].into_iter().flatten().min();
            let sleep = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                () = sleep => {}
                _ = check.tick() => self.expire_offsets().await,
            }
        }
    }

    /// JoinGroup. Waits for the rebalance.
    ///
    /// # Cancel safety
    /// Dropped, the member counts as not joined (and is forgotten if it did not know its id yet).
    pub(crate) async fn join(&self, group_id: &StrBytes, request: JoinRequest) -> JoinAnswer {
        let member_id = request.member_id.clone();
        let refuse = |error| JoinFailure {
            error,
            member_id: member_id.clone(),
        };
        self.check_join(group_id, &request).map_err(refuse)?;
        let (sender, receiver) = oneshot::channel();
        let ticket = {
            let mut groups = self.lock();
            let is_new = request.member_id.is_empty();
            self.make_room(&mut groups, group_id, is_new)
                .map_err(refuse)?;
            groups.last_ticket += 1;
            let ticket = groups.last_ticket;
            groups.joins.insert(ticket, sender);
            self.step(&mut groups, group_id, |group, now, effects| {
                group.join(now, ticket, request, effects);
            });
            ticket
        };
        let waiting = Waiting {
            coordinator: self,
            group_id,
            ticket,
        };
        let answer = receiver.await;
        std::mem::forget(waiting);
        answer.unwrap_or_else(|_| Err(refuse(GroupError::GroupDead)))
    }

    /// SyncGroup. Waits for the leader's assignments.
    ///
    /// # Cancel safety
    /// Dropped, the member may sync again.
    pub(crate) async fn sync(&self, group_id: &StrBytes, request: SyncRequest) -> SyncAnswer {
        check_id(group_id)?;
        let (sender, receiver) = oneshot::channel();
        let ticket = {
            let mut groups = self.lock();
            groups.last_ticket += 1;
            let ticket = groups.last_ticket;
            groups.syncs.insert(ticket, sender);
            let found = self.step(&mut groups, group_id, |group, now, effects| {
                group.sync(now, ticket, request, effects);
            });
            if found.is_none() {
                groups.syncs.remove(&ticket);
                return Err(GroupError::UnknownMember);
            }
            ticket
        };
        let waiting = Waiting {
            coordinator: self,
            group_id,
            ticket,
        };
        let answer = receiver.await;
        std::mem::forget(waiting);
        answer.unwrap_or(Err(GroupError::GroupDead))
    }

    /// Heartbeat.
    pub(crate) fn heartbeat(
        &self,
        group_id: &StrBytes,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(), GroupError> {
        check_id(group_id)?;
        let now = self.now();
        match self.lock().slots.get_mut(group_id) {
            Some(slot) => slot
                .group
                .heartbeat(now, member_id, instance_id, generation),
            None => Err(GroupError::UnknownMember),
        }
    }

    /// LeaveGroup: one outcome for each member.
    pub(crate) fn leave(
        &self,
        group_id: &StrBytes,
        leaving: &[Leaving],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        check_id(group_id)?;
        let outcomes = self.step(&mut self.lock(), group_id, |group, now, effects| {
            leaving
                .iter()
                .map(|one| group.leave(now, one, effects))
                .collect()
        });
        Ok(outcomes.unwrap_or_else(|| vec![Err(GroupError::UnknownMember); leaving.len()]))
    }

    /// All groups (ListGroups).
    pub fn list(&self) -> Vec<GroupListing> {
        let groups = self.lock();
        let listing = |(group_id, slot): (&StrBytes, &Slot)| GroupListing {
            group_id: group_id.clone(),
            protocol_type: slot.group.protocol_type().cloned().unwrap_or_default(),
            state: slot.group.state(),
        };
        groups.slots.iter().map(listing).collect()
    }

    /// One group (DescribeGroups).
    ///
    /// # Errors
    /// [`GroupError::InvalidGroupId`], [`GroupError::GroupIdNotFound`].
    pub fn describe(&self, group_id: &StrBytes) -> Result<GroupSummary, GroupError> {
        check_offsets_id(group_id)?;
        let groups = self.lock();
        groups
            .slots
            .get(group_id)
            .map(|slot| slot.group.summary())
            .ok_or(GroupError::GroupIdNotFound)
    }

    fn check_join(&self, group_id: &StrBytes, request: &JoinRequest) -> Result<(), GroupError> {
        check_id(group_id)?;
        let instance_len = request.instance_id.as_ref().map_or(0, |id| id.len());
        if request.member_id.len() > MAX_ID_BYTES || instance_len > MAX_ID_BYTES {
            return Err(GroupError::UnknownMember);
        }
        let session = Duration::from_millis(request.session_timeout);
        if session < self.config.min_session_timeout || session > self.config.max_session_timeout {
            return Err(GroupError::InvalidSessionTimeout);
        }
        Ok(())
    }

    /// Does what is due; says when the next deadline is.
    fn pass_time(&self) -> Option<Instant> {
        let mut groups = self.lock();
        let now = self.now();
        loop {
            let (due, group_id) = groups.timers.first()?.clone();
            if due > now {
                return Some(self.origin + Duration::from_millis(due));
            }
            groups.timers.remove(&(due, group_id.clone()));
            if let Some(slot) = groups.slots.get_mut(&group_id) {
                slot.timer = None;
            }
            self.step(&mut groups, &group_id, |group, now, effects| {
                group.on_time(now, effects)
            });
        }
    }

    /// Writes the records of groups that have lost or got members. False if the log refused.
    async fn write_records(&self) -> bool {
        let _in_order = self.records.lock().await;
        let (written, ops) = {
            let mut groups = self.lock();
            let dirty = std::mem::take(&mut groups.dirty);
            let ops: Vec<Op> = dirty
                .iter()
                .filter_map(|group_id| Some((group_id, groups.slots.get(group_id)?)))
                .map(|(group_id, slot)| put_record(group_id, slot))
                .collect();
            (dirty, ops)
        };
        if ops.is_empty() {
            return true;
        }
        match self.table.commit(ops).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(groups = written.len(), %error, "group records were not written, trying again");
                self.lock().dirty.extend(written);
                false
            }
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Groups> {
        // A panic inside a step is a defect, but other groups are not touched by it.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Millis {
        self.origin.elapsed().as_millis() as Millis
    }
}

impl std::fmt::Debug for GroupCoordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupCoordinator")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A request that waits for its answer; dropped before it comes, it takes its ticket back.
struct Waiting<'a> {
    coordinator: &'a GroupCoordinator,
    group_id: &'a StrBytes,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut groups = self.coordinator.lock();
        let ticket = self.ticket;
        groups.joins.remove(&ticket);
        groups.syncs.remove(&ticket);
        self.coordinator
            .step(&mut groups, self.group_id, |group, now, effects| {
                group.abandon(now, ticket, effects);
            });
    }
}

/// Refuses group ids that no member can have: empty or overlong.
fn check_id(group_id: &StrBytes) -> Result<(), GroupError> {
    if group_id.is_empty() {
        Err(GroupError::InvalidGroupId)
    } else {
        check_offsets_id(group_id)
    }
}

/// Refuses overlong group ids. The empty one may hold offsets, for clients from before ids were required.
pub(super) fn check_offsets_id(group_id: &StrBytes) -> Result<(), GroupError> {
    if group_id.len() > MAX_ID_BYTES {
        Err(GroupError::InvalidGroupId)
    } else {
        Ok(())
    }
}
