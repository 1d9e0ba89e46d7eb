//! The way from a source into its channels (Flume reference 3.4): interceptors, selector, one
//! transaction for each channel.

use std::sync::Arc;

use async_trait::async_trait;
use flafka_flow::Batch;
use flafka_flow::channel::{Channel, ChannelError};
use flafka_flow::interceptor::Interceptor;
use flafka_flow::selector::ChannelSelector;
use flafka_flow::source::ChannelProcessor;
use tracing::warn;

/// Runs the interceptors in their order, lets the selector choose, and puts.
pub struct SelectingProcessor {
    source: String,
    interceptors: Vec<Box<dyn Interceptor>>,
    selector: Box<dyn ChannelSelector>,
    channels: Vec<Arc<dyn Channel>>,
}

impl SelectingProcessor {
    /// A processor for the source with the full name `source`; `channels` are in the order of
    /// the source's list, whose indices the selector returns.
    pub fn new(
        source: String,
        interceptors: Vec<Box<dyn Interceptor>>,
        selector: Box<dyn ChannelSelector>,
        channels: Vec<Arc<dyn Channel>>,
    ) -> Self {
        Self {
            source,
            interceptors,
            selector,
            channels,
        }
    }
}

#[async_trait]
impl ChannelProcessor for SelectingProcessor {
    async fn process(&self, batch: Batch) -> Result<(), ChannelError> {
        let batch = self
            .interceptors
            .iter()
            .fold(batch, |batch, interceptor| interceptor.intercept(batch));
        if batch.is_empty() {
            return Ok(());
        }
        for delivery in self.selector.select(batch) {
            let channel = &self.channels[delivery.channel];
            match channel.put(delivery.batch).await {
                Ok(()) => {}
                Err(error) if delivery.required => return Err(error),
                Err(error) => {
                    warn!(
                        source = self.source,
                        error = error.chain(),
                        "optional channel refused events"
                    );
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flafka_flow::conformance::doubles::TestChannel;
    use flafka_flow::conformance::numbers;
    use flafka_flow::selector::Delivery;

    use super::*;

    struct Halves;

    impl ChannelSelector for Halves {
        fn select(&self, batch: Batch) -> Vec<Delivery> {
            let middle = batch.len() / 2;
            let delivery = |channel, batch| Delivery {
                channel,
                required: true,
                batch,
            };
            vec![
                delivery(0, batch.slice(0..middle)),
                delivery(1, batch.slice(middle..batch.len())),
            ]
        }
    }

    struct DropFirst;

    impl Interceptor for DropFirst {
        fn intercept(&self, batch: Batch) -> Batch {
            batch.slice(1..batch.len())
        }
    }

    #[tokio::test]
    async fn interceptors_run_before_the_selector() {
        let (left, right) = (TestChannel::new(), TestChannel::new());
        let processor = SelectingProcessor::new(
            "a1.sources.r1".to_owned(),
            vec![Box::new(DropFirst)],
            Box::new(Halves),
            vec![
                Arc::clone(&left) as Arc<dyn Channel>,
                Arc::clone(&right) as Arc<dyn Channel>,
            ],
        );
        processor.process(numbers(0..6)).await.expect("put");
        assert_eq!((left.remaining(), right.remaining()), (2, 3));
        processor
            .process(numbers(0..1))
            .await
            .expect("an emptied batch is a success");
        assert_eq!((left.remaining(), right.remaining()), (2, 3));
    }
}
