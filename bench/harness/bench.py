"""One measurement: a proxy is started, warmed, loaded and ended, with backends behind it."""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from . import peers, workloads
from .process import REALTIME, Running, prioritise

PROXY_PORT = 18080
BACKEND_PORT = 19000

# One processor for a proxy with one worker, the other for clients and backends.
PROXY_CPUS, OTHER_CPUS, ALL_CPUS = {0}, {1}, {0, 1}


class Bench:
    """`folder` has the programs; a load lasts `seconds`."""

    def __init__(self, folder: Path, seconds: float, priority: int | str):
        self.folder, self.seconds, self.priority = folder, seconds, priority
        self.tool = str(folder / "bin/bench-load")

    @contextmanager
    def backends(self, count=3, cpus=None):
        command = [self.tool, "backend", "--port", str(BACKEND_PORT), "--count", str(count)]
        with Running(command, cpus or OTHER_CPUS, priority=self.priority):
            time.sleep(0.1)
            yield list(range(BACKEND_PORT, BACKEND_PORT + count))

    @contextmanager
    def proxy(self, peer, backends, workers=1, wrapper=(), patience=20):
        with socket.socket() as probe:
            # Whoever listens there would be measured in its place.
            if probe.connect_ex(("127.0.0.1", PROXY_PORT)) == 0:
                raise RuntimeError(f"port {PROXY_PORT} is in use by something else")
        work = Path(tempfile.mkdtemp(prefix="evenkeel-bench-"))
        try:
            setting = peers.Setting(self.folder, work, PROXY_PORT, backends, workers)
            command = [*wrapper, *peer.command(setting)]
            with Running(command, PROXY_CPUS if workers == 1 else ALL_CPUS, log=work / "log",
                         environment=peers.environment(peer, setting), priority=self.priority) as running:
                running.to_first_answer = running.wait_until_it_answers(PROXY_PORT, patience)
                yield running
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def load(self, *options, cpus=None, seconds=None, port=PROXY_PORT):
        """Sends a load and gives what it counted."""
        command = [self.tool, "load", "--target", f"127.0.0.1:{port}",
                   "--seconds", str(seconds or self.seconds), *map(str, options)]
        return json.loads(self.output(command, cpus or OTHER_CPUS))

    def http2_load(self, *, cpus=None, seconds=None):
        """The same from HTTP/2 clients, 64 connections with 10 requests at a time on each."""
        whole = max(1, round(seconds or self.seconds))
        with tempfile.NamedTemporaryFile("r") as log:
            command = ["h2load", "--clients", "64", "--max-concurrent-streams", "10", "--log-file", log.name,
                       "--duration", str(whole), f"http://127.0.0.1:{PROXY_PORT}/"]
            text = self.output(command, cpus or OTHER_CPUS)
            # Of each request its status and its microseconds, after the time when it began.
            answers = [line.split()[1:3] for line in log]
        count, errors = map(int, re.search(r"(\d+) succeeded, (\d+) failed", text).groups())
        times = sorted(int(micros) for status, micros in answers if status == "200")
        if not times:
            raise RuntimeError(f"h2load has had no answer: {text}")
        return {"requests": count, "errors": errors, "seconds": whole, "p50_us": quantile(times, 0.5),
                "p99_us": quantile(times, 0.99), "p999_us": quantile(times, 0.999)}

    def output(self, command, cpus):
        def prepare():
            os.sched_setaffinity(0, cpus)
            if self.priority == REALTIME:
                prioritise(REALTIME)
            else:
                os.setpriority(os.PRIO_PROCESS, 0, self.priority)
        result = subprocess.run(command, capture_output=True, text=True, preexec_fn=prepare, timeout=120,
                                check=False)
        if result.returncode:
            raise RuntimeError(f"{command[:2]}: {result.stdout}{result.stderr}")
        return result.stdout

    def under_load(self, peer, *options, workers=1, backends=3, load=None):
        """The numbers of a proxy under a load: what the load saw, and what it cost the proxy."""
        cpus = OTHER_CPUS if workers == 1 else ALL_CPUS
        with self.backends(backends, cpus) as ports, self.proxy(peer, ports, workers) as running:
            load = load or self.load
            # The first probes of many backends take a while, and are no cost of a request.
            time.sleep(len(ports) / 100)
            load(*options, cpus=cpus, seconds=min(1, self.seconds / 3))
            before, ticks_before = running.cpu_seconds(), running.ticks()
            numbers = load(*options, cpus=cpus)
            spent = running.cpu_seconds() - before
            user, ticks = (after - before for after, before in zip(running.ticks(), ticks_before, strict=True))
            numbers["user_share"] = user / max(1, ticks)
            numbers["memory_mib"] = running.memory() / 2**20
        requests = max(1, numbers["requests"])
        numbers["cpu_us"] = spent / requests * 1e6
        numbers["per_second"] = numbers["requests"] / numbers["seconds"]
        return numbers

    def overload(self, peer):
        """What becomes of goodput, of refusals, and of the time after, with more than the backends can take."""
        slots = 3 * workloads.OVERLOAD_IN_FLIGHT
        path = ("--path", f"/after/{workloads.OVERLOAD_DELAY_MS}", "--may-be-refused")
        with self.backends() as ports, self.proxy(peer, ports):
            # Twice as many as are served at once: somebody always waits.
            peak = self.load(*path, "--connections", 2 * slots)
            per_second = peak["requests"] / peak["seconds"]
            at_half = (*path, "--rate", max(1, int(per_second / 2)))
            before = self.load(*at_half)
            many = ("--rate", int(per_second * workloads.OVERLOAD_FACTOR), "--connections", 1_000)
            over = self.load(*path, *many)
            after = self.load(*at_half, seconds=1)
            # What the machine itself does to requests at that rate.
            bare = self.load(*many, port=BACKEND_PORT)
        return {"peak": per_second, "goodput": over["requests"] / over["seconds"] / per_second,
                "sent": (over["requests"] + over["refused"]) / over["seconds"] / per_second,
                "refused_ms": over["refused_p99_us"] / 1e3, "bare_ms": bare["p99_us"] / 1e3,
                "refused_more_ms": max(0, over["refused_p99_us"] - bare["p99_us"]) / 1e3,
                "before_ms": before["p99_us"] / 1e3,
                "after_ms": after["p99_us"] / 1e3, "after": after["p99_us"] / before["p99_us"],
                "errors": sum(load["errors"] for load in (peak, before, over, after)),
                "refused_after": before["refused"] + after["refused"]}

    def idle_connections(self, peer, count):
        """What a connection costs which has had its answer and stays."""
        with self.backends() as ports, self.proxy(peer, ports) as running:
            time.sleep(1)
            before = running.memory()
            command = [self.tool, "idle", "--target", f"127.0.0.1:{PROXY_PORT}", "--connections", str(count)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
                try:
                    if not holder.stdout.readline():
                        raise RuntimeError(f"{peer.name}: {count} connections could not be opened")
                    # Some give back what a connection took once it has been idle for a second or two.
                    time.sleep(4)
                    return {"kib": (running.memory() - before) / count / 1024}
                finally:
                    holder.kill()

    def start(self, peer):
        """Seconds to the first answer, and what is resident a while after it."""
        with self.backends() as ports, self.proxy(peer, ports) as running:
            time.sleep(2)
            return {"start_ms": running.to_first_answer * 1e3, "memory_mib": running.memory() / 2**20}

    def system_calls(self, peer):
        """System calls per small request, by name."""
        with self.backends() as ports, self.proxy(peer, ports) as running:
            self.load(seconds=0.5)
            targets = [option for pid in running.pids() for option in ("-p", str(pid))]
            trace = subprocess.Popen(["strace", "-f", "-c", "-U", "calls,name", *targets],
                                     stderr=subprocess.PIPE, text=True)
            time.sleep(0.5)
            requests = self.load(seconds=3)["requests"]
            trace.send_signal(signal.SIGINT)
            text = trace.communicate(timeout=20)[1]
        calls = {name: int(count) for count, name in re.findall(r"^\s*(\d+) (\w+)\s*$", text, re.M)}
        calls.pop("total", None)
        return {name: count / requests for name, count in calls.items() if count / requests > 0.005}

    def instructions(self, peer, requests=5_000):
        """Instructions in user space per small request, and where the most of them are."""
        with tempfile.TemporaryDirectory() as out, self.backends() as ports:
            valgrind = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}/all"]
            with self.proxy(peer, ports, wrapper=valgrind, patience=90) as running:
                control = ["callgrind_control", str(running.process.pid)]
                self.load("--requests", 1000, seconds=20)
                self.output([*control, "--zero"], OTHER_CPUS)
                count = self.load("--requests", requests, seconds=40)["requests"]
                self.output([*control, "--dump"], OTHER_CPUS)
            # A file for each thread. The worker's is the one with the most; others, such as the one that
            # sums statistics up twice a second, go by time, which is ten times longer here.
            profiles = [annotated(path) for path in Path(out).glob("all.1-*")]
            profiles = [lines for lines in profiles if lines]
        lines = max(profiles, key=lambda lines: lines[0][0])
        per_request = [(number / count, name) for number, name in lines]
        # What a thread begins with is still running, and is booked with all that it called.
        begins = ("clone", "start_thread", "thread_start", "call_once", "__rust_begin_short_backtrace")
        functions = [one for one in per_request[1:] if not any(begin in one[1] for begin in begins)]
        everywhere = sum(lines[0][0] for lines in profiles) / count
        return {"total": per_request[0][0], "functions": functions[:25], "all_threads": everywhere}


def quantile(ordered, share):
    """The least of them that so many do not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1]


def annotated(path):
    """Instructions and function names of a profile, the total first."""
    text = subprocess.run(["callgrind_annotate", "--threshold=100", str(path)], capture_output=True, text=True,
                          check=True).stdout
    lines = re.findall(r"^\s*([\d,]+) \([\d. ]+%\)\s+(?:\S*:)?(.+?)(?: \[.*)?$", text, re.M)
    return [(int(number.replace(",", "")), name) for number, name in lines]
