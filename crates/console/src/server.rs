//! The HTTP listener and its routes.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flafka_flow::counters::Counters;
use serde_json::json;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::{Extra, flume_json, prometheus};

/// Why the endpoints could not be opened.
#[derive(Debug, Error)]
#[error("listen on {address} for /metrics; choose another port with -Dflume.monitoring.port=…")]
pub struct ConsoleError {
    /// The address.
    pub address: SocketAddr,
    /// The cause.
    #[source]
    pub source: std::io::Error,
}

/// The state of one component, as `/health` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentHealth {
    /// Full name, such as `a1.sources.r1`.
    pub name: String,
    /// One word: `starting`, `running`, `finished`, `failed`, `stopped`.
    pub state: &'static str,
    /// The error of a failed one.
    pub error: Option<String>,
    /// What is not as it should be although it works, a sentence each.
    pub warnings: Vec<String>,
}

/// Where the endpoints get what they show; called at each request.
pub trait View: Send + Sync + 'static {
    /// The counters of every component; refreshes gauges first.
    fn counters(&self) -> Vec<Arc<Counters>>;

    /// The state of every component.
    fn health(&self) -> Vec<ComponentHealth>;

    /// Whether every component works.
    fn ready(&self) -> bool;

    /// Metrics that are not a component's.
    fn extras(&self) -> Vec<Extra>;
}

/// A bound listener that is not served yet.
pub struct Console {
    listener: TcpListener,
    address: SocketAddr,
}

impl Console {
    /// Binds the endpoints; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr) -> Result<Self, ConsoleError> {
        let failed = |source| ConsoleError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` ends.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(
        self,
        view: Arc<dyn View>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let router = Router::new().fallback(answer).with_state(view);
        axum::serve(self.listener, router)
            .with_graceful_shutdown(stop)
            .await
    }
}

async fn answer(State(view): State<Arc<dyn View>>, request: Request) -> Response {
    if matches!(*request.method(), Method::TRACE | Method::OPTIONS) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let path = request.uri().path().to_ascii_lowercase();
    match path.trim_end_matches('/') {
        "" => page(),
        "/metrics" => typed(
            "application/json;charset=utf-8",
            flume_json(&view.counters()),
        ),
        "/metrics/prometheus" => {
            let body = prometheus(&view.counters(), &view.extras());
            typed("text/plain; version=0.0.4; charset=utf-8", body)
        }
        "/health" => health(view.as_ref()),
        "/ready" => ready(view.as_ref()),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn typed(content_type: &'static str, body: String) -> Response {
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

fn page() -> Response {
    const LINKS: &[(&str, &str)] = &[
        ("/metrics", "counters as Flume's JSON"),
        ("/metrics/prometheus", "counters for Prometheus"),
        ("/health", "state of each component"),
        ("/ready", "whether every component works"),
    ];
    let links: String = LINKS
        .iter()
        .map(|(path, what)| format!("<li><a href=\"{path}\">{path}</a>: {what}</li>"))
        .collect();
    let html = format!(
        "<!doctype html><html lang=\"en\"><title>Flafka</title><h1>Flafka</h1><ul>{links}</ul></html>"
    );
    typed("text/html; charset=utf-8", html)
}

fn health(view: &dyn View) -> Response {
    let components = view.health();
    let healthy = components
        .iter()
        .all(|component| component.state != "failed");
    let shown: serde_json::Map<_, _> = components
        .into_iter()
        .map(|component| {
            let mut state = json!({ "state": component.state });
            if let Some(error) = component.error {
                state["error"] = error.into();
            }
            if !component.warnings.is_empty() {
                state["warnings"] = component.warnings.into();
            }
            (component.name, state)
        })
        .collect();
    let body = json!({ "status": if healthy { "ok" } else { "failing" }, "components": shown });
    let code = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        code,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

fn ready(view: &dyn View) -> Response {
    let ready = view.ready();
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({ "ready": ready }).to_string();
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use flafka_flow::counters::{ComponentKind, sets};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Failing;

    impl View for Failing {
        fn counters(&self) -> Vec<Arc<Counters>> {
            let counters = Counters::new(ComponentKind::Channel, "c1", sets::CHANNEL, true);
            vec![Arc::new(counters)]
        }

        fn health(&self) -> Vec<ComponentHealth> {
            vec![ComponentHealth {
                name: "a1.sources.r1".to_owned(),
                state: "failed",
                error: Some("bind 0.0.0.0:80: permission denied".to_owned()),
                warnings: vec!["damaged data: somewhere".to_owned()],
            }]
        }

        fn ready(&self) -> bool {
            false
        }

        fn extras(&self) -> Vec<Extra> {
            Vec::new()
        }
    }

    async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address)
            .await
            .expect("connect");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answer");
        answer
    }

    #[tokio::test]
    async fn routes_answer_as_flumes_do() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let console = Console::bind(loopback).await.expect("a free port");
        let address = console.address();
        assert!(
            Console::bind(address).await.is_err(),
            "a taken port is an error"
        );
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server =
            tokio::spawn(console.serve(Arc::new(Failing), async move { drop(stopped.await) }));
        for (method, path, expected) in [
            ("GET", "/metrics", "200 OK"),
            ("POST", "/METRICS", "CHANNEL.c1"),
            ("GET", "/metrics/prometheus", "flafka_channel_size{"),
            ("GET", "/health", "503 Service Unavailable"),
            ("GET", "/health", "permission denied"),
            (
                "GET",
                "/health",
                "\"warnings\":[\"damaged data: somewhere\"]",
            ),
            ("GET", "/ready", "{\"ready\":false}"),
            ("GET", "/", "<a href=\"/metrics\">"),
            ("GET", "/nothing", "404 Not Found"),
            ("OPTIONS", "/metrics", "403 Forbidden"),
        ] {
            let answer = ask(address, method, path).await;
            assert!(answer.contains(expected), "{method} {path}: {answer}");
        }
        stop.send(()).expect("serving");
        server.await.expect("no panic").expect("clean end");
    }
}
