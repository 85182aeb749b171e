"""Clients that take their time on purpose, by the thousand, beside normal ones.

The slow ones are slowhttptest's. Routes on the loopback interface give each of its processes an address
of its own to come from, and the segment size of an Ethernet: with that of the loopback interface the
kernel would buffer megabytes for each client that does not read, as it does for nobody on a network."""

import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from .bench import OTHER_CPUS, PROXY_PORT
from .process import Running

ADMIN_PORT = PROXY_PORT + 1

# Where the slow ones come from and connect to, by the number of the process. There are many processes,
# as each looks at all of its connections without a pause, and the kernel lets nobody else in meanwhile.
SOURCE, DESTINATION = "127.9.1.{}", "127.9.0.{}"
ADDRESSES = 20
SEGMENT_BYTES = 1460

# Connections of `bench/load`, which are the normal client.
NORMAL_CONNECTIONS = 64

# All of the proxy's limits of time are shorter, so that it is the proxy that ends them.
SLOW_SECONDS = 120


@dataclass
class Mode:
    """A way of being slow, and the options of slowhttptest for it."""

    letter: str
    title: str
    options: list[str]
    path: str = "/"


@contextmanager
def routes():
    """Has connections to the destinations come from the sources, in segments as on an Ethernet."""
    commands = [["ip", "route", "{}", "local", DESTINATION.format(at), "dev", "lo", "table", "local",
                 "src", SOURCE.format(at), "advmss", str(SEGMENT_BYTES)] for at in range(1, ADDRESSES + 1)]

    def run(verb):
        for command in commands:
            subprocess.run([verb if part == "{}" else part for part in command], check=True)
    run("replace")
    try:
        yield
    finally:
        run("delete")


def metrics():
    """The proxy's, by series."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN_PORT}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {series: float(value) for series, value in pairs}


def clients_open(series):
    return sum(value for name, value in series.items()
               if name.startswith("evenkeel_connections{") and 'side="client"' in name)


class Watch:
    """Looks once a second at how many connections the proxy has and what it takes for them."""

    def __init__(self, running):
        self.running, self.is_over = running, threading.Event()
        self.open, self.memory = [], []
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.is_over.wait(1):
            self.open.append(clients_open(metrics()) - NORMAL_CONNECTIONS)
            self.memory.append(self.running.memory())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()


@contextmanager
def slow_clients(mode, count, per_second, addresses):
    """So many of them, which begin to come now."""
    each = ["-c", str(count // addresses), "-r", str(per_second // addresses), "-l", str(SLOW_SECONDS)]
    with ExitStack() as stack:
        for at in range(1, addresses + 1):
            url = f"http://{DESTINATION.format(at)}:{PROXY_PORT}{mode.path}"
            command = ["slowhttptest", f"-{mode.letter}", *each, *mode.options, "-u", url]
            stack.enter_context(Running(command, OTHER_CPUS))
        yield


def loaded(bench, running, rate):
    """What the normal client met, and the proxy meanwhile."""
    with Watch(running) as watch:
        numbers = bench.load("--rate", rate, "--connections", NORMAL_CONNECTIONS)
    numbers["open"], numbers["memory_mib"] = watch.open, max(watch.memory) / 2**20
    return numbers


def until_alone(patience):
    """Waits until no client is connected. Whether that was in time."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if clients_open(metrics()) == 0:
            return True
        time.sleep(0.2)
    return False


def rounds(bench, peer, mode, *, count, per_second, rate, rounds, addresses=ADDRESSES):
    """What the normal client met, quiet and under attack, a pair for each round; and by which of its
    limits the proxy ended the slow ones of the last round."""
    pairs, ended = [], {}
    for number in range(rounds):
        # One that has had no such clients yet: what they make it grow by is part of the matter.
        with bench.backends() as ports, bench.proxy(peer, ports) as running:
            bench.load("--rate", rate, seconds=1)
            quiet = loaded(bench, running, rate)
            before = metrics()
            with slow_clients(mode, count, per_second, addresses):
                attacked = loaded(bench, running, rate)
                if number == rounds - 1:
                    # Up to here some have ended at most. Who ends the others is the proxy, too.
                    attacked["all_ended"] = until_alone(SLOW_SECONDS - bench.seconds)
                    ended = changes(before, metrics())
            pairs.append((quiet, attacked))
    return pairs, ended


def changes(before, after):
    """By which limit how many ended."""
    found = {name: value - before.get(name, 0) for name, value in after.items()
             if name.startswith(("evenkeel_client_timeouts_total{", "evenkeel_limits_hit_total{"))}
    return {name.split('"')[1]: int(value) for name, value in found.items() if value}
