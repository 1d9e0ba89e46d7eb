//! One classic group as a state machine: what it holds, who it expects, what it looks like from outside.
//!
//! Joining is in `join`, the steps of a rebalance in `rebalance`, what members of a running generation send in
//! `session`. Every method takes the time and appends its effects; none blocks, waits or fails half-way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::error::GroupError;
use super::member::{Effect, Member, Millis, Ticket};

/// The state of a group, named as Kafka's tools name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// No members; offsets may remain.
    Empty,
    /// Waits for the members to join.
    PreparingRebalance,
    /// Waits for the leader's assignments.
    CompletingRebalance,
    /// Every member has its assignment, or can fetch it.
    Stable,
    /// Being deleted.
    Dead,
}

impl GroupState {
    /// The name in DescribeGroups and ListGroups.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A group as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its state.
    pub state: GroupState,
    /// `consumer` for consumers, `connect` for Connect; empty if nobody ever joined.
    pub protocol_type: StrBytes,
    /// The assignor in use, empty unless the group is stable.
    pub protocol: StrBytes,
    /// The current generation.
    pub generation: i32,
    /// The members, by id.
    pub members: Vec<MemberSummary>,
}

/// A member as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSummary {
    /// The id the coordinator gave it.
    pub member_id: StrBytes,
    /// The id of a static member (KIP-345).
    pub instance_id: Option<StrBytes>,
    /// The client id of its last JoinGroup request.
    pub client_id: StrBytes,
    /// Its address, as `/10.0.0.1`.
    pub client_host: StrBytes,
    /// Its subscription; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment; empty unless the group is stable.
    pub assignment: Bytes,
}

/// What all groups are bounded and timed by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_members: usize,
    pub(crate) max_bytes: usize,
    pub(crate) initial_delay: Millis,
}

/// The wait of a new group for more members (KIP-134).
#[derive(Debug, Clone, Copy)]
pub(crate) struct InitialWait {
    pub(crate) until: Millis,
    pub(crate) at_most: Millis,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(super) limits: Limits,
    pub(super) state: GroupState,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<StrBytes>,
    pub(super) protocol: Option<StrBytes>,
    pub(super) leader: Option<StrBytes>,
    pub(super) members: BTreeMap<StrBytes, Member>,
    /// Group instance id to member id.
    pub(super) statics: HashMap<StrBytes, StrBytes>,
    /// Member ids handed out and not yet used, with their end.
    pub(super) pending: BTreeMap<StrBytes, Millis>,
    /// Members of this generation that have not asked for their assignment.
    pub(super) pending_sync: BTreeSet<StrBytes>,
    pub(super) initial_wait: Option<InitialWait>,
    pub(super) rebalance_deadline: Option<Millis>,
    pub(super) sync_deadline: Option<Millis>,
    pub(super) populated: bool,
    /// Sum of `Member::bytes`.
    pub(super) bytes: usize,
}

impl Group {
    pub(crate) fn new(limits: Limits, generation: i32, protocol_type: Option<StrBytes>) -> Group {
        Group {
            limits,
            state: GroupState::Empty,
            generation,
            protocol_type,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: HashMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            initial_wait: None,
            rebalance_deadline: None,
            sync_deadline: None,
            populated: false,
            bytes: 0,
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn protocol_type(&self) -> Option<&StrBytes> {
        self.protocol_type.as_ref()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether forgetting the group would lose nothing but its generation.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == GroupState::Empty && self.pending.is_empty()
    }

    /// Whether members read topics and say so in a known format.
    pub(crate) fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    /// The subscriptions of all members under the current protocol.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.members
            .values()
            .map(|member| member.metadata(self.protocol.as_ref()))
    }

    /// Begins the deletion, after which every request but a repeated deletion is refused.
    pub(crate) fn begin_delete(&mut self) -> Result<(), GroupError> {
        match self.state {
            GroupState::Empty => {
                self.state = GroupState::Dead;
                self.pending.clear();
                Ok(())
            }
            GroupState::Dead => Err(GroupError::GroupIdNotFound),
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable => Err(GroupError::NonEmptyGroup),
        }
    }

    /// Takes a deletion back that the log refused.
    pub(crate) fn cancel_delete(&mut self) {
        if self.state == GroupState::Dead {
            self.state = GroupState::Empty;
        }
    }

    pub(crate) fn summary(&self) -> GroupSummary {
        let stable = self.state == GroupState::Stable;
        let members = self
            .members
            .iter()
            .map(|(member_id, member)| MemberSummary {
                member_id: member_id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: if stable {
                    member.metadata(self.protocol.as_ref())
                } else {
                    Bytes::new()
                },
                assignment: if stable {
                    member.assignment.clone()
                } else {
                    Bytes::new()
                },
            });
        GroupSummary {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: if stable {
                self.protocol.clone().unwrap_or_default()
            } else {
                StrBytes::default()
            },
            generation: self.generation,
            members: members.collect(),
        }
    }

    /// Checks that `member_id` is a member and, if it claims a group instance id, that it still owns it.
    pub(super) fn check_member(
        &self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
    ) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.statics.get(instance_id) {
                None => return Err(GroupError::UnknownMember),
                Some(owner) if owner != member_id => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMember)
        }
    }

    /// Takes a member out; its waiting requests are refused with `reason`. The caller decides what follows.
    pub(super) fn remove_member(
        &mut self,
        member_id: &StrBytes,
        reason: GroupError,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.bytes -= member.bytes();
        self.pending_sync.remove(member_id);
        if let Some(instance_id) = &member.instance_id
            && self.statics.get(instance_id) == Some(member_id)
        {
            self.statics.remove(instance_id);
        }
        if self.leader.as_ref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        refuse(&member, member_id, reason, effects);
    }

    /// The connection of a waiting request is gone: its member is no longer joined, and lives as long as its session.
    pub(crate) fn abandon(&mut self, now: Millis, ticket: Ticket, effects: &mut Vec<Effect>) {
        let found = self.members.iter_mut().find(|(_, member)| {
            member.awaiting_sync == Some(ticket)
                || member
                    .awaiting_join
                    .is_some_and(|wait| wait.ticket == ticket)
        });
        let Some((member_id, member)) = found else {
            return;
        };
        let anonymous = member
            .awaiting_join
            .take()
            .is_some_and(|wait| wait.anonymous);
        member.awaiting_sync = None;
        member.touch(now);
        if anonymous {
            let member_id = member_id.clone();
            self.remove_member(&member_id, GroupError::UnknownMember, effects);
            self.after_removal(now, effects);
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn on_time(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let waiting_ids = self.pending.len();
        self.pending.retain(|_, end| *end > now);
        let dead: Vec<StrBytes> = self
            .members
            .iter()
            .filter(|(_, member)| !member.waits() && member.session_deadline <= now)
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in &dead {
            self.remove_member(member_id, GroupError::UnknownMember, effects);
        }
        if !dead.is_empty() {
            self.after_removal(now, effects);
        } else if self.pending.len() != waiting_ids {
            self.try_complete_join(now, effects);
        }
        if self.initial_wait.is_some_and(|wait| wait.until <= now)
            || self
                .rebalance_deadline
                .is_some_and(|deadline| deadline <= now)
        {
            self.complete_join(now, effects);
        }
        if self.sync_deadline.is_some_and(|deadline| deadline <= now) {
            self.expire_sync(now, effects);
        }
    }

    /// When [`Group::on_time`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let sessions = self
            .members
            .values()
            .filter(|member| !member.waits())
            .map(|member| member.session_deadline);
        self.pending
            .values()
            .copied()
            .chain(sessions)
            .chain(self.initial_wait.map(|wait| wait.until))
            .chain(self.rebalance_deadline)
            .chain(self.sync_deadline)
            .min()
    }
}

/// Refuses the waiting requests of `member`.
pub(super) fn refuse(
    member: &Member,
    member_id: &StrBytes,
    reason: GroupError,
    effects: &mut Vec<Effect>,
) {
    if let Some(wait) = member.awaiting_join {
        let failure = super::join::JoinFailure {
            error: reason,
            member_id: member_id.clone(),
        };
        effects.push(Effect::Join(wait.ticket, Err(failure)));
    }
    if let Some(ticket) = member.awaiting_sync {
        effects.push(Effect::Sync(ticket, Err(reason)));
    }
}
