//! The demo and test backend: identity, echo, delay, streams, WebSocket, injectable faults.
