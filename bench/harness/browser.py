"""A page under measurement, told what to do by Chromium's own protocol over a plain socket: what a
benchmark needs of it is two calls, and no package that somebody would have to install."""

import base64
import json
import os
import socket
import struct
import time
import urllib.request
from pathlib import Path


class Tab:
    """The first page of a Chromium that was started with this profile and `--remote-debugging-port=0`."""

    def __init__(self, profile, patience=30):
        end = time.monotonic() + patience
        while True:
            try:
                # Chromium writes down which port it chose.
                port = int((Path(profile) / "DevToolsActivePort").read_text().split()[0])
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=2) as answer:
                    page = next(one for one in json.load(answer) if one["type"] == "page")
                break
            except (OSError, ValueError, IndexError, StopIteration):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        path = page["webSocketDebuggerUrl"].split(f":{port}", 1)[1]
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.stream = self.socket.makefile("rb")
        status = self.stream.readline()
        if b" 101 " not in status:
            raise RuntimeError(f"the browser refused: {status.decode(errors='replace')}")
        while self.stream.readline().strip():
            pass
        self.calls = 0

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page."""
        self.calls += 1
        self._send(json.dumps({"id": self.calls, "method": "Runtime.evaluate",
                               "params": {"expression": expression, "returnByValue": True}}).encode())
        while True:
            answer = json.loads(self._receive())
            if answer.get("id") == self.calls:
                if "exceptionDetails" in answer["result"]:
                    raise RuntimeError(answer["result"]["exceptionDetails"])
                return answer["result"]["result"].get("value")

    def _send(self, payload):
        """One text frame, masked as a client's must be (RFC 6455 section 5.3)."""
        length = len(payload)
        head = struct.pack("!BB", 0x81, 0x80 | length) if length < 126 else struct.pack("!BBH", 0x81, 0x80 | 126, length)
        mask = os.urandom(4)
        self.socket.sendall(head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)))

    def _receive(self):
        """The next message; frames of control are of no interest within a benchmark's minutes."""
        message = b""
        while True:
            first, length = self._exactly(2)
            length &= 0x7F
            if length >= 126:
                size = 2 if length == 126 else 8
                length = int.from_bytes(self._exactly(size), "big")
            payload = self._exactly(length)
            if first & 0x0F >= 8:
                continue
            message += payload
            if first & 0x80:
                return message

    def _exactly(self, count):
        data = self.stream.read(count)
        if len(data) < count:
            raise RuntimeError("the browser closed the connection")
        return data
