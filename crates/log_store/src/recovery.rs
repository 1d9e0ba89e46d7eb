//! x
/// What a start found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the last stop was a clean one.
    pub clean: bool,
    /// Journal frames replayed.
    pub frames: u64,
    /// Bytes written again from the journal into segments.
    pub redone_bytes: u64,
    /// Bytes of batches checked behind the last checkpoint.
    pub checked_bytes: u64,
    /// What was cut, one entry for each file.
    pub cuts: Vec<Cut>,
}
/// Unacknowledged bytes that a start removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Which file.
    pub path: std::path::PathBuf,
    /// Its new length.
    pub position: u64,
    /// How many bytes went.
    pub bytes: u64,
    /// Whether weakly acknowledged data (`os`, `interval`) was among them.
    pub acknowledged_weakly: bool,
}
