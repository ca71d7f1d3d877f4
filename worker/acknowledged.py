"""When the peer's kernel acknowledged what was written into a TCP connection, as Linux reports it.

The kernel reports on the socket's error queue when the last byte of a write was acknowledged
(`SO_TIMESTAMPING`, Documentation/networking/timestamping.rst). That works below TLS, and shows
how long the request was on its way, however long the server works before it answers. Limits:

- The peer is whoever ends the TCP connection: perhaps a load balancer in front of the server.
- The acknowledgement's own return trip is part of the time, and so is a peer's delay before it
  acknowledges. Linux delays it where answers come within 40 ms, and then sends it with the answer.
- The reports make the socket look readable to whoever waits for it with a time-out: read them
  before anything else.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
import time

_SO_TIMESTAMPING = 37
_TX_ACK, _SOFTWARE, _OPT_ID, _OPT_TSONLY = 1 << 9, 1 << 4, 1 << 7, 1 << 11
_FLAGS = _TX_ACK | _SOFTWARE | _OPT_ID | _OPT_TSONLY
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY = 512


class Acknowledgements:
    """The acknowledgements of one connection's writes from now on. Its socket must not block."""

    def __init__(self, sock: socket.socket) -> None:
        """Have the kernel report them.

        Raises:
            OSError: It cannot.
        """
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _FLAGS)
        self._sock = sock
        self._awaits = self._is_lost = False

    def before_writing(self) -> None:
        """Forget what came before the next write."""
        self._sock.settimeout(0)
        if self._drain() is None and self._awaits:
            self._is_lost = True  # it may come yet, and be taken for the next one's
        self._awaits = False

    def written(self) -> None:
        """Expect the acknowledgement of what was written since `before_writing`."""
        self._awaits = not self._is_lost

    def age_s(self) -> float | None:
        """Return how many seconds ago the write was acknowledged; None: not yet, or not any more.

        It returns the time once.
        """
        at = self._drain()
        if at is None or not self._awaits or self._outstanding():
            return None
        self._awaits = False
        return max(0.0, time.time() - at)

    def _drain(self) -> float | None:
        """Take all reports; return the Unix time of the last one."""
        at = None
        while True:
            try:
                # a TLS socket refuses recvmsg, but its error queue is that of the TCP connection
                _, ancillary, _, _ = socket.socket.recvmsg(
                    self._sock, 0, _ANCILLARY, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
                )
            except OSError:
                return at
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING):
                    seconds, nanoseconds = _TIMESPEC.unpack_from(data)
                    at = seconds + nanoseconds / 1e9

    def _outstanding(self) -> int:
        """Return how many bytes were written and are not acknowledged."""
        (count,) = struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4)))
        return int(count)


def acknowledgements_of(sock: socket.socket) -> Acknowledgements | None:
    """Return a connection's acknowledgements; None where the system does not report them."""
    if sys.platform != "linux":
        return None
    try:
        return Acknowledgements(sock)
    except OSError:
        return None
