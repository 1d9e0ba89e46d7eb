//! All groups behind the coordinator's lock, and the one step by which anything in them changes.
//!
//! Invariant: bytes, timers and waiting requests are brought up to date by [`GroupCoordinator::step`] and nowhere else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flafka_log_store::{Op, Table};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

use super::coordinator::GroupCoordinator;
use super::error::GroupError;
use super::group::{Group, Limits};
use super::join::JoinAnswer;
use super::member::{Effect, Millis, Ticket};
use super::offsets::{GroupRecord, detach, group_key};
use super::session::SyncAnswer;

#[derive(Default)]
pub(super) struct Groups {
    pub(super) slots: BTreeMap<StrBytes, Slot>,
    pub(super) timers: BTreeSet<(Millis, StrBytes)>,
    pub(super) joins: HashMap<Ticket, oneshot::Sender<JoinAnswer>>,
    pub(super) syncs: HashMap<Ticket, oneshot::Sender<SyncAnswer>>,
    pub(super) last_ticket: Ticket,
    /// Groups whose record in the log is out of date.
    pub(super) dirty: BTreeSet<StrBytes>,
    pub(super) bytes: usize,
}

/// A group and what the log knows about it.
pub(super) struct Slot {
    pub(super) group: Group,
    pub(super) timer: Option<Millis>,
    /// Whether the group may have offsets in the table.
    pub(super) has_offsets: bool,
    /// Wall clock, milliseconds since 1970; `None` while there are members.
    pub(super) empty_since_ms: Option<i64>,
}

impl Slot {
    pub(super) fn record(&self) -> GroupRecord {
        GroupRecord {
            generation: self.group.generation(),
            empty_since_ms: self.empty_since_ms,
            protocol_type: self.group.protocol_type().cloned().unwrap_or_default(),
        }
    }
}

impl GroupCoordinator {
    /// Finds the slot of a group that somebody joins, or makes it.
    pub(super) fn make_room(
        &self,
        groups: &mut Groups,
        group_id: &StrBytes,
        is_new_member: bool,
    ) -> Result<(), GroupError> {
        if groups.bytes > self.config.max_total_bytes {
            return Err(GroupError::GroupFull);
        }
        if groups.slots.contains_key(group_id) {
            return Ok(());
        }
        if !is_new_member {
            return Err(GroupError::UnknownMember);
        }
        self.ensure_slot(groups, group_id).map(drop)
    }

    /// The slot of a group, new if need be.
    pub(super) fn ensure_slot<'a>(
        &self,
        groups: &'a mut Groups,
        group_id: &StrBytes,
    ) -> Result<&'a mut Slot, GroupError> {
        let full = groups.slots.len() >= self.config.max_groups;
        if full && !groups.slots.contains_key(group_id) {
            return Err(GroupError::GroupFull);
        }
        let slot = groups.slots.entry(detach(group_id));
        Ok(slot.or_insert_with(|| self.new_slot(self.clock.now_ms())))
    }

    pub(super) fn new_slot(&self, now_ms: i64) -> Slot {
        let group = Group::new(self.limits(), 0, None);
        Slot {
            group,
            timer: None,
            has_offsets: false,
            empty_since_ms: Some(now_ms),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_members: self.config.max_group_size,
            max_bytes: self.config.max_group_bytes,
            initial_delay: self.config.initial_rebalance_delay.as_millis() as Millis,
        }
    }

    /// One step of a group: runs `work`, delivers its effects, sets its timer, forgets it if nothing is left of it.
    /// `None` if there is no such group.
    pub(super) fn step<T>(
        &self,
        groups: &mut Groups,
        group_id: &StrBytes,
        work: impl FnOnce(&mut Group, Millis, &mut Vec<Effect>) -> T,
    ) -> Option<T> {
        let now = self.now();
        let Groups {
            slots,
            timers,
            joins,
            syncs,
            dirty,
            bytes,
            ..
        } = groups;
        let slot = slots.get_mut(group_id)?;
        let mut effects = Vec::new();
        *bytes -= slot.group.bytes();
        let outcome = work(&mut slot.group, now, &mut effects);
        *bytes += slot.group.bytes();
        let mut record_changed = false;
        for effect in effects {
            // A receiver that is gone has given up waiting; nothing is lost.
            match effect {
                Effect::Join(ticket, answer) => {
                    joins.remove(&ticket).map(|sender| sender.send(answer).ok());
                }
                Effect::Sync(ticket, answer) => {
                    syncs.remove(&ticket).map(|sender| sender.send(answer).ok());
                }
                Effect::Populated => {
                    slot.empty_since_ms = None;
                    record_changed = true;
                }
                Effect::Emptied => {
                    slot.empty_since_ms = Some(self.clock.now_ms());
                    record_changed = true;
                }
            }
        }
        if record_changed && slot.has_offsets {
            dirty.insert(group_id.clone());
            self.wake.notify_one();
        }
        let next = slot.group.next_deadline();
        if let Some(next) = next
            && slot.timer.is_none_or(|timer| timer > next)
        {
            if let Some(timer) = slot.timer.replace(next) {
                timers.remove(&(timer, group_id.clone()));
            }
            timers.insert((next, group_id.clone()));
            self.wake.notify_one();
        }
        if slot.group.is_idle() && !slot.has_offsets {
            if let Some(timer) = slot.timer {
                timers.remove(&(timer, group_id.clone()));
            }
            slots.remove(group_id);
        }
        Some(outcome)
    }
}

/// The group record as it is to stand in the log.
pub(super) fn put_record(group_id: &StrBytes, slot: &Slot) -> Op {
    Op::Put {
        table: Table::Groups,
        key: group_key(group_id),
        value: slot.record().encode(),
    }
}
