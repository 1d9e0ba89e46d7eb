//! Why a group request is refused, and the Kafka error code of each reason.

use kafka_protocol::error::ResponseError;

/// A refused group request. [`GroupError::code`] is the one table to Kafka's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GroupError {
    /// The group is being deleted; asking again helps.
    #[error("the group is being deleted")]
    GroupDead,
    /// The group id is empty.
    #[error("the group id is empty")]
    InvalidGroupId,
    /// No such group.
    #[error("the group does not exist")]
    GroupIdNotFound,
    /// The group still has members.
    #[error("the group has members")]
    NonEmptyGroup,
    /// Members still read the topic.
    #[error("members of the group are subscribed to the topic")]
    SubscribedToTopic,
    /// The group has as many members, or holds as many bytes, as allowed.
    #[error("the group is full")]
    GroupFull,
    /// The session timeout lies outside `group.min.session.timeout.ms` to `group.max.session.timeout.ms`.
    #[error("the session timeout is out of bounds")]
    InvalidSessionTimeout,
    /// No protocol that every member knows, or another protocol type.
    #[error("no protocol that all members support")]
    InconsistentProtocol,
    /// The member must ask again with the id that the answer gives it (KIP-394).
    #[error("join again with the member id given")]
    MemberIdRequired,
    /// No such member.
    #[error("the member is unknown")]
    UnknownMember,
    /// Another process has taken over the group instance id (KIP-345).
    #[error("another member has this group instance id")]
    FencedInstance,
    /// The request is from an earlier generation.
    #[error("the generation is not the current one")]
    IllegalGeneration,
    /// The group rebalances; the member must join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// The metadata text of an offset is longer than `offset.metadata.max.bytes`.
    #[error("the offset's metadata is too long")]
    OffsetMetadataTooLarge,
    /// The topic or partition does not exist.
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    /// The leader's assignments are larger than a group may be.
    #[error("the assignments are larger than a group may be")]
    AssignmentTooLarge,
    /// The log did not take the change; asking again may help.
    #[error("the log did not take the change")]
    NotStored,
}

impl GroupError {
    /// The error code of the Kafka protocol.
    pub fn code(self) -> i16 {
        let error = match self {
            GroupError::GroupDead | GroupError::NotStored => ResponseError::CoordinatorNotAvailable,
            GroupError::InvalidGroupId => ResponseError::InvalidGroupId,
            GroupError::GroupIdNotFound => ResponseError::GroupIdNotFound,
            GroupError::NonEmptyGroup => ResponseError::NonEmptyGroup,
            GroupError::SubscribedToTopic => ResponseError::GroupSubscribedToTopic,
            GroupError::GroupFull => ResponseError::GroupMaxSizeReached,
            GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
            GroupError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
            GroupError::MemberIdRequired => ResponseError::MemberIdRequired,
            GroupError::UnknownMember => ResponseError::UnknownMemberId,
            GroupError::FencedInstance => ResponseError::FencedInstanceId,
            GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
            GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
            GroupError::OffsetMetadataTooLarge => ResponseError::OffsetMetadataTooLarge,
            GroupError::UnknownTopicOrPartition => ResponseError::UnknownTopicOrPartition,
            GroupError::AssignmentTooLarge => ResponseError::UnknownServerError,
        };
        error.code()
    }
}

/// The code of an outcome: 0 for success.
pub(crate) fn code_of<T>(outcome: &Result<T, GroupError>) -> i16 {
    outcome.as_ref().err().map_or(0, |error| error.code())
}
