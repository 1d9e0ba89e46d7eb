//! What a spillable channel of given settings promises, for `flafka explain`.

use std::path::Path;

use flafka_flow::Promise;
use flafka_flow::registry::ChannelFactory;

use super::SpillableConfig;
use crate::file::FileChannelFactory;

impl SpillableConfig {
    pub(super) fn promise(&self, home: &Path) -> Promise {
        let (memory, overflow) = (self.own.memory_capacity.0, self.own.overflow_capacity.0);
        let disk = FileChannelFactory::promise(&self.file, home);
        let in_memory = format!("what memory holds, up to {memory} events");
        let timeout = self.own.overflow_timeout.0.as_secs();
        if !self.has_overflow() {
            return Promise {
                durability: "none (overflowCapacity = 0)".to_owned(),
                acknowledged: "when the events are in this process's memory".to_owned(),
                kill_loses: in_memory.clone(),
                power_cut_loses: in_memory,
                repeats: "nothing of this channel; an ordered stop delivers what it holds first"
                    .to_owned(),
                capacity_events: Some(memory as u64),
                capacity_bytes: None,
                encrypted: None,
                when_full: format!(
                    "a put waits {timeout} s for room, then fails and its source tries again"
                ),
                directories: Vec::new(),
            };
        }
        Promise {
            durability: format!("none in memory; overflow: {}", disk.durability),
            acknowledged: format!(
                "when the events are in memory; while memory is full {}",
                disk.acknowledged
            ),
            kill_loses: format!("{in_memory}; nothing of the overflow"),
            power_cut_loses: format!("{in_memory}; of the overflow {}", disk.power_cut_loses),
            capacity_events: Some((memory + overflow) as u64),
            when_full: format!(
                "memory ({memory} events) spills into the overflow ({overflow} events); when both are full a put waits \
                 {timeout} s for room, then fails; when memory is full and the disk too ({} bytes stay free) it fails at \
                 once; its source tries again",
                self.file.min_free_bytes()
            ),
            encrypted: disk
                .encrypted
                .map(|how| format!("of the overflow only: {how}")),
            ..disk
        }
    }
}
