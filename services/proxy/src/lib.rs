//! The load balancer: listeners, workers, forwarding, discovery, probes, admin API.
