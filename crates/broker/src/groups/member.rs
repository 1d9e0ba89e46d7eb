//! One member of a group, and the values a group is timed and answered by.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::join::JoinAnswer;
use super::session::SyncAnswer;

/// Milliseconds of a clock that never goes back; its zero means nothing.
pub(crate) type Millis = u64;

/// Names one waiting request, so that its answer finds it.
pub(crate) type Ticket = u64;

/// What a group wants its owner to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Answer a JoinGroup request.
    Join(Ticket, JoinAnswer),
    /// Answer a SyncGroup request.
    Sync(Ticket, SyncAnswer),
    /// The group has got its first member: its offsets do not expire from now on.
    Populated,
    /// The group has lost its last member: the retention of its offsets begins.
    Emptied,
}

/// A protocol (assignor) that a member supports, with its subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: StrBytes,
    pub(crate) metadata: Bytes,
}

/// A JoinGroup request that waits for the rebalance to complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinWait {
    pub(crate) ticket: Ticket,
    /// The answer is the first to tell the client its member id: if the connection goes, nobody knows the member.
    pub(crate) anonymous: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) client_id: StrBytes,
    pub(crate) client_host: StrBytes,
    pub(crate) session_timeout: Millis,
    pub(crate) rebalance_timeout: Millis,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    pub(crate) awaiting_join: Option<JoinWait>,
    pub(crate) awaiting_sync: Option<Ticket>,
    /// When the member is taken for dead; does not count while one of its requests waits.
    pub(crate) session_deadline: Millis,
}

/// What a member costs besides its texts, roughly.
const FIXED_BYTES: usize = 256;

impl Member {
    pub(crate) fn waits(&self) -> bool {
        self.awaiting_join.is_some() || self.awaiting_sync.is_some()
    }

    pub(crate) fn supports(&self, name: &StrBytes) -> bool {
        self.protocols.iter().any(|protocol| protocol.name == *name)
    }

    /// The subscription for `protocol`, empty if the member does not support it.
    pub(crate) fn metadata(&self, protocol: Option<&StrBytes>) -> Bytes {
        self.protocols
            .iter()
            .find(|candidate| Some(&candidate.name) == protocol)
            .map_or_else(Bytes::new, |found| found.metadata.clone())
    }

    pub(crate) fn bytes(&self) -> usize {
        protocol_bytes(&self.protocols) + self.assignment.len() + FIXED_BYTES
    }

    /// The member has shown that it lives.
    pub(crate) fn touch(&mut self, now: Millis) {
        self.session_deadline = now.saturating_add(self.session_timeout);
    }
}

pub(crate) fn protocol_bytes(protocols: &[Protocol]) -> usize {
    protocols
        .iter()
        .map(|protocol| protocol.name.len() + protocol.metadata.len() + 64)
        .sum()
}
