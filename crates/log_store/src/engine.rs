//! x
use crate::{Clock, Fs, LogOptions, OpenError, RecoveryReport, log::Shared};
use std::sync::Arc;
pub(crate) struct Engine {
    shared: Arc<Shared>,
}
impl Engine {
    pub(crate) fn open(
        options: LogOptions,
        fs: Arc<dyn Fs>,
        _clock: Arc<dyn Clock>,
    ) -> Result<(Engine, RecoveryReport), OpenError> {
        options.validate()?;
        Ok((
            Engine {
                shared: Arc::new(Shared {
                    fs,
                    registry: Default::default(),
                    tables: Default::default(),
                    open_segments: Default::default(),
                    epoch: 1,
                    cluster_id: String::new(),
                    node_id: options.node_id,
                    failure: Default::default(),
                }),
            },
            RecoveryReport::default(),
        ))
    }
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}
