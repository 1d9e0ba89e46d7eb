//! The `uuid` interceptor: a name of its own for each event.

use ::uuid::Builder;
use ::uuid::fmt::Hyphenated;
use flafka_flow::interceptor::Interceptor;
use flafka_flow::registry::{BuildContext, BuildError, InterceptorFactory, TypeNames};
use flafka_flow::{Batch, HeadersBuilder};
use rand::RngCore;

/// Bytes of randomness in one UUID.
const UUID_BYTES: usize = 16;

flafka_flow::settings! {
    /// Sets a header to a random (version 4) UUID, a new one for each event. Costs more than the
    /// other interceptors: each event then has headers of its own.
    pub struct UuidInterceptorConfig {
        /// Name of the header.
        "headerName" => header: String = "id".to_owned(),
        /// Whether an event that has the header keeps its value.
        "preserveExisting" => preserve_existing: bool = true,
        /// Text before the UUID.
        "prefix" => prefix: String = String::new(),
    }
}

/// Makes uuid interceptors.
pub struct UuidInterceptorFactory;

impl InterceptorFactory for UuidInterceptorFactory {
    type Config = UuidInterceptorConfig;
    const NAMES: TypeNames = TypeNames {
        alias: None,
        also: &["uuid"],
        classes: &["org.apache.flume.sink.solr.morphline.UUIDInterceptor$Builder"],
    };

    fn build(
        config: UuidInterceptorConfig,
        _context: &BuildContext,
    ) -> Result<Box<dyn Interceptor>, BuildError> {
        Ok(Box::new(UuidInterceptor { config }))
    }
}

struct UuidInterceptor {
    config: UuidInterceptorConfig,
}

impl Interceptor for UuidInterceptor {
    fn intercept(&self, batch: Batch) -> Batch {
        let config = &self.config;
        let mut random = vec![0u8; batch.len() * UUID_BYTES];
        rand::rng().fill_bytes(&mut random);
        let (random, _) = random.as_chunks::<UUID_BYTES>();
        let mut value = config.prefix.clone();
        let mut text = [0u8; Hyphenated::LENGTH];
        batch.map_headers(|index, event| {
            if config.preserve_existing && event.headers.get(&config.header).is_some() {
                return event.headers.clone();
            }
            let uuid = Builder::from_random_bytes(random[index]).into_uuid();
            value.truncate(config.prefix.len());
            value.push_str(uuid.hyphenated().encode_lower(&mut text));
            let mut headers = HeadersBuilder::from(event.headers);
            headers.set(&config.header, &value);
            headers.finish()
        })
    }
}
