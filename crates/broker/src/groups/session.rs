//! What members of a generation send: SyncGroup, Heartbeat, LeaveGroup, and the check of OffsetCommit.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::error::GroupError;
use super::group::{Group, GroupState};
use super::member::{Effect, Millis, Ticket};

/// A SyncGroup request, its texts owned.
#[derive(Debug, Clone)]
pub(crate) struct SyncRequest {
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) generation: i32,
    /// Version 5 and later.
    pub(crate) protocol_type: Option<StrBytes>,
    /// Version 5 and later.
    pub(crate) protocol: Option<StrBytes>,
    /// The leader's: member id and assignment.
    pub(crate) assignments: Vec<(StrBytes, Bytes)>,
}

/// The answer to a SyncGroup request.
pub(crate) type SyncAnswer = Result<Synced, GroupError>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: StrBytes,
    pub(crate) protocol: StrBytes,
    pub(crate) assignment: Bytes,
}

/// One member that leaves, by its id or (an administrator's tool) by its group instance id alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
}

impl Group {
    pub(crate) fn sync(
        &mut self,
        now: Millis,
        ticket: Ticket,
        request: SyncRequest,
        effects: &mut Vec<Effect>,
    ) {
        if let Err(error) = self.check_sync(&request) {
            effects.push(Effect::Sync(ticket, Err(error)));
            return;
        }
        let is_leader = self.leader.as_ref() == Some(&request.member_id);
        self.pending_sync.remove(&request.member_id);
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.touch(now);
            if let Some(given_up) = member.awaiting_sync.replace(ticket) {
                effects.push(Effect::Sync(given_up, Err(GroupError::RebalanceInProgress)));
            }
        }
        if self.state == GroupState::CompletingRebalance && is_leader {
            self.assign(request.assignments);
            self.state = GroupState::Stable;
        }
        if self.state == GroupState::Stable {
            self.answer_syncs(now, effects);
            if self.pending_sync.is_empty() {
                self.sync_deadline = None;
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::GroupDead);
        }
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs =
            |asked: &Option<StrBytes>, ours: &Option<StrBytes>| asked.is_some() && asked != ours;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        let bytes = request
            .assignments
            .iter()
            .map(|(_, assignment)| assignment.len())
            .sum::<usize>();
        if bytes > self.limits.max_bytes {
            return Err(GroupError::AssignmentTooLarge);
        }
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    /// Takes the leader's assignments; a member that it forgot gets an empty one.
    fn assign(&mut self, assignments: Vec<(StrBytes, Bytes)>) {
        for member in self.members.values_mut() {
            self.bytes -= std::mem::take(&mut member.assignment).len();
        }
        for (member_id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&member_id) {
                self.bytes -= member.assignment.len();
                self.bytes += assignment.len();
                member.assignment = assignment;
            }
        }
    }

    fn answer_syncs(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        for member in self.members.values_mut() {
            let Some(ticket) = member.awaiting_sync.take() else {
                continue;
            };
            member.touch(now);
            let synced = Synced {
                protocol_type: self.protocol_type.clone().unwrap_or_default(),
                protocol: self.protocol.clone().unwrap_or_default(),
                assignment: member.assignment.clone(),
            };
            effects.push(Effect::Sync(ticket, Ok(synced)));
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        now: Millis,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::GroupDead);
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now);
        }
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    /// Lets one member go. The id may be one that was handed out and never used.
    pub(crate) fn leave(
        &mut self,
        now: Millis,
        leaving: &Leaving,
        effects: &mut Vec<Effect>,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::GroupDead);
        }
        let mut member_id = leaving.member_id.clone();
        match &leaving.instance_id {
            Some(instance_id) => {
                let owner = self
                    .statics
                    .get(instance_id)
                    .ok_or(GroupError::UnknownMember)?;
                if member_id.is_empty() {
                    member_id = owner.clone();
                }
                self.check_member(&member_id, Some(instance_id))?;
            }
            None if self.pending.remove(&member_id).is_some() => {
                self.try_complete_join(now, effects);
                return Ok(());
            }
            None => self.check_member(&member_id, None)?,
        }
        self.remove_member(&member_id, GroupError::UnknownMember, effects);
        self.after_removal(now, effects);
        Ok(())
    }

    /// Whether a member may commit offsets now. Generation -1 is for those who use the group only to store offsets.
    pub(crate) fn check_commit(
        &mut self,
        now: Millis,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::GroupDead);
        }
        if generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if self.state == GroupState::CompletingRebalance {
            // The assignment is not known yet, so neither is who may commit what.
            return Err(GroupError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now);
        }
        Ok(())
    }
}
