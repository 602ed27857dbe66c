//! The paths of the port.

/// Every path that is answered, as a person writes it.
pub(super) const PATHS: [&str; 16] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/status",
    "/v1/queries",
    "POST /v1/query/{name}",
    "/v1/state/{name}?prefix=&after=&limit=&at=",
    "/v1/state/{name}/{key}",
    "/v1/topology",
    "/v1/operators",
    "/v1/batches?limit=N",
    "/v1/batches/{txid}",
    "/v1/live (a web socket)",
    "POST /v1/sources/{pause, resume, drain}",
    "/drpc/{function}/{args}",
    "/openapi.json",
];
