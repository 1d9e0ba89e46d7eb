//! The one table from our errors to Kafka's error codes. No wildcard arm: a new variant has to choose its code.

use flafka_kafka_wire::records::BatchError;
use flafka_log_store::{CommitError, ReadError};
use kafka_protocol::error::ResponseError;

use crate::log_dirs::Offline;
use crate::topics::{TopicConfigError, TopicError};

/// An error that a client is told as a Kafka error code.
pub trait KafkaCode {
    /// The code, as an enum; `.code()` gives the number on the wire.
    fn kafka_code(&self) -> ResponseError;
}

impl KafkaCode for CommitError {
    fn kafka_code(&self) -> ResponseError {
        match self {
            CommitError::UnknownStream(_) => ResponseError::UnknownTopicOrPartition,
            CommitError::StreamExists(_) => ResponseError::TopicAlreadyExists,
            CommitError::BadStreamName { .. } => ResponseError::InvalidTopicException,
            CommitError::BadSetting { .. } => ResponseError::InvalidConfig,
            CommitError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
            CommitError::InvalidProducerEpoch { .. } => ResponseError::InvalidProducerEpoch,
            CommitError::InvalidBatch(batch) => batch.kafka_code(),
            CommitError::EmptyAppend => ResponseError::InvalidRecord,
            CommitError::TooLarge { .. } => ResponseError::MessageTooLarge,
            CommitError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
            CommitError::NotAcked(_) | CommitError::TooManyAckRanges { .. } => {
                ResponseError::UnknownServerError
            }
            CommitError::NoSpace(_) | CommitError::Io(_) | CommitError::Poisoned(_) => {
                ResponseError::KafkaStorageError
            }
            CommitError::Busy => ResponseError::RequestTimedOut,
            CommitError::Closed => ResponseError::NotLeaderOrFollower,
        }
    }
}

impl KafkaCode for ReadError {
    fn kafka_code(&self) -> ResponseError {
        match self {
            ReadError::UnknownStream(_) => ResponseError::UnknownTopicOrPartition,
            ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
            ReadError::Corrupt { .. } => ResponseError::CorruptMessage,
            ReadError::Io(_) => ResponseError::KafkaStorageError,
            ReadError::Closed => ResponseError::NotLeaderOrFollower,
        }
    }
}

impl KafkaCode for Offline {
    fn kafka_code(&self) -> ResponseError {
        ResponseError::KafkaStorageError
    }
}

impl KafkaCode for BatchError {
    fn kafka_code(&self) -> ResponseError {
        match self {
            BatchError::Short { .. }
            | BatchError::BadLength { .. }
            | BatchError::BadCrc { .. }
            | BatchError::BadBaseOffset { .. }
            | BatchError::Decompress { .. }
            | BatchError::BadRecord { .. } => ResponseError::CorruptMessage,
            BatchError::TrailingBytes { .. }
            | BatchError::BadCount { .. }
            | BatchError::UnsupportedMagic { .. }
            | BatchError::Empty => ResponseError::InvalidRecord,
            BatchError::UnknownCodec { .. } => ResponseError::UnsupportedCompressionType,
            BatchError::TooLargeDecompressed { .. } | BatchError::TooLarge { .. } => {
                ResponseError::MessageTooLarge
            }
            BatchError::Compress { .. } => ResponseError::UnknownServerError,
        }
    }
}

impl KafkaCode for TopicError {
    fn kafka_code(&self) -> ResponseError {
        match self {
            TopicError::Name(_) | TopicError::Collides { .. } => {
                ResponseError::InvalidTopicException
            }
            TopicError::Exists(_) => ResponseError::TopicAlreadyExists,
            TopicError::Unknown(_) => ResponseError::UnknownTopicOrPartition,
            TopicError::Partitions { .. } => ResponseError::InvalidPartitions,
            TopicError::Config(error) => error.kafka_code(),
            TopicError::Log(error) => error.kafka_code(),
        }
    }
}

impl KafkaCode for TopicConfigError {
    fn kafka_code(&self) -> ResponseError {
        match self {
            TopicConfigError::Unknown(_) | TopicConfigError::Invalid { .. } => {
                ResponseError::InvalidConfig
            }
        }
    }
}
