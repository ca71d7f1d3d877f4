"""Two sides of a network that delays, reorders and drops packets: `with Network() as network: ...`.

Each side is a network namespace with a TUN device; a program between them (`python -m
tests.network`) carries the packets. Within the block the calling thread, with what it starts, is on
the near side, at `NEAR`; what it starts within `network.far_side()` is on the far side, at `FAR`.
Both are loopback addresses, so that plain http is allowed, and each side has its own 127.0.0.1.
Needs Linux, root, `ip` and /dev/net/tun; see `reason_against`.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Self

NEAR, FAR = "127.1.0.1", "127.1.0.2"
_IP = shutil.which("ip") or ""
_UNSHARE = shutil.which("unshare") or ""
_TUN = Path("/dev/net/tun")
_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_LARGEST_PACKET = 65_536
_TOP = Path(__file__).resolve().parent.parent


@cache
def reason_against() -> str | None:
    """Return why there can be no such network on this machine; None if there can."""
    if not _IP or not _UNSHARE:
        return "there is no `ip` (iproute2) or no `unshare` (util-linux)"
    try:
        os.close(os.open(_TUN, os.O_RDWR))
    except OSError as exc:
        return f"{_TUN} cannot be used: {exc.strerror}"
    if subprocess.run([_UNSHARE, "--net", "true"], capture_output=True, check=False).returncode:
        return "network namespaces cannot be made: that takes root"
    return None


class Network:
    """A network of two sides; packets pass at once until `set` is called."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            home = _opened(stack, _OWN_NAMESPACE)
            stack.callback(_enter, home)
            far_device = _make_side(stack, FAR, peer=NEAR)
            self._far = _opened(stack, _OWN_NAMESPACE)
            near_device = _make_side(stack, NEAR, peer=FAR)
            self._near = _opened(stack, _OWN_NAMESPACE)
            self._carrier = subprocess.Popen(
                [sys.executable, "-m", "tests.network", str(near_device), str(far_device)],
                cwd=_TOP,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=(near_device, far_device),
                start_new_session=True,  # Ctrl-C is for us; it ends when its standard input does
            )
            stack.callback(self._stop)
            self.set()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def far_side(self) -> Iterator[None]:
        """Be on the far side for the block."""
        _enter(self._far)
        try:
            yield
        finally:
            _enter(self._near)

    def set(self, *, delay_ms: float = 0.0, jitter_ms: float = 0.0, loss: float = 0.0) -> None:
        """Change what becomes of the packets that are sent from now on.

        Args:
            delay_ms: on each one's way.
            jitter_ms: mean of a random (exponential) addition to it: packets overtake each other.
            loss: share of the packets that is dropped; 1 divides the two sides.
        """
        assert self._carrier.stdin is not None
        assert self._carrier.stdout is not None
        self._carrier.stdin.write(f"{delay_ms} {jitter_ms} {loss}\n")
        self._carrier.stdin.flush()
        if not self._carrier.stdout.readline():
            raise RuntimeError("the program that carries packets has ended")

    def _stop(self) -> None:
        assert self._carrier.stdin is not None
        assert self._carrier.stdout is not None
        self._carrier.stdin.close()
        self._carrier.wait(5)
        self._carrier.stdout.close()


def _make_side(stack: ExitStack, own: str, *, peer: str) -> int:
    """Go into a new namespace with a TUN device that leads to the peer; return the device."""
    _check(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET))
    device = _opened(stack, _TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"way", _IFF_TUN | _IFF_NO_PI))
    Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
    for command in (
        "link set lo up",
        # a namespace's 127.0.0.0/8 is its own, but for these two addresses
        "addr del 127.0.0.1/8 dev lo",
        "addr add 127.0.0.1/32 dev lo",
        f"addr add {own}/32 dev way",
        "link set way up",
        f"route add {peer}/32 dev way src {own}",
    ):
        subprocess.run([_IP, *command.split()], check=True, capture_output=True)
    return device


def _opened(stack: ExitStack, path: str | Path, flags: int = os.O_RDONLY) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _enter(namespace: int) -> None:
    _check(ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _carry(near: int, far: int) -> None:
    """Carry packets between two TUN devices, as lines on standard input say, until it ends."""
    chance = random.Random(1)
    delay_ms = jitter_ms = loss = 0.0
    under_way: list[tuple[float, int, int, bytes]] = []
    count = itertools.count()
    while True:
        wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        ready, _, _ = select.select((0, near, far), (), (), wait_s)
        now = time.monotonic()
        # the packets first: they were sent before the line was written
        for source, sink in ((near, far), (far, near)):
            for packet in _packets(source):
                if chance.random() >= loss:
                    extra_ms = jitter_ms and chance.expovariate(1 / jitter_ms)
                    due = now + (delay_ms + extra_ms) / 1000
                    heapq.heappush(under_way, (due, next(count), sink, packet))
        if 0 in ready:
            line = sys.stdin.readline()
            if not line:
                return
            delay_ms, jitter_ms, loss = map(float, line.split())
            print(flush=True)  # packets are treated so from now on
        while under_way and under_way[0][0] <= now:
            _, _, sink, packet = heapq.heappop(under_way)
            os.write(sink, packet)


def _packets(device: int) -> Iterator[bytes]:
    """Yield all that wait to be read."""
    with suppress(BlockingIOError):
        while True:
            yield os.read(device, _LARGEST_PACKET)


if __name__ == "__main__":
    _carry(int(sys.argv[1]), int(sys.argv[2]))
