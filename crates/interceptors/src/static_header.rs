//! The `static` interceptor: one fixed header.

use flafka_flow::Batch;
use flafka_flow::interceptor::Interceptor;
use flafka_flow::registry::{BuildContext, BuildError, InterceptorFactory, TypeNames};

flafka_flow::settings! {
    /// Sets one header to one fixed value on all events.
    pub struct StaticInterceptorConfig {
        /// Name of the header.
        "key" => key: String = "key".to_owned(),
        /// Its value.
        "value" => value: String = "value".to_owned(),
        /// Whether an event that has the header keeps its value.
        "preserveExisting" => preserve_existing: bool = true,
    }
}

/// Makes static interceptors.
pub struct StaticInterceptorFactory;

impl InterceptorFactory for StaticInterceptorFactory {
    type Config = StaticInterceptorConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("static"),
        also: &[],
        classes: &["org.apache.flume.interceptor.StaticInterceptor$Builder"],
    };

    fn build(
        config: StaticInterceptorConfig,
        _context: &BuildContext,
    ) -> Result<Box<dyn Interceptor>, BuildError> {
        Ok(Box::new(StaticInterceptor { config }))
    }
}

struct StaticInterceptor {
    config: StaticInterceptorConfig,
}

impl Interceptor for StaticInterceptor {
    fn intercept(&self, batch: Batch) -> Batch {
        let config = &self.config;
        crate::set_header(batch, &config.key, &config.value, config.preserve_existing)
    }
}
