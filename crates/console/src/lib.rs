//! The agent's HTTP endpoints: metrics, health, readiness
