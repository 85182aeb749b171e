"""Faults that users of other proxies report, replayed in front of backends that count. Everything is
judged by counts; what is timed is only when something is sent.

The backends and the clients share one event loop in a thread of its own, so that what a backend does
and what a client does can be placed next to each other."""

import asyncio
import random
import re
import statistics
import threading
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# Nothing here takes longer, unless a proxy hangs.
PATIENCE = 10


class Loop:
    """An event loop that runs beside the proxy's start and end."""

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        return self

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def __exit__(self, *_):
        async def end():
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        self.run(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Connection(asyncio.Protocol):
    """A backend's end of a connection: reads requests, one after the other, and answers them."""

    def __init__(self, backend):
        self.backend, self.buffer, self.closing = backend, b"", None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _):
        if self.closing:
            self.closing.cancel()

    def data_received(self, data):
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = re.search(rb"content-length: *(\d+)", head, re.I)
        length = int(length.group(1)) if length else 0
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        if self.closing:
            self.closing.cancel()
        self.backend.asked(self)

    def answer(self):
        self.transport.write(OK)
        if self.backend.idle is not None:
            loop = asyncio.get_running_loop()
            self.backend.answered.append(loop.time())
            self.closing = loop.call_later(self.backend.idle, self.transport.close)


@dataclass
class Backend:
    """What a backend does, and what it saw."""

    takes: float = 0
    idle: float | None = None  # seconds after an answer at which it closes
    hold: asyncio.Event | None = None  # until when it holds requests
    count: int = 0
    answered: list = field(default_factory=list)

    def asked(self, connection):
        self.count += 1
        if self.hold or self.takes:
            asyncio.get_running_loop().create_task(self.later(connection, self.hold, self.takes))
        else:
            connection.answer()

    async def later(self, connection, hold, takes):
        if hold:
            await hold.wait()
        await asyncio.sleep(takes)
        if not connection.transport.is_closing():
            connection.answer()

    async def listen(self):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]


class Client:
    """One kept connection to the proxy, made anew when it is closed."""

    def __init__(self, port):
        self.port, self.writer = port, None

    async def ask(self, method="GET"):
        """The status, or 0 if there was no answer."""
        body = b"once" if method == "POST" else b""
        head = f"{method} / HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            if not self.writer or self.reader.at_eof():
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writer.write(head.encode() + body)
            return await asyncio.wait_for(self.read(), PATIENCE)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            self.close()
            return 0

    async def read(self):
        answer = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: *(\d+)", answer)
        if not length or re.search(rb"connection: *close", answer):
            self.close()
        else:
            await self.reader.readexactly(int(length.group(1)))
        return int(answer.split()[1])

    def close(self):
        if self.writer:
            self.writer.close()
        self.writer = None


async def listen(backends):
    return [await backend.listen() for backend in backends]


async def uneven(backends, port, bursts=100, clients=12):
    """Bursts that are held until all of a burst is there: how many requests met one more than they had to."""
    lanes = [Client(port) for _ in range(clients)]
    share, excess, worst = clients // len(backends), 0, 0
    for _ in range(bursts):
        hold = asyncio.Event()
        for backend in backends:
            backend.hold, backend.count = hold, 0
        asking = [asyncio.create_task(lane.ask()) for lane in lanes]
        end = asyncio.get_running_loop().time() + PATIENCE
        while sum(backend.count for backend in backends) < clients:
            if asyncio.get_running_loop().time() > end:
                raise RuntimeError("not all of a burst came through")
            await asyncio.sleep(0.001)
        hold.set()
        if set(await asyncio.gather(*asking)) != {200}:
            raise RuntimeError("a request of a burst failed")
        excess += sum(max(0, backend.count - share) for backend in backends)
        worst = max(worst, *(backend.count for backend in backends))
    return {"excess": excess, "requests": bursts * clients, "worst": worst, "share": share}


async def stale(backends, port, bursts=24, clients=25, spread=0.004):
    """POSTs within some milliseconds of the moment at which the backend closes what is idle."""
    loop, draw = asyncio.get_running_loop(), random.Random(4)
    lanes = [Client(port) for _ in range(clients)]
    (backend,) = backends

    async def post(lane, at):
        await asyncio.sleep(max(0, at - loop.time()))
        return await lane.ask("POST")

    failed, first, edge = {}, 0, loop.time()
    for burst in range(bursts + 1):
        backend.answered.clear()
        statuses = await asyncio.gather(*(post(lane, edge + draw.uniform(-spread, spread)) for lane in lanes))
        # The first one only makes the connections.
        for status in statuses if burst else []:
            if status != 200:
                failed[status] = failed.get(status, 0) + 1
                first += burst == 1
        # Whoever answers by itself, such as for an unknown host, has nothing to lose.
        if not backend.answered:
            raise RuntimeError("nothing reaches the backend")
        edge = statistics.median(backend.answered) + backend.idle
    return {"failed": failed, "requests": bursts * clients, "first": first}


async def starved(backends, port, slow=500, requests=4000, counted=1000, clients=4):
    """One of five equal servers is slow at first: what it gets of the last requests, seconds after that."""
    asked, before, usual = 0, [], backends[0].takes

    async def keep_asking(lane):
        nonlocal asked, before
        while asked < requests:
            backends[0].takes = usual * (10 if asked < slow else 1)
            if asked == requests - counted:
                before = [backend.count for backend in backends]
            asked += 1
            if await lane.ask() != 200:
                raise RuntimeError("a request failed")

    await asyncio.gather(*(keep_asking(Client(port)) for _ in range(clients)))
    return [backend.count - then for backend, then in zip(backends, before)]
