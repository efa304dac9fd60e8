//! HTTP for the operator: metrics, health.
