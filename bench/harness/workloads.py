"""The rows of the report: what is sent, which number counts, and the bar that it has to meet."""

from dataclasses import dataclass


@dataclass
class Row:
    key: str
    title: str
    load: tuple
    # What is compared with the best peer: (key of the number, words, better, bar as a ratio).
    bars: tuple
    workers: int = 1
    # At half of what HAProxy can do in the first row.
    is_open: bool = False
    # From HTTP/2 clients.
    is_http2: bool = False


LOW, HIGH = "low", "high"

ROWS = [
    Row("small", "Small GET, 64 kept-alive connections, 1 worker", (),
        (("cpu_us", "CPU per request", LOW, 1.0),)),
    Row("small-2", "Small GET, 64 kept-alive connections, 2 workers", (),
        (("cpu_us", "CPU per request", LOW, 1.0), ("per_second", "requests per second", HIGH, 1.0)), workers=2),
    Row("open", "Small GET at a fixed rate, half of HAProxy's maximum, 1 worker", (),
        (("p99_us", "p99", LOW, 1.0), ("p999_us", "p99.9", LOW, 1.0)), is_open=True),
    Row("post", "POST of 16 KiB, 64 connections, 1 worker", ("--upload", 16384),
        (("mib_per_cpu", "bytes per CPU second", HIGH, 1.0),)),
    Row("large", "Response of 1 MiB, 16 connections, 1 worker", ("--path", "/bytes/1048576", "--connections", 16),
        (("mib_per_cpu", "bytes per CPU second", HIGH, 1.0),)),
    Row("connect", "A new connection for every request, 64 at a time, 1 worker", ("--reconnect",),
        (("cpu_us", "CPU per request", LOW, 1.0),)),
    Row("http2", "Small GET from HTTP/2 clients, 64 connections of 10 streams, 1 worker", (),
        (("per_second", "requests per second", HIGH, 1.0), ("cpu_us", "CPU per request", LOW, 1.0)), is_http2=True),
]

IDLE_CONNECTIONS = 10_000
MANY_BACKENDS = 1_000

# Three backends that take a request's time for an answer and may have so many at once; then ten times
# as many requests come as they can answer.
OVERLOAD_DELAY_MS, OVERLOAD_IN_FLIGHT, OVERLOAD_FACTOR = 20, 4, 10
# How much of its peak is still answered then; within how many milliseconds the rest is refused (p99,
# less that of the same rate without a proxy: a shared machine has pauses of its own); and p99 in the
# second that follows, at half of the peak, by what it was before.
OVERLOAD_BARS = {"goodput": 0.9, "refused_more_ms": 5, "after": 1.25}

# How much of the cheapest policy's request the dearest may cost.
POLICIES_BAR = 1.03

# How much of a request without records one may cost of which the usual share is recorded.
DECISIONS_BAR = 1.02

# Bytes of a body on its way, per request, for MiB per CPU second.
PAYLOAD = {"post": 16384, "large": 1048576}


def measure(bench, row, peer, rate):
    """One round of a row."""
    options = [*row.load, "--rate", rate] if row.is_open else row.load
    load = bench.http2_load if row.is_http2 else bench.load
    numbers = bench.under_load(peer, *options, workers=row.workers, load=load)
    if row.key in PAYLOAD:
        numbers["mib_per_cpu"] = PAYLOAD[row.key] / 2**20 / (numbers["cpu_us"] / 1e6)
    return numbers
