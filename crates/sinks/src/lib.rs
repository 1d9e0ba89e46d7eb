//! The sinks: kafka, file_roll, logger, null, and the event serializers
