//! What the Kafka source, sink and channel share: client properties, producers, consumers
