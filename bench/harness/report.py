"""RESULTS.md, and the same tables on the terminal."""

import os
import platform
import statistics
from datetime import datetime, timezone
from pathlib import Path

from .workloads import (
    DECISIONS_BAR, LOW, MANY_BACKENDS, OVERLOAD_BARS, OVERLOAD_DELAY_MS, OVERLOAD_FACTOR, OVERLOAD_IN_FLIGHT, POLICIES_BAR,
)

US = "Evenkeel"


def median(rounds, key):
    return statistics.median(numbers[key] for numbers in rounds)


def spread(rounds, key, digits=1):
    """The median, and the least and the most."""
    values = [numbers[key] for numbers in rounds]
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def errors(rounds):
    return sum(numbers.get("errors", 0) for numbers in rounds)


def judged(value, sign, limit, failed=0):
    """Whether a bar is met, in words; it is not where requests of ours have failed."""
    is_met = {"<=": value <= limit, "<": value < limit, ">=": value >= limit}[sign]
    if failed:
        return "MISSED, for its errors"
    return "met" if is_met else "MISSED"


def bar(by_peer, key, words, better, limit):
    """Ours by the best peer's, in words, and whether it is within the bar."""
    peers = {name: median(rounds, key) for name, rounds in by_peer.items() if not name.startswith(US)}
    if US not in by_peer or not peers:
        return None
    best = (min if better == LOW else max)(peers, key=peers.get)
    ratio = median(by_peer[US], key) / peers[best]
    sign, shown = ("<=", "≤") if better == LOW else (">=", "≥")
    verdict = judged(ratio, sign, limit, errors(by_peer[US]))
    return f"{words}: **{ratio:.2f}** × {best} (bar {shown} {limit:.2f}): {verdict}"


def table(header, lines):
    rule = "| " + " | ".join("---" for _ in header) + " |"
    return ["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines), ""]


def load_table(row, by_peer):
    header = ["proxy", "CPU µs per request", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "MiB", "errors"]
    has_payload = any("mib_per_cpu" in rounds[0] for rounds in by_peer.values())
    if has_payload:
        header.insert(2, "MiB per CPU second")
    lines = []
    for name, rounds in by_peer.items():
        line = [name, spread(rounds, "cpu_us"), spread(rounds, "per_second", 0),
                *(spread(rounds, key, 0) for key in ("p50_us", "p99_us", "p999_us", "memory_mib")),
                str(errors(rounds))]
        if has_payload:
            line.insert(2, spread(rounds, "mib_per_cpu", 0))
        lines.append(line)
    bars = [found for one in row.bars if (found := bar(by_peer, *one))]
    return [f"## {row.title}", "", *table(header, lines), *(f"- {words}" for words in bars), ""]


def idle_table(count, by_peer):
    lines = [[name, spread(rounds, "kib")] for name, rounds in by_peer.items()]
    compared = {name: rounds for name, rounds in by_peer.items() if name in (US, "HAProxy", "Envoy")}
    found = bar(compared, "kib", "memory per connection", LOW, 1.0)
    return [f"## {count:,} idle kept-alive connections", "",
            *table(["proxy", "KiB per connection"], lines), *([f"- {found}"] if found else []), ""]


def many_table(few, many):
    ratios = {name: median(many[name], "cpu_us") / median(few[name], "cpu_us") for name in few if name in many}
    failed = {name: errors(few[name]) + errors(many[name]) for name in ratios}
    lines = [[name, spread(few[name], "cpu_us"), spread(many[name], "cpu_us"), f"{ratio:.2f}",
              spread(many[name], "memory_mib", 0), str(failed[name])] for name, ratio in ratios.items()]
    lines = [f"## {MANY_BACKENDS:,} backends instead of 3", "",
             *table(["proxy", "CPU µs per request with 3", f"with {MANY_BACKENDS:,}", "ratio", "MiB", "errors"], lines)]
    if US in ratios:
        ours, verdict = ratios[US], judged(ratios[US], "<=", 1.05, failed[US])
        lines.append(f"- CPU per request: **{ours:.2f}** × itself (bar ≤ 1.05): {verdict}")
    return [*lines, ""]


def overload_table(by_peer):
    header = ["proxy", "goodput's peak, per second", "times the peak were sent", "goodput by its peak",
              "p99 ms of refusals", "of that rate without a proxy", "p99 ms before", "in the second after",
              "refused then", "errors"]
    lines = [[name, spread(rounds, "peak", 0), f"{median(rounds, 'sent'):.1f}", spread(rounds, "goodput", 2),
              spread(rounds, "refused_ms"), spread(rounds, "bare_ms"),
              spread(rounds, "before_ms"), spread(rounds, "after_ms"),
              *(str(sum(numbers[key] for numbers in rounds)) for key in ("refused_after", "errors"))]
             for name, rounds in by_peer.items()]
    bars = []
    for key, words, sign in (("goodput", "of its peak is answered", ">="),
                             ("refused_more_ms", "ms until a refusal, beyond those of the machine", "<"),
                             ("after", "of p99 before, in the second after it", "<=")):
        if US in by_peer:
            value, limit = median(by_peer[US], key), OVERLOAD_BARS[key]
            verdict = judged(value, sign, limit, errors(by_peer[US]))
            bars.append(f"- {value:.2f} {words} (bar {sign} {limit}): {verdict}")
    return [f"## {OVERLOAD_FACTOR} times as many requests as the backends can answer", "",
            f"Three backends of {OVERLOAD_DELAY_MS} ms that may have {OVERLOAD_IN_FLIGHT} requests each; up to 256 wait "
            "in line, and the others get 503. The load before and after is half of the peak.", "",
            *table(header, lines), *bars, ""]


def start_table(by_peer):
    lines = [[name, spread(rounds, "start_ms", 0), spread(rounds, "memory_mib")] for name, rounds in by_peer.items()]
    bars = []
    if US in by_peer:
        for key, words, limit in (("start_ms", "ms to the first answer", 50), ("memory_mib", "MiB when idle", 12)):
            value = median(by_peer[US], key)
            bars.append(f"- {value:.1f} {words} (bar < {limit}): {judged(value, '<', limit)}")
    return ["## Start and rest", "", *table(["proxy", "ms to the first answer", "MiB after it"], lines), *bars, ""]


def calls_table(by_peer):
    def text(calls):
        return ", ".join(f"{name} {count:.2f}" for name, count in sorted(calls.items(), key=lambda one: -one[1]))
    lines = [[name, f"{sum(calls.values()):.2f}", text(calls)] for name, calls in by_peer.items()]
    return ["## System calls per small request", "", *table(["proxy", "calls", "which"], lines)]


def instructions_table(counted):
    lines = [[f"{number:.0f}", f"`{name[:110]}`"] for number, name in counted["functions"]]
    return ["## Evenkeel's instructions per small request", "",
            f"Of the worker in user space, by callgrind: **{counted['total']:.0f}**. The most of them are in", "",
            *table(["instructions", "function"], lines)]


def policies_table(by_policy, user_share):
    least = min(count for _, count in by_policy)

    def cpu(count):
        # What the kernel does for a request is the same under each.
        return 1 + (count / least - 1) * user_share
    lines = [[words, f"{count:.0f}", f"{count / least:.3f}", f"{cpu(count):.3f}"] for words, count in by_policy]
    most = max(cpu(count) for _, count in by_policy)
    return ["## What the policies cost", "",
            f"A worker's instructions in user space per small request, by callgrind. {user_share:.0%} of a request's CPU "
            "time are spent there and the rest in the kernel, for all policies alike.", "",
            *table(["policy", "instructions", "ratio to the least", "of all CPU time"], lines),
            f"- the dearest costs {most:.3f} of the cheapest (bar <= {POLICIES_BAR}): "
            f"{judged(most, '<=', POLICIES_BAR)}", ""]


def decisions_table(by_share):
    """`by_share`: words, instructions. All are looked at, as one in a hundred is lost in what probes cost."""
    (_, without), _, (_, recorded) = by_share
    ratio = 1 + (recorded - without) / 100 / without
    lines = [[words, f"{count:.0f}"] for words, count in by_share]
    return ["## What it costs to record decisions", "",
            "Instructions in user space of all threads per small request, by callgrind, by the share of requests that "
            "are recorded. Threads that go by time, not by requests, are in it, and their part varies.", "",
            *table(["recorded", "instructions"], lines),
            f"- with one in a hundred, by what all of them cost: {ratio:.4f} of a request without (bar <= {DECISIONS_BAR}, "
            f"and less of all CPU time): {judged(ratio, '<=', DECISIONS_BAR)}", ""]


def picks_text(output):
    return ["## What a pick costs", "",
            "Without the rest of a request, by the size of the pool and by how many threads pick at the same time "
            "(`services/balance/benches/pick.rs`); with more threads than processors each has its share of one.", "",
            "```text", output.strip(), "```", ""]


def build(binary: Path):
    """Of which commit a binary of ours is, as `bench/install` noted it, and when it was built."""
    built, note = binary.stat().st_mtime, binary.with_suffix(".commit")
    # The note is of another binary where this one came later, by another way.
    is_known = note.exists() and note.stat().st_mtime >= built
    commit = f"commit {note.read_text().strip()}" if is_known else "an unknown commit"
    return f"Evenkeel of {commit}, built {datetime.fromtimestamp(built, timezone.utc):%Y-%m-%d %H:%M UTC}"


def machine(folder: Path, peers, rounds, seconds, load_before):
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "?")
    versions = ", ".join(f"{peer.name} {peer.version(folder)}" for peer in peers)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    load_after = os.getloadavg()
    return [
        "# Evenkeel beside its peers", "",
        "Written by `bench/run`; what it does, and how to read this, stands in its head. Each number is the median of "
        "the rounds, with the least and the most in brackets.", "",
        f"- {now}, {os.cpu_count()} × {model}, {platform.system()} {platform.release()}",
        f"- {versions}",
        f"- {build(folder / 'bin/evenkeel-proxy')}",
        f"- {rounds} rounds of {seconds:g} s each, interleaved",
        f"- load average before {load_before[0]:.1f}, after {load_after[0]:.1f} (15 minutes: {load_after[2]:.1f}); "
        "the benchmark alone makes about 2, so that what is above it was other work on the machine", ""]
