"""A worker's output: nothing in the worker ever waits for whoever reads its log.

All that the process writes to its standard output and error (log records, Celery's banner, what a
signal handler writes, what C code writes) goes into a pipe that one thread empties at once. Another
one writes it to its destination. While nobody reads there, up to `MOST_HELD_BYTES` are held; lines
beyond that are dropped, counted, and reported in their place.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

MOST_HELD_BYTES = 1 << 20
CLOSE_S = 1.0
"""How long the end of a process waits for the rest of its output to be read."""
_STDOUT, _STDERR = 1, 2
_CHUNK = 1 << 16


class Output:
    """Redirects the output, until the process ends."""

    def __init__(self, dropped: Callable[[int], str], path: str | None = None) -> None:
        """Take over. `path` is a file to append to; `dropped(n)` returns the line that reports n.

        Raises:
            OSError: the file cannot be written to.
        """
        is_one = path is not None or os.path.sameopenfile(_STDOUT, _STDERR)
        groups = [(_STDOUT, _STDERR)] if is_one else [(_STDOUT,), (_STDERR,)]
        self._streams = [_Stream(fds, dropped, path) for fds in groups]
        atexit.register(self.close)

    def close(self) -> None:
        """Write the rest, unless nobody reads it."""
        for file in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                file.flush()
        for stream in self._streams:
            stream.close()


class _Stream:
    """What is written to some descriptors, on its way to one place."""

    def __init__(self, fds: Sequence[int], dropped: Callable[[int], str], path: str | None) -> None:
        self._fds = fds
        self._dropped = dropped
        self._path = path
        self._place = os.dup(fds[-1]) if path is None else _opened(path)
        self._held: deque[bytes | int] = deque()
        """Lines, and how many were dropped between them."""
        self._held_bytes = 0
        self._is_over = False
        self._changed = threading.Condition()
        self._source, sink = os.pipe()
        for fd in fds:
            os.dup2(sink, fd)
        os.close(sink)
        if _STDERR in fds and faulthandler.is_enabled():
            faulthandler.enable(self._place)  # no thread of ours outlives what it reports
        self._writer = threading.Thread(target=self._write, name="output", daemon=True)
        self._writer.start()
        threading.Thread(target=self._take, name="output-pipe", daemon=True).start()

    def close(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for fd in self._fds:
            os.dup2(nowhere, fd)  # the pipe has no other end any more: it is read to its end
        os.close(nowhere)
        self._writer.join(CLOSE_S)
        if not self._writer.is_alive():
            for fd in self._fds:
                os.dup2(self._place, fd)

    def _take(self) -> None:
        rest = b""
        while chunk := os.read(self._source, _CHUNK):
            lines = (rest + chunk).splitlines(keepends=True)
            is_whole = lines[-1].endswith(b"\n") or len(lines[-1]) > _CHUNK
            rest = b"" if is_whole else lines.pop()
            self._hold(lines)
        self._hold([rest] if rest else [], is_over=True)

    def _hold(self, lines: list[bytes], *, is_over: bool = False) -> None:
        with self._changed:
            for line in lines:
                if self._held_bytes + len(line) <= MOST_HELD_BYTES:
                    self._held.append(line)
                    self._held_bytes += len(line)
                elif self._held and isinstance(count := self._held[-1], int):
                    self._held[-1] = count + 1
                else:
                    self._held.append(1)
            self._is_over = is_over
            self._changed.notify()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._is_over)
                if not self._held:
                    return
                parts = [
                    part if isinstance(part, bytes) else f"{self._dropped(part)}\n".encode()
                    for part in self._held
                ]
                taken = sum(len(part) for part in self._held if isinstance(part, bytes))
                self._held.clear()
            with suppress(OSError):  # it is closed for good: nobody will ever read this
                self._put(b"".join(parts))
            with self._changed:
                self._held_bytes -= taken

    def _put(self, data: bytes) -> None:
        if self._path is not None and not _is_at(self._place, self._path):
            anew = _opened(self._path)  # the old one was moved away
            os.dup2(anew, self._place)
            os.close(anew)
        while data:
            try:
                data = data[os.write(self._place, data) :]
            except BlockingIOError:  # another program has made a shared terminal non-blocking
                select.select([], [self._place], [])


def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
