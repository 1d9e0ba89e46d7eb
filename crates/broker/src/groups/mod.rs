//! Consumer groups: the classic group protocol, committed offsets and their administration.
//!
//! `group` is one group as a state machine without I/O: requests, lost connections and the passing of time go in,
//! answers and deadlines come out. [`GroupCoordinator`] owns all groups, turns its effects into answers of waiting
//! requests, sleeps until the next deadline, and keeps the offsets in the log's journaled table.
//!
//! ```text
//!            join                 all joined, or time is up            leader's sync
//!   Empty ─────────▶ PreparingRebalance ─────────▶ CompletingRebalance ─────────▶ Stable
//!     ▲                │  ▲                              │                          │
//!     └── no member ───┘  └──── join, leave, session or sync deadline passed ────────┘
//! ```
//!
//! Members are not journaled: after a restart every member is unknown, joins again and goes on from the committed
//! offsets. What is journaled: committed offsets, and since when a group is without members (offsets expire after that).
//!
//! Invariants: at most one leader; all assignments handed out in one generation come from that generation's leader; a
//! commit is accepted only from the running generation (or from nobody's, into a group without members); no wait is
//! longer than the deadlines of its group; a commit is answered only after the log has made it durable.
//!
//! Follows the classic protocol of Apache Kafka with KIP-62 (rebalance timeout), KIP-134 (initial delay), KIP-345
//! (static members), KIP-394 (member id required), KIP-559 (protocol checks), KIP-814 (skip assignment).

mod config;
mod coordinator;
mod error;
mod group;
mod join;
mod member;
mod offset_requests;
mod offsets;
mod rebalance;
mod session;
mod slots;
mod store;
mod subscription;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use self::config::GroupConfig;
pub use self::coordinator::{GroupCoordinator, GroupListing};
pub use self::error::GroupError;
pub(crate) use self::error::code_of;
pub use self::group::{GroupState, GroupSummary, MemberSummary};
pub(crate) use self::join::{JoinFailure, JoinRequest, Joined};
pub(crate) use self::member::Protocol;
pub(crate) use self::offset_requests::OffsetCommit;
pub use self::offsets::CommittedOffset;
pub(crate) use self::offsets::detach;
pub(crate) use self::session::{Leaving, SyncRequest};
pub use self::store::{CommitFuture, OffsetTable};
