//! The interceptors: timestamp, host, static, uuid
