//! The `timestamp` interceptor: when an event passed by.

use std::sync::Arc;

use flafka_flow::Batch;
use flafka_flow::clock::Clock;
use flafka_flow::interceptor::Interceptor;
use flafka_flow::registry::{BuildContext, BuildError, InterceptorFactory, TypeNames};

flafka_flow::settings! {
    /// Sets a header to the time at which the event passes, in milliseconds since the epoch. One
    /// time for all events of a batch.
    pub struct TimestampInterceptorConfig {
        /// Name of the header.
        "headerName" => header: String = "timestamp".to_owned(),
        /// Whether an event that has the header keeps its value.
        "preserveExisting" => preserve_existing: bool = false,
    }
}

/// Makes timestamp interceptors.
pub struct TimestampInterceptorFactory;

impl InterceptorFactory for TimestampInterceptorFactory {
    type Config = TimestampInterceptorConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("timestamp"),
        also: &[],
        classes: &["org.apache.flume.interceptor.TimestampInterceptor$Builder"],
    };

    fn build(
        config: TimestampInterceptorConfig,
        context: &BuildContext,
    ) -> Result<Box<dyn Interceptor>, BuildError> {
        Ok(Box::new(TimestampInterceptor {
            config,
            clock: Arc::clone(&context.clock),
        }))
    }
}

struct TimestampInterceptor {
    config: TimestampInterceptorConfig,
    clock: Arc<dyn Clock>,
}

impl Interceptor for TimestampInterceptor {
    fn intercept(&self, batch: Batch) -> Batch {
        let now = self.clock.now_ms().to_string();
        let config = &self.config;
        crate::set_header(batch, &config.header, &now, config.preserve_existing)
    }
}
