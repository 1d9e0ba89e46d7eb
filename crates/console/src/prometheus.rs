//! `/metrics/prometheus`: every counter, also of the components that Flume's JSON leaves out, in
//! the Prometheus text format 0.0.4.
//!
//! Names are `flafka_<snake case of Flume's name>` with the unit's ending (`_total`,
//! `_milliseconds_total`), labels `component` (source, channel, sink, broker) and `name`.

use std::fmt::Write;
use std::sync::Arc;

use flafka_flow::counters::{ComponentKind, Counters, Metric, Unit};

/// A metric that is not a component's: of the broker or the process.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra {
    /// Full name with its unit's ending.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Labels and value of each series.
    pub series: Vec<(Vec<(&'static str, String)>, f64)>,
}

/// The whole page.
pub fn render(counters: &[Arc<Counters>], extras: &[Extra]) -> String {
    let mut page = String::new();
    for metric in Metric::ALL {
        let showing: Vec<_> = counters
            .iter()
            .filter(|counters| counters.shown().contains(metric))
            .collect();
        if showing.is_empty() {
            continue;
        }
        let name = name(*metric);
        let kind = match metric.unit() {
            Unit::Count | Unit::Milliseconds => "counter",
            Unit::Gauge | Unit::Flag => "gauge",
        };
        head(&mut page, &name, metric.help(), kind);
        for counters in showing {
            let labels = [
                ("component", word(counters.kind())),
                ("name", counters.name()),
            ];
            line(
                &mut page,
                &name,
                labels.into_iter(),
                counters.get(*metric) as f64,
            );
        }
    }
    for extra in extras {
        head(&mut page, extra.name, extra.help, extra.kind);
        for (labels, value) in &extra.series {
            let labels = labels.iter().map(|(label, text)| (*label, text.as_str()));
            line(&mut page, extra.name, labels, *value);
        }
    }
    page
}

fn word(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Source => "source",
        ComponentKind::Channel => "channel",
        ComponentKind::Sink => "sink",
        ComponentKind::Broker => "broker",
    }
}

/// `EventPutSuccessCount` becomes `flafka_event_put_success_total`.
fn name(metric: Metric) -> String {
    let base = match metric.unit() {
        Unit::Count => metric.name().trim_end_matches("Count"),
        Unit::Milliseconds => metric.name().trim_end_matches("Timer"),
        Unit::Gauge | Unit::Flag => metric.name(),
    };
    let mut name = String::from("flafka");
    for letter in base.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name.push_str(match metric.unit() {
        Unit::Count => "_total",
        Unit::Milliseconds => "_milliseconds_total",
        Unit::Gauge | Unit::Flag => "",
    });
    name
}

fn head(page: &mut String, name: &str, help: &str, kind: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', " ");
    write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n")
        .expect("a String takes everything");
}

fn line<'l>(
    page: &mut String,
    name: &str,
    labels: impl Iterator<Item = (&'l str, &'l str)>,
    value: f64,
) {
    let labels: Vec<_> = labels
        .map(|(label, text)| {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{label}=\"{text}\"")
        })
        .collect();
    let labels = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    };
    writeln!(page, "{name}{labels} {value}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use flafka_flow::counters::sets;

    use super::*;

    #[test]
    fn names_carry_units_and_labels_are_escaped() {
        let counters = Counters::new(ComponentKind::Source, "we\"ird", sets::KAFKA_SOURCE, true);
        counters.add(Metric::KafkaEventGetTimer, 12);
        counters.add(Metric::EventReceivedCount, 3);
        let extra = Extra {
            name: "flafka_broker_requests_total",
            help: "Requests.",
            kind: "counter",
            series: vec![
                (vec![("api", "Produce".to_owned())], 2.0),
                (Vec::new(), 5.0),
            ],
        };
        let page = render(&[Arc::new(counters)], &[extra]);
        assert!(
            page.contains("# TYPE flafka_event_received_total counter\n"),
            "{page}"
        );
        assert!(
            page.contains(
                "flafka_event_received_total{component=\"source\",name=\"we\\\"ird\"} 3\n"
            ),
            "{page}"
        );
        assert!(
            page.contains("flafka_kafka_event_get_milliseconds_total{"),
            "{page}"
        );
        assert!(page.contains("flafka_open_connection_count{"), "{page}");
        assert!(
            page.contains("flafka_broker_requests_total{api=\"Produce\"} 2\n"),
            "{page}"
        );
        assert!(page.ends_with("flafka_broker_requests_total 5\n"), "{page}");
    }
}
