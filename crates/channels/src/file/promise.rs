//! What a file channel of given settings promises, for `flafka explain`.

use std::path::Path;

use flafka_flow::Promise;

use super::FileChannelConfig;

impl FileChannelConfig {
    pub(super) fn promise(&self, home: &Path) -> Promise {
        let durability = self.durability();
        let set_by = match (&self.durability, self.fsync_per_transaction) {
            (Some(_), _) => "flafka.durability",
            (None, true) => "fsyncPerTransaction = true",
            (None, false) => "fsyncPerTransaction = false, fsyncInterval",
        };
        let directories = self.data_dirs(home).into_iter();
        let directories =
            directories.map(|dir| std::path::absolute(&dir).unwrap_or_else(|_| dir.clone()));
        let limit = match self.byte_capacity {
            Some(_) => "at the event or byte capacity",
            None => "at the event capacity",
        };
        Promise {
            durability: format!("{durability} ({set_by})"),
            acknowledged: durability.acknowledged(),
            kill_loses: "nothing".to_owned(),
            power_cut_loses: durability.power_cut_loses(),
            repeats: "what sinks had delivered in the moments before, for a delivery is noted without waiting for the disk"
                .to_owned(),
            capacity_events: Some(self.capacity.0 as u64),
            capacity_bytes: self.byte_capacity.map(|bytes| bytes.0),
            when_full: format!(
                "{limit} a put waits {} s for room, then fails; when the disk has no more than {} bytes free \
                 (minimumRequiredSpace) it fails at once; its source tries again, and takes go on",
                self.keep_alive.0.as_secs(),
                self.min_free_bytes()
            ),
            encrypted: self.key_provider.map(|_| match &self.active_key {
                Some(key) => format!("what is put, with AES-256-GCM under the master key {key}"),
                None => "what was put before; without encryption.activeKey new events are stored in the clear".to_owned(),
            }),
            directories: directories.collect(),
        }
    }
}
