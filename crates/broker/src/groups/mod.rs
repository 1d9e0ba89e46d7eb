//! Group coordinator of the classic consumer group protocol (placeholder shape until its owner fills it).

/// The coordinator of all consumer groups of this broker.
#[derive(Debug, Default)]
pub struct GroupCoordinator {}
