//! The `replicating` selector: every event into every channel.

use flafka_flow::Batch;
use flafka_flow::registry::{SelectorFactory, TypeNames};
use flafka_flow::selector::{ChannelSelector, Delivery};
use flafka_flow::settings::{Names, Report, Section};

use super::{check_names, indices};

flafka_flow::settings! {
    /// Puts every event into every channel of the source.
    pub struct ReplicatingSelectorConfig {
        /// Channels whose failure is logged and otherwise ignored; a put fails when one of the
        /// others does. Channels, separated by blanks.
        "optional" => optional: Names = Names(Vec::new()),
    }
}

/// Makes replicating selectors.
pub struct ReplicatingSelectorFactory;

impl SelectorFactory for ReplicatingSelectorFactory {
    type Config = ReplicatingSelectorConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("replicating"),
        also: &[],
        classes: &["org.apache.flume.channel.ReplicatingChannelSelector"],
    };

    fn check(
        config: &ReplicatingSelectorConfig,
        channels: &[String],
        section: &Section,
        report: &mut Report,
    ) {
        check_names("optional", &config.optional.0, channels, section, report);
    }

    fn build(config: ReplicatingSelectorConfig, channels: &[String]) -> Box<dyn ChannelSelector> {
        let optional = indices(&config.optional.0, channels);
        let required = (0..channels.len())
            .filter(|index| !optional.contains(index))
            .collect();
        Box::new(ReplicatingSelector { required, optional })
    }
}

struct ReplicatingSelector {
    required: Vec<usize>,
    optional: Vec<usize>,
}

impl ChannelSelector for ReplicatingSelector {
    fn select(&self, batch: Batch) -> Vec<Delivery> {
        let kinds = [(&self.required, true), (&self.optional, false)];
        kinds
            .into_iter()
            .flat_map(|(channels, required)| {
                channels.iter().map(move |channel| (*channel, required))
            })
            .map(|(channel, required)| Delivery {
                channel,
                required,
                batch: batch.clone(),
            })
            .collect()
    }
}
