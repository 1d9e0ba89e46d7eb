//! The sources: taildir, spooldir, http, netcat, exec, seq, kafka
