//! JoinGroup: new members, members that come back, static members that replace their former selves.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::error::GroupError;
use super::group::{Group, GroupState, refuse};
use super::member::{Effect, JoinWait, Member, Millis, Protocol, Ticket, protocol_bytes};

/// Protocols one member may offer; consumers have one or two.
const MAX_PROTOCOLS: usize = 64;

/// A JoinGroup request, its texts owned (a slice of the request would keep the whole frame in memory).
#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
    /// Empty for a new member.
    pub(crate) member_id: StrBytes,
    /// The id to use if the member is new: never used before.
    pub(crate) new_member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) client_id: StrBytes,
    pub(crate) client_host: StrBytes,
    pub(crate) session_timeout: Millis,
    pub(crate) rebalance_timeout: Millis,
    pub(crate) protocol_type: StrBytes,
    pub(crate) protocols: Vec<Protocol>,
    /// Version 4 and later: a new dynamic member is told its id first and joins with it (KIP-394).
    pub(crate) requires_member_id: bool,
    /// Version 9 and later (KIP-814).
    pub(crate) can_skip_assignment: bool,
}

/// The answer to a JoinGroup request.
pub(crate) type JoinAnswer = Result<Joined, JoinFailure>;

/// A refused join; the member id is new with [`GroupError::MemberIdRequired`], else the request's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinFailure {
    pub(crate) error: GroupError,
    pub(crate) member_id: StrBytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: StrBytes,
    pub(crate) protocol: StrBytes,
    pub(crate) leader: StrBytes,
    pub(crate) member_id: StrBytes,
    /// Only for the leader.
    pub(crate) members: Vec<JoinedMember>,
    /// The leader need not assign: the group already has its assignments.
    pub(crate) skip_assignment: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) metadata: Bytes,
}

impl Group {
    pub(crate) fn join(
        &mut self,
        now: Millis,
        ticket: Ticket,
        request: JoinRequest,
        effects: &mut Vec<Effect>,
    ) {
        let mut member_id = request.member_id.clone();
        let outcome = if self.state == GroupState::Dead {
            Err(GroupError::GroupDead)
        } else if !self.has_room(&request) {
            Err(GroupError::GroupFull)
        } else if !member_id.is_empty() {
            self.join_known(now, ticket, request, effects)
        } else {
            let outcome = self.check_protocols(&request);
            outcome.and_then(|()| self.join_new(now, ticket, request, &mut member_id, effects))
        };
        if let Err(error) = outcome {
            effects.push(Effect::Join(ticket, Err(JoinFailure { error, member_id })));
        }
    }

    fn join_new(
        &mut self,
        now: Millis,
        ticket: Ticket,
        request: JoinRequest,
        answer_id: &mut StrBytes,
        effects: &mut Vec<Effect>,
    ) -> Result<(), GroupError> {
        let wait = JoinWait {
            ticket,
            anonymous: true,
        };
        if let Some(instance_id) = &request.instance_id {
            if let Some(former_id) = self.statics.get(instance_id).cloned() {
                self.replace_static(now, wait, &former_id, request, effects);
                return Ok(());
            }
        } else if request.requires_member_id {
            if self.pending.len() >= self.limits.max_members {
                return Err(GroupError::GroupFull);
            }
            answer_id.clone_from(&request.new_member_id);
            let end = now.saturating_add(request.session_timeout);
            self.pending.insert(request.new_member_id, end);
            return Err(GroupError::MemberIdRequired);
        }
        let member_id = request.new_member_id.clone();
        self.add_member(member_id, wait, request);
        self.prepare_rebalance(now, effects);
        Ok(())
    }

    fn join_known(
        &mut self,
        now: Millis,
        ticket: Ticket,
        request: JoinRequest,
        effects: &mut Vec<Effect>,
    ) -> Result<(), GroupError> {
        let member_id = request.member_id.clone();
        let wait = JoinWait {
            ticket,
            anonymous: false,
        };
        if request.instance_id.is_none() && self.pending.contains_key(&member_id) {
            self.check_protocols(&request)?;
            self.pending.remove(&member_id);
            self.add_member(member_id, wait, request);
            self.prepare_rebalance(now, effects);
            return Ok(());
        }
        self.check_member(&member_id, request.instance_id.as_ref())?;
        self.check_protocols(&request)?;
        let is_leader = self.leader.as_ref() == Some(&member_id);
        let same = self
            .members
            .get(&member_id)
            .is_some_and(|member| member.protocols == request.protocols);
        let nothing_new = match self.state {
            GroupState::CompletingRebalance => same,
            GroupState::Stable => same && !is_leader,
            GroupState::PreparingRebalance => false,
            GroupState::Empty | GroupState::Dead => return Err(GroupError::UnknownMember),
        };
        if nothing_new {
            let members = if is_leader {
                self.joined_members()
            } else {
                Vec::new()
            };
            let joined = self.current(member_id.clone(), members);
            if let Some(member) = self.members.get_mut(&member_id) {
                member.touch(now);
            }
            effects.push(Effect::Join(ticket, Ok(joined)));
            return Ok(());
        }
        self.update_member(now, &member_id, wait, request, effects);
        self.prepare_rebalance(now, effects);
        Ok(())
    }

    /// A static member has restarted: it gets a new id, the former one is fenced. A stable group goes on as it is if
    /// the chosen protocol stays the same (KIP-345).
    fn replace_static(
        &mut self,
        now: Millis,
        wait: JoinWait,
        former_id: &StrBytes,
        request: JoinRequest,
        effects: &mut Vec<Effect>,
    ) {
        let new_id = request.new_member_id.clone();
        let can_skip_assignment = request.can_skip_assignment;
        let was_leader = self.leader.as_ref() == Some(former_id);
        let Some(mut member) = self.members.remove(former_id) else {
            self.add_member(new_id, wait, request);
            self.prepare_rebalance(now, effects);
            return;
        };
        refuse(&member, former_id, GroupError::FencedInstance, effects);
        (member.awaiting_join, member.awaiting_sync) = (None, None);
        self.members.insert(new_id.clone(), member);
        if let Some(instance_id) = &request.instance_id {
            self.statics.insert(instance_id.clone(), new_id.clone());
        }
        if self.pending_sync.remove(former_id) {
            self.pending_sync.insert(new_id.clone());
        }
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        self.update_member(now, &new_id, wait, request, effects);

        if self.state != GroupState::Stable || self.protocol != self.select_protocol() {
            self.prepare_rebalance(now, effects);
            return;
        }
        let skip_assignment = was_leader && can_skip_assignment;
        let members = if skip_assignment {
            self.joined_members()
        } else {
            Vec::new()
        };
        let mut joined = self.current(new_id.clone(), members);
        joined.skip_assignment = skip_assignment;
        if was_leader && !skip_assignment {
            // An older client that finds itself leader would assign anew; its former id keeps it a follower.
            joined.leader = former_id.clone();
        }
        if let Some(member) = self.members.get_mut(&new_id) {
            member.awaiting_join = None;
            member.touch(now);
        }
        effects.push(Effect::Join(wait.ticket, Ok(joined)));
    }

    fn add_member(&mut self, member_id: StrBytes, wait: JoinWait, request: JoinRequest) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
            self.leader = Some(member_id.clone());
        }
        if let Some(instance_id) = &request.instance_id {
            self.statics.insert(instance_id.clone(), member_id.clone());
        }
        let member = Member {
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            protocols: request.protocols,
            assignment: Bytes::new(),
            awaiting_join: Some(wait),
            awaiting_sync: None,
            session_deadline: Millis::MAX,
        };
        self.bytes += member.bytes();
        self.members.insert(member_id, member);
    }

    fn update_member(
        &mut self,
        now: Millis,
        member_id: &StrBytes,
        wait: JoinWait,
        request: JoinRequest,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        // A request of the same member that still waits was given up by its client.
        refuse(member, member_id, GroupError::RebalanceInProgress, effects);
        self.bytes -= member.bytes();
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout;
        member.protocols = request.protocols;
        member.awaiting_join = Some(wait);
        member.awaiting_sync = None;
        member.touch(now);
        self.bytes += member.bytes();
    }

    /// The running generation, as an answer.
    fn current(&self, member_id: StrBytes, members: Vec<JoinedMember>) -> Joined {
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id,
            members,
            skip_assignment: false,
        }
    }

    /// Whether one more member, or more bytes for a known one, stay within bounds.
    fn has_room(&self, request: &JoinRequest) -> bool {
        let bytes = self
            .bytes
            .saturating_add(protocol_bytes(&request.protocols));
        if bytes > self.limits.max_bytes {
            return false;
        }
        let replaces = request
            .instance_id
            .as_ref()
            .is_some_and(|id| self.statics.contains_key(id));
        if replaces || self.members.contains_key(&request.member_id) {
            return true;
        }
        // Members that are gone but not yet given up must not keep others out.
        let counted = match self.state {
            GroupState::PreparingRebalance => self
                .members
                .values()
                .filter(|member| member.awaiting_join.is_some())
                .count(),
            _ => self.members.len(),
        };
        counted < self.limits.max_members
    }

    /// Whether, with this request, there is still a protocol that everyone supports.
    fn check_protocols(&self, request: &JoinRequest) -> Result<(), GroupError> {
        let replaced = request
            .instance_id
            .as_ref()
            .and_then(|id| self.statics.get(id));
        let own_id = replaced.unwrap_or(&request.member_id);
        let mut others = self
            .members
            .iter()
            .filter(|(id, _)| *id != own_id)
            .map(|(_, member)| member);
        let known = !request.protocol_type.is_empty()
            && !request.protocols.is_empty()
            && request.protocols.len() <= MAX_PROTOCOLS;
        let same_type =
            self.members.is_empty() || self.protocol_type.as_ref() == Some(&request.protocol_type);
        let mut shared: Vec<&StrBytes> = request
            .protocols
            .iter()
            .map(|protocol| &protocol.name)
            .collect();
        if known && same_type {
            others
                .by_ref()
                .for_each(|other| shared.retain(|name| other.supports(name)));
            if !shared.is_empty() {
                return Ok(());
            }
        }
        Err(GroupError::InconsistentProtocol)
    }
}
