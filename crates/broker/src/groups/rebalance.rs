//! The steps of a rebalance: begin, complete the join, choose leader and protocol, give up on members that do not sync.

use std::collections::HashMap;

use kafka_protocol::protocol::StrBytes;

use super::error::GroupError;
use super::group::{Group, GroupState, InitialWait};
use super::join::{Joined, JoinedMember};
use super::member::{Effect, Member, Millis};

impl Group {
    /// Begins a rebalance, or goes on with the one that runs.
    pub(super) fn prepare_rebalance(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let longest = self.longest_rebalance_timeout();
        match self.state {
            GroupState::Dead => return,
            GroupState::PreparingRebalance => {
                if let Some(wait) = &mut self.initial_wait {
                    wait.until = now
                        .saturating_add(self.limits.initial_delay)
                        .min(wait.at_most);
                }
            }
            GroupState::Empty => {
                self.state = GroupState::PreparingRebalance;
                if self.limits.initial_delay == 0 {
                    self.complete_join(now, effects);
                    return;
                }
                let at_most = now.saturating_add(longest);
                let until = now.saturating_add(self.limits.initial_delay).min(at_most);
                self.initial_wait = Some(InitialWait { until, at_most });
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                if self.state == GroupState::CompletingRebalance {
                    self.refuse_syncs(now, effects);
                }
                self.pending_sync.clear();
                self.sync_deadline = None;
                self.state = GroupState::PreparingRebalance;
                self.rebalance_deadline = Some(now.saturating_add(longest));
            }
        }
        self.try_complete_join(now, effects);
    }

    /// What a removed member means for the others.
    pub(super) fn after_removal(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(now, effects)
            }
            GroupState::PreparingRebalance => self.try_complete_join(now, effects),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// Completes the join if nobody is missing.
    pub(super) fn try_complete_join(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let expected = self.initial_wait.is_some()
            || !self.pending.is_empty()
            || self
                .members
                .values()
                .any(|member| member.awaiting_join.is_none());
        let nobody = self.members.is_empty() && self.initial_wait.is_none();
        if self.state == GroupState::PreparingRebalance && (!expected || nobody) {
            self.complete_join(now, effects);
        }
    }

    /// Ends the join phase: who has not joined is out (static members stay until their session ends), and the next
    /// generation begins.
    pub(super) fn complete_join(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        self.initial_wait = None;
        let missing: Vec<StrBytes> = self
            .members
            .iter()
            .filter(|(_, member)| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in &missing {
            self.remove_member(member_id, GroupError::UnknownMember, effects);
        }
        if !self.elect_leader() && !self.members.is_empty() {
            // Only static members are left and none has come back: wait on, their sessions end at last.
            self.rebalance_deadline =
                Some(now.saturating_add(self.longest_rebalance_timeout().max(1)));
            return;
        }
        self.rebalance_deadline = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            self.protocol = None;
            self.leader = None;
            if std::mem::take(&mut self.populated) {
                effects.push(Effect::Emptied);
            }
            return;
        }
        self.protocol = self.select_protocol();
        self.state = GroupState::CompletingRebalance;
        self.sync_deadline = Some(now.saturating_add(self.longest_rebalance_timeout()));
        self.pending_sync = self.members.keys().cloned().collect();
        if !std::mem::replace(&mut self.populated, true) {
            effects.push(Effect::Populated);
        }
        self.answer_joins(now, effects);
    }

    fn answer_joins(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let leader = self.leader.clone().unwrap_or_default();
        let mut for_leader = Some(self.joined_members());
        let generation = self.generation;
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        for (member_id, member) in &mut self.members {
            let Some(wait) = member.awaiting_join.take() else {
                continue;
            };
            member.touch(now);
            let members = if *member_id == leader {
                for_leader.take()
            } else {
                None
            };
            let joined = Joined {
                generation,
                protocol_type: protocol_type.clone().unwrap_or_default(),
                protocol: protocol.clone().unwrap_or_default(),
                leader: leader.clone(),
                member_id: member_id.clone(),
                members: members.unwrap_or_default(),
                skip_assignment: false,
            };
            effects.push(Effect::Join(wait.ticket, Ok(joined)));
        }
    }

    /// The list that only the leader gets, from which it makes the assignments.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let member = |(member_id, member): (&StrBytes, &Member)| JoinedMember {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol.as_ref()),
        };
        self.members.iter().map(member).collect()
    }

    /// Keeps the leader if it has joined, else takes the first that has. False if nobody has.
    fn elect_leader(&mut self) -> bool {
        let joined = |member: &Member| member.awaiting_join.is_some();
        let current = self
            .leader
            .as_ref()
            .and_then(|leader| self.members.get(leader));
        if current.is_some_and(joined) {
            return true;
        }
        let elected = self.members.iter().find(|(_, member)| joined(member));
        match elected {
            Some((member_id, _)) => {
                self.leader = Some(member_id.clone());
                true
            }
            None => false,
        }
    }

    /// The protocol that all members support and most of them prefer; the first by name if votes are equal.
    pub(super) fn select_protocol(&self) -> Option<StrBytes> {
        let mut supporters: HashMap<&StrBytes, usize> = HashMap::new();
        for member in self.members.values() {
            for (index, protocol) in member.protocols.iter().enumerate() {
                let repeated = member.protocols[..index]
                    .iter()
                    .any(|earlier| earlier.name == protocol.name);
                if !repeated {
                    *supporters.entry(&protocol.name).or_default() += 1;
                }
            }
        }
        let everyone = self.members.len();
        let mut votes: HashMap<&StrBytes, usize> = HashMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().find(|protocol| {
                supporters
                    .get(&protocol.name)
                    .is_some_and(|count| *count == everyone)
            });
            if let Some(choice) = choice {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let best = votes
            .into_iter()
            .min_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
        best.map(|(name, _)| name.clone())
    }

    /// Members that did not ask for their assignment in time are out.
    pub(super) fn expire_sync(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        self.sync_deadline = None;
        let late = std::mem::take(&mut self.pending_sync);
        if late.is_empty() {
            return;
        }
        for member_id in &late {
            self.remove_member(member_id, GroupError::UnknownMember, effects);
        }
        self.after_removal(now, effects);
    }

    /// Sends everyone who waits for an assignment back to joining.
    fn refuse_syncs(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        for member in self.members.values_mut() {
            self.bytes -= std::mem::take(&mut member.assignment).len();
            if let Some(ticket) = member.awaiting_sync.take() {
                member.touch(now);
                effects.push(Effect::Sync(ticket, Err(GroupError::RebalanceInProgress)));
            }
        }
    }

    fn longest_rebalance_timeout(&self) -> Millis {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or(0)
    }
}
