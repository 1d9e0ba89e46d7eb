//! Java client properties to librdkafka's.
//!
//! Most keys are spelt alike. The table lists those that are not, those that have nothing to do
//! here, and those that cannot be had; every other key goes to librdkafka as it is, which knows
//! whether it exists.

use std::collections::BTreeMap;

use flafka_flow::settings::{Prefixed, Reader};
use rdkafka::ClientConfig;

/// Which client the properties are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A producer.
    Producer,
    /// A consumer.
    Consumer,
}

/// What becomes of one Java property.
enum Translation {
    /// librdkafka has it under this name, same value.
    Renamed(&'static str),
    /// Librdkafka's pairs computed from the value.
    Pairs(Vec<(String, String)>),
    /// Nothing to do here, with the reason.
    Moot(&'static str),
    /// Cannot be had, with the reason and what to do.
    Refused(String),
}

use Translation::{Moot, Pairs, Refused, Renamed};

/// The configuration of a client: our defaults, then the user's properties.
///
/// `defaults` are librdkafka pairs that the user may override; `forced` are not overridable.
///
/// # Errors
/// With one line for each property that cannot be had; [`check_properties`] reports the same
/// before the start.
pub fn client_config(
    role: Role,
    bootstrap_servers: &str,
    properties: &BTreeMap<String, String>,
    defaults: &[(&str, &str)],
    forced: &[(&str, &str)],
) -> Result<ClientConfig, Vec<String>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers);
    if role == Role::Producer {
        // As the Java client: the same key goes to the same partition, whoever sends it.
        config.set("partitioner", "murmur2_random");
    }
    for (key, value) in defaults {
        config.set(*key, *value);
    }
    for (key, value) in reconnect_backoff(properties) {
        config.set(key, value.to_string());
    }
    let mut refused = Vec::new();
    for (key, value) in properties {
        match translate(role, key, value) {
            // Set above, both by the values of both.
            Renamed(_) if key.starts_with(RECONNECT) && value.trim().parse::<u64>().is_ok() => {}
            Renamed(name) => drop(config.set(name, value)),
            Pairs(pairs) => {
                for (key, value) in pairs {
                    config.set(key, value);
                }
            }
            Moot(_) => {}
            Refused(reason) => refused.push(format!("{key}: {reason}")),
        }
    }
    for (key, value) in forced {
        config.set(*key, *value);
    }
    if refused.is_empty() {
        Ok(config)
    } else {
        Err(refused)
    }
}

/// The two keys of the pause before a broker is connected to again.
const RECONNECT: &str = "reconnect.backoff.";

/// That pause and its longest, in milliseconds, as in Java: 50 doubling up to 1000 (librdkafka would wait up to ten
/// seconds); with only the first key given it does not grow, and the longest bounds both.
fn reconnect_backoff(properties: &BTreeMap<String, String>) -> [(&'static str, u64); 2] {
    let given = |key: &str| properties.get(key)?.trim().parse::<u64>().ok();
    let first = given("reconnect.backoff.ms");
    let longest = given("reconnect.backoff.max.ms").or(first).unwrap_or(1000);
    let first = first.unwrap_or(50).min(longest);
    [
        ("reconnect.backoff.ms", first),
        ("reconnect.backoff.max.ms", longest),
    ]
}

/// Reports what is wrong with the client properties below `prefix`, without any network.
pub fn check_properties(role: Role, prefix: &str, properties: &Prefixed, reader: &mut Reader<'_>) {
    for (key, value) in &properties.0 {
        let full = format!("{prefix}{key}");
        let pairs = match translate(role, key, value) {
            Renamed(name) => vec![(name.to_owned(), value.clone())],
            Pairs(pairs) => pairs,
            Moot(reason) => {
                reader.note(&full, reason);
                continue;
            }
            Refused(reason) => {
                refuse(reader, &full, key, reason);
                continue;
            }
        };
        for (name, value) in pairs {
            let mut probe = ClientConfig::new();
            probe.set(&name, &value);
            if let Err(error) = probe.create_native_config() {
                let reason = match error {
                    rdkafka::error::KafkaError::ClientConfig(_, description, _, _) => description,
                    other => other.to_string(),
                };
                refuse(reader, &full, key, reason);
            }
        }
    }
}

fn refuse(reader: &mut Reader<'_>, full: &str, key: &str, reason: String) {
    if is_secret(key) {
        reader.secret_error(full, reason);
    } else {
        reader.error(full, reason, None);
    }
}

/// Whether a property's value must never be shown.
pub fn is_secret(key: &str) -> bool {
    key.contains("password")
        || key.contains("jaas")
        || key.contains("secret")
        || key.ends_with(".key")
}

fn translate(role: Role, key: &str, value: &str) -> Translation {
    match (role, key) {
        (_, "key.serializer" | "value.serializer" | "key.deserializer" | "value.deserializer") => {
            serializer(key, value)
        }
        (Role::Producer, "buffer.memory") => kibibytes("queue.buffering.max.kbytes", value),
        (Role::Producer, "max.request.size") => Renamed("message.max.bytes"),
        (Role::Producer, "max.block.ms") => Moot(
            "a full client queue waits for room, without a limit of its own; delivery.timeout.ms limits the whole send",
        ),
        (Role::Producer, "transactional.id" | "transaction.timeout.ms") => {
            Refused("transactions are not used by this component; remove the key".to_owned())
        }
        (Role::Producer, "partitioner.class") => partitioner(value),
        (Role::Producer, "compression.type") if value.eq_ignore_ascii_case("none") => {
            pair("compression.type", "none")
        }
        (Role::Consumer, "max.poll.records") => {
            Moot("the batch size of the component decides how many records are taken at once")
        }
        (Role::Consumer, "fetch.max.wait.ms") => Renamed("fetch.wait.max.ms"),
        // How soon a new topic or partition is seen; librdkafka's key of this name is about its cache.
        (_, "metadata.max.age.ms") => Renamed("topic.metadata.refresh.interval.ms"),
        (Role::Consumer, "auto.offset.reset") if value == "none" => {
            pair("auto.offset.reset", "error")
        }
        (Role::Consumer, "enable.auto.commit" | "auto.commit.interval.ms") => {
            Moot("offsets are committed after delivery only, as in Flume")
        }
        (Role::Consumer, "partition.assignment.strategy") => assignors(value),
        (Role::Consumer, "exclude.internal.topics" | "allow.auto.create.topics")
            if key.starts_with("exclude") =>
        {
            Moot("internal topics are read only when they are named")
        }
        (
            Role::Consumer,
            "timeout.ms"
            | "consumer.timeout.ms"
            | "zookeeper.connect"
            | "zookeeper.session.timeout.ms",
        ) => Moot("a key of Kafka's old consumer; it has had no effect since Flume 1.7"),
        (Role::Consumer, "default.api.timeout.ms") => {
            Moot("calls that wait have limits of their own here")
        }
        (
            _,
            "interceptor.classes"
            | "sasl.login.class"
            | "sasl.login.callback.handler.class"
            | "sasl.client.callback.handler.class"
            | "security.providers",
        ) => Refused("a Java class cannot be loaded here; remove the key".to_owned()),
        (
            _,
            "metric.reporters"
            | "metrics.num.samples"
            | "metrics.recording.level"
            | "metrics.sample.window.ms"
            | "auto.include.jmx.reporter",
        ) => Moot("Java client metrics; see /metrics/prometheus"),
        (_, "receive.buffer.bytes") => buffer("socket.receive.buffer.bytes", value),
        (_, "send.buffer.bytes") => buffer("socket.send.buffer.bytes", value),
        (_, "client.dns.lookup") if value == "default" => Moot("`default` is what happens anyway"),
        (_, "sasl.jaas.config") => jaas(value),
        (_, "sasl.kerberos.service.name") => Renamed("sasl.kerberos.service.name"),
        (_, "ssl.endpoint.identification.algorithm") => pair(
            "ssl.endpoint.identification.algorithm",
            if value.trim().is_empty() {
                "none"
            } else {
                "https"
            },
        ),
        (_, "ssl.truststore.location") => truststore(value),
        (_, "ssl.truststore.type" | "ssl.keystore.type") if matches!(value, "PEM" | "PKCS12") => {
            Moot("the kind of store is seen from the file")
        }
        (_, "ssl.truststore.type" | "ssl.keystore.type") => jks(value),
        (_, "ssl.truststore.password") => Moot("the certificates of a PEM file need no password"),
        (_, "ssl.keystore.location") if value.to_ascii_lowercase().ends_with(".jks") => jks(value),
        (_, "ssl.truststore.certificates") => Renamed("ssl.ca.pem"),
        (_, "ssl.keystore.certificate.chain") => Renamed("ssl.certificate.pem"),
        (_, "ssl.keystore.key") => Renamed("ssl.key.pem"),
        (
            _,
            "ssl.protocol"
            | "ssl.enabled.protocols"
            | "ssl.provider"
            | "ssl.secure.random.implementation"
            | "ssl.trustmanager.algorithm"
            | "ssl.keymanager.algorithm",
        ) => Moot("TLS 1.2 and 1.3 are used; OpenSSL has no such choice"),
        (_, "ssl.disableTLSHostnameVerification") => pair(
            "ssl.endpoint.identification.algorithm",
            if value.eq_ignore_ascii_case("true") {
                "none"
            } else {
                "https"
            },
        ),
        (_, other) => pair(other, value),
    }
}

fn pair(key: &str, value: &str) -> Translation {
    Pairs(vec![(key.to_owned(), value.to_owned())])
}

fn kibibytes(key: &str, value: &str) -> Translation {
    match value.parse::<u64>() {
        Ok(bytes) => pair(
            key,
            &bytes.div_ceil(1024).clamp(1, 2_147_483_647).to_string(),
        ),
        Err(_) => Refused("not a number of bytes".to_owned()),
    }
}

/// -1 means the system's default in Java, 0 in librdkafka.
fn buffer(key: &str, value: &str) -> Translation {
    pair(key, if value == "-1" { "0" } else { value })
}

fn serializer(key: &str, class: &str) -> Translation {
    match class.rsplit('.').next().unwrap_or(class) {
        "StringSerializer"
        | "ByteArraySerializer"
        | "StringDeserializer"
        | "ByteArrayDeserializer" => {
            Moot("keys are text and values are bytes here, as with Flume's default serializers")
        }
        _ => Refused(format!(
            "{class} cannot be loaded: {key} is fixed to text keys and byte values; remove the key"
        )),
    }
}

fn partitioner(class: &str) -> Translation {
    match class.rsplit('.').next().unwrap_or(class) {
        "DefaultPartitioner" | "BuiltInPartitioner" => pair("partitioner", "murmur2_random"),
        "UniformStickyPartitioner" | "RoundRobinPartitioner" => pair("partitioner", "random"),
        _ => Refused(format!(
            "{class} cannot be loaded; use partitionIdHeader to choose partitions"
        )),
    }
}

fn assignors(classes: &str) -> Translation {
    let mut names = Vec::new();
    for class in classes.split(',').map(str::trim) {
        names.push(match class.rsplit('.').next().unwrap_or(class) {
            "RangeAssignor" | "range" => "range",
            "RoundRobinAssignor" | "roundrobin" => "roundrobin",
            "StickyAssignor" | "CooperativeStickyAssignor" | "cooperative-sticky" => "cooperative-sticky",
            _ => return Refused(format!("unknown assignor {class}; known: RangeAssignor, RoundRobinAssignor, CooperativeStickyAssignor")),
        });
    }
    if names.contains(&"cooperative-sticky") && names.len() > 1 {
        names.retain(|name| *name == "cooperative-sticky");
    }
    pair("partition.assignment.strategy", &names.join(","))
}

fn jks(value: &str) -> Translation {
    Refused(format!(
        "JKS stores cannot be read by this client ({value}); convert once: `keytool -importkeystore -srckeystore OLD -destkeystore NEW.p12 -deststoretype PKCS12` for a key, `keytool -exportcert -rfc` for CA certificates"
    ))
}

fn truststore(path: &str) -> Translation {
    let lower = path.to_ascii_lowercase();
    if lower.ends_with(".pem") || lower.ends_with(".crt") || lower.ends_with(".cer") {
        return Renamed("ssl.ca.location");
    }
    Refused(format!(
        "CA certificates are read from PEM files only ({path}); convert once: `keytool -exportcert -rfc -keystore STORE -alias NAME > ca.pem`"
    ))
}

/// Takes user and password out of a JAAS line for PLAIN or SCRAM.
fn jaas(value: &str) -> Translation {
    let module = value.split_whitespace().next().unwrap_or_default();
    if !module.ends_with("PlainLoginModule") && !module.ends_with("ScramLoginModule") {
        return Refused(
            "only PlainLoginModule and ScramLoginModule are understood here".to_owned(),
        );
    }
    match (
        jaas_option(value, "username"),
        jaas_option(value, "password"),
    ) {
        (Some(user), Some(password)) => Pairs(vec![
            ("sasl.username".to_owned(), user),
            ("sasl.password".to_owned(), password),
        ]),
        _ => Refused("username=\"…\" and password=\"…\" are needed".to_owned()),
    }
}

fn jaas_option(value: &str, name: &str) -> Option<String> {
    let at = value.find(&format!("{name}="))? + name.len() + 1;
    let rest = &value[at..];
    let mut characters = rest.chars();
    let quote = characters
        .next()
        .filter(|first| matches!(first, '"' | '\''));
    let Some(quote) = quote else {
        let end = rest
            .find(|c: char| c.is_whitespace() || c == ';')
            .unwrap_or(rest.len());
        return Some(rest[..end].to_owned());
    };
    let mut text = String::new();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            end if end == quote => return Some(text),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use flafka_flow::settings::{Report, Section};

    use super::*;

    fn config(role: Role, pairs: &[(&str, &str)]) -> Result<ClientConfig, Vec<String>> {
        let properties = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        client_config(role, "127.0.0.1:9092", &properties, &[("acks", "all")], &[])
    }

    #[test]
    fn java_keys_become_librdkafkas() {
        let producer = config(
            Role::Producer,
            &[
                ("acks", "1"),
                ("buffer.memory", "33554432"),
                ("max.request.size", "2000000"),
                ("key.serializer", "org.apache.kafka.common.serialization.StringSerializer"),
                ("sasl.jaas.config", "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"a\" password=\"b\\\"c\";"),
            ],
        )
        .expect("all can be had");
        let get = |key| producer.get(key);
        assert_eq!(get("acks"), Some("1"));
        assert_eq!(get("queue.buffering.max.kbytes"), Some("32768"));
        assert_eq!(get("message.max.bytes"), Some("2000000"));
        assert_eq!(
            (get("sasl.username"), get("sasl.password")),
            (Some("a"), Some("b\"c"))
        );
        assert!(get("key.serializer").is_none());
        assert_eq!(get("partitioner"), Some("murmur2_random"), "Java's choice");
        producer
            .create_native_config()
            .expect("librdkafka takes it");

        let consumer = config(
            Role::Consumer,
            &[
                (
                    "partition.assignment.strategy",
                    "org.apache.kafka.clients.consumer.RoundRobinAssignor",
                ),
                ("fetch.max.wait.ms", "100"),
                ("ssl.endpoint.identification.algorithm", ""),
            ],
        )
        .expect("all can be had");
        assert_eq!(
            consumer.get("partition.assignment.strategy"),
            Some("roundrobin")
        );
        assert_eq!(consumer.get("fetch.wait.max.ms"), Some("100"));
        assert_eq!(
            consumer.get("ssl.endpoint.identification.algorithm"),
            Some("none")
        );
    }

    #[test]
    fn a_broker_is_connected_to_again_as_soon_as_by_the_java_client() {
        type Given = &'static [(&'static str, &'static str)];
        let cases: [(Given, [&str; 2]); 5] = [
            (&[], ["50", "1000"]),
            (&[("reconnect.backoff.ms", "200")], ["200", "200"]),
            (&[("reconnect.backoff.max.ms", "9000")], ["50", "9000"]),
            (&[("reconnect.backoff.max.ms", "20")], ["20", "20"]),
            (
                &[
                    ("reconnect.backoff.ms", "70"),
                    ("reconnect.backoff.max.ms", "700"),
                ],
                ["70", "700"],
            ),
        ];
        for (given, [first, longest]) in cases {
            for role in [Role::Producer, Role::Consumer] {
                let made = config(role, given).expect("all can be had");
                assert_eq!(made.get("reconnect.backoff.ms"), Some(first), "{given:?}");
                assert_eq!(made.get("reconnect.backoff.max.ms"), Some(longest));
                made.create_native_config().expect("librdkafka takes it");
            }
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_reason() {
        let refused = config(
            Role::Producer,
            &[
                ("interceptor.classes", "a.B"),
                ("ssl.truststore.location", "x.jks"),
            ],
        );
        let refused = refused.expect_err("both");
        assert_eq!(refused.len(), 2);
        assert!(refused[1].contains("keytool"), "{refused:?}");

        let section = Section::of(
            "a.sinks.k",
            [
                ("p.acsk", "1"),
                ("p.linger.ms", "abc"),
                ("p.linger.ms2", "1"),
                ("p.acks", "all"),
            ],
        );
        let mut report = Report::new();
        let mut reader = Reader::new(&section, &mut report);
        let below = reader
            .prefixed("p.")
            .into_iter()
            .map(|(key, entry)| (key, entry.value.clone()))
            .collect();
        check_properties(Role::Producer, "p.", &Prefixed(below), &mut reader);
        let keys: Vec<_> = report
            .problems()
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "a.sinks.k.p.acsk",
                "a.sinks.k.p.linger.ms",
                "a.sinks.k.p.linger.ms2"
            ]
        );
    }
}
