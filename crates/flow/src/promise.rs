//! What a channel promises for what it has acknowledged, in plain words: what `flafka explain` prints.

use std::path::PathBuf;

/// The promise of one configured channel, or of a log. Every text is a sentence part without full stop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promise {
    /// The mode in a word, with the key that sets it.
    pub durability: String,
    /// When a put is acknowledged, so when a source may forget its data.
    pub acknowledged: String,
    /// What of the acknowledged is lost when the process is killed (SIGKILL) or crashes.
    pub kill_loses: String,
    /// What of the acknowledged is lost when the machine loses power or its kernel crashes.
    pub power_cut_loses: String,
    /// What may come twice afterwards.
    pub repeats: String,
    /// Events that fit; `None` = not limited by number.
    pub capacity_events: Option<u64>,
    /// Bytes that fit; `None` = not limited by a setting.
    pub capacity_bytes: Option<u64>,
    /// What happens at the limit, or what the limit is when no number says it.
    pub when_full: String,
    /// What is encrypted, and how; `None` = nothing is.
    pub encrypted: Option<String>,
    /// Where the data is; empty when it is not in files of this machine.
    pub directories: Vec<PathBuf>,
}
