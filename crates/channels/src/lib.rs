//! The channels: memory, file, kafka
