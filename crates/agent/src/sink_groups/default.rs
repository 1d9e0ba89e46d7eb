//! The `default` processor: one sink, and nothing else.

use async_trait::async_trait;
use flafka_flow::channel::error_chain;
use flafka_flow::registry::{BuildContext, SinkProcessorFactory, TypeNames};
use flafka_flow::settings::{Problem, Report, Section, Severity};
use flafka_flow::sink::{SinkError, Status};
use flafka_flow::sink_processor::{NamedSink, SinkProcessor};
use tracing::warn;

flafka_flow::settings! {
    /// Lets exactly one sink work. A sink outside any group has this processor.
    pub struct DefaultProcessorConfig {}
}

/// Makes default processors.
pub struct DefaultProcessorFactory;

impl SinkProcessorFactory for DefaultProcessorFactory {
    type Config = DefaultProcessorConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("default"),
        also: &[],
        classes: &["org.apache.flume.sink.DefaultSinkProcessor"],
    };

    fn check(
        _config: &DefaultProcessorConfig,
        sinks: &[String],
        section: &Section,
        report: &mut Report,
    ) {
        if sinks.len() != 1 {
            let message = format!(
                "the default processor works with exactly one sink; the group has {}",
                sinks.len()
            );
            report.push(
                Problem::new(Severity::Error, section.path.clone(), message)
                    .at(section.span)
                    .help("set `processor.type` to `failover` or `load_balance`"),
            );
        }
    }

    fn build(
        _config: DefaultProcessorConfig,
        sinks: Vec<NamedSink>,
        _context: &BuildContext,
    ) -> Box<dyn SinkProcessor> {
        Box::new(DefaultProcessor { sinks })
    }
}

/// Holds its one sink in a list, so that a wrong count is an error of the check alone.
struct DefaultProcessor {
    sinks: Vec<NamedSink>,
}

#[async_trait]
impl SinkProcessor for DefaultProcessor {
    async fn start(&mut self) -> Result<(), SinkError> {
        for named in &mut self.sinks {
            named.sink.start().await?;
        }
        Ok(())
    }

    async fn process(&mut self) -> Result<Status, SinkError> {
        match self.sinks.first_mut() {
            Some(named) => named.sink.process().await,
            None => Ok(Status::Backoff),
        }
    }

    async fn stop(&mut self) {
        for named in &mut self.sinks {
            if let Err(error) = named.sink.stop().await {
                warn!(
                    sink = named.name,
                    error = error_chain(&error),
                    "the sink did not stop cleanly"
                );
            }
        }
    }
}
