//! Tests of the HTTP source: the JSON against Flume's recorded answers, and the server with real
//! sockets, kind and hostile.

mod json;
mod server;
