"""A TCP proxy whose network fails on demand: resets, half-open connections, latency, lost answers.

It is a process of its own (`python -m tests.faults.proxy PORT`), which takes orders as lines on
its standard input: `reset`, `halve`, `deafen`, `delay SECONDS`, `refuse`, `forbid COMMAND…`,
`lose COMMAND TIMES`, `break COMMAND TIMES`, `heal`.

Bytes that a half-open connection has swallowed are never delivered later: a network that gave
them up does not find them again. That is why the swallowing connections are reset when healed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Self

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CHUNK = 64 * 1024


class _Line:
    """One connection through the proxy."""

    def __init__(self, inner: asyncio.StreamWriter, outer: asyncio.StreamWriter) -> None:
        self.writers = (inner, outer)
        self.deaf_to_client = False
        self.deaf_to_server = False
        self.is_losing = False

    def reset(self) -> None:
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock is not None and not writer.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                writer.transport.abort()


class _Proxy:
    def __init__(self, target: int) -> None:
        self._target = target
        self._lines: set[_Line] = set()
        self._delay_s = 0.0
        self._swallow_new = False
        self._refuse = False
        self._forbidden: set[bytes] = set()
        self._resets: list[tuple[str, bytes]] = []

    async def serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        loop = asyncio.get_running_loop()
        orders = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while order := (await orders.readline()).decode().split():
            self._obey(order)
            print(flush=True)  # from now on it is so
        for line in list(self._lines):
            line.reset()

    def _obey(self, order: list[str]) -> None:
        match order:
            case ["reset"]:
                self._reset_all()
            case ["halve"]:  # nothing comes through any more, in old and new connections
                self._swallow_new = True
                for line in self._lines:
                    line.deaf_to_client = line.deaf_to_server = True
            case ["deafen"]:  # what the client says arrives, no answer comes back
                for line in self._lines:
                    line.deaf_to_server = True
            case ["delay", seconds]:
                self._delay_s = float(seconds)
            case ["refuse"]:
                self._refuse = True
                self._reset_all()
            case ["forbid", *commands]:  # an older Redis, or another product, does not know them
                self._forbidden = {command.encode() for command in commands}
            case ["lose" | "break" as how, command, times]:
                # the next ones meet a reset: `lose` when they are done, `break` before they are
                self._resets = [(how, command.encode())] * int(times)
            case ["heal"]:
                self._swallow_new = self._refuse = False
                self._forbidden = set()
                self._resets = []
                self._delay_s = 0.0
                for line in list(self._lines):
                    if line.deaf_to_client or line.deaf_to_server:
                        line.reset()

    def _reset_all(self) -> None:
        for line in list(self._lines):
            line.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuse:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        line = _Line(writer, far_writer)
        line.deaf_to_client = line.deaf_to_server = self._swallow_new
        self._lines.add(line)
        with contextlib.suppress(asyncio.CancelledError):  # the proxy ends
            await asyncio.gather(
                self._carry(reader, far_writer, line, "deaf_to_client"),
                self._carry(far_reader, writer, line, "deaf_to_server"),
            )
        self._lines.discard(line)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line, deaf: str
    ) -> None:
        try:
            while data := await reader.read(_CHUNK):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if deaf == "deaf_to_client":
                    command = _command(data)
                    if command in self._forbidden:
                        line.writers[0].write(b"-ERR unknown command '%s'\r\n" % command)
                        continue
                    if self._resets and self._resets[0][1] == command:
                        how, _ = self._resets.pop()
                        line.is_losing = how == "lose"
                        if how == "break":
                            line.reset()
                            return
                elif line.is_losing:
                    line.reset()
                    return
                if not getattr(line, deaf):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            line.reset()
        finally:
            if not getattr(line, deaf):
                writer.close()


def _command(data: bytes) -> bytes:
    """Return the first command of what came in one piece: `*2`, `$5`, `HELLO`, `$1`, `3`."""
    return (data.split(b"\r\n", 3) + [b""] * 3)[2].upper() if data.startswith(b"*") else b""


class ProxyProcess:
    """`with ProxyProcess(6379) as proxy: ...` listens at `proxy.port`; its network is healthy."""

    def __init__(self, target: int) -> None:
        self._target = target

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.proxy", str(self._target)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; it ends when its standard input does
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def order(self, order: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


if __name__ == "__main__":
    asyncio.run(_Proxy(int(sys.argv[1])).serve())
