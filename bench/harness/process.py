"""Processes under measurement: starting them pinned, and reading what they spend from /proc."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path


# Before all that others do on the machine.
REALTIME = "realtime"


def prioritise(priority):
    """The nice value of this process, and of its session where the kernel shares time by sessions, or `REALTIME`."""
    if priority == REALTIME:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    elif priority:
        os.setpriority(os.PRIO_PROCESS, 0, priority)
        autogroup = Path("/proc/self/autogroup")
        if autogroup.exists():
            autogroup.write_text(str(priority))


class Running:
    """A process group that is ended with the block."""

    def __init__(self, command, cpus, *, environment=None, log=None, stdin=None, priority=0):
        def prepare():
            os.sched_setaffinity(0, cpus)
            prioritise(priority)
        self.log = log
        output = open(log, "wb") if log else subprocess.DEVNULL
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, env=environment, stdin=stdin, stdout=output, stderr=output,
                                        start_new_session=True, preexec_fn=prepare)
        if log:
            output.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        for sign, patience in ((signal.SIGTERM, 0.3), (signal.SIGKILL, 5)):
            try:
                os.killpg(self.process.pid, sign)
                self.process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        # What outlived its leader, such as the workers of a killed master.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def wait_until_it_answers(self, port, patience=20):
        """Waits for a 200 through it; the seconds since it was started."""
        request = urllib.request.Request(f"http://127.0.0.1:{port}/")
        while time.monotonic() < self.started + patience:
            try:
                with urllib.request.urlopen(request, timeout=2) as response:
                    if response.status == 200:
                        return time.monotonic() - self.started
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if self.process.poll() is not None:
                    break
                time.sleep(0.001)
        raise RuntimeError(f"it does not answer: {Path(self.log).read_text()[-2000:] if self.log else ''}")

    def pids(self):
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                queue += map(int, children.read_text().split())
        return found

    def cpu_seconds(self):
        """What its threads have run so far, to the nanosecond."""
        stats = [stat for pid in self.pids() for stat in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        return sum(int(stat.read_text().split()[0]) for stat in stats) / 1e9

    def ticks(self):
        """Clock ticks in user space, and in all, so far."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in self.pids()]
        user, system = (sum(int(stat[at]) for stat in stats) for at in (11, 12))
        return user, user + system

    def memory(self):
        """Bytes resident, with shared pages divided among those who share them."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total
