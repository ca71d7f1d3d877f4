"""Hosts of their own on one switch: network namespaces, joined by veth and a bridge.

`with Switch() as switch: one = switch.host("one")`. A host has one address; what is started within
`one.inside()` runs there. `switch.cut(these, those)` has no packet pass between two groups, without
any of them being told. All addresses are loopback ones, so that plain http is allowed, and nothing
leads out. What has `host.clock` in its environment goes by the host's own clock. Needs Linux, root,
`ip` and `unshare`, and a C compiler for clocks that differ; see `reason_against`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

_IP = shutil.which("ip") or ""
_UNSHARE = shutil.which("unshare") or ""
_CC = shutil.which("cc") or ""
_CLOCK = Path(__file__).with_name("clock.c")
_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000
_NOBODY = "02:00:00:00:ff:ff"
"""A hardware address that no host has: what goes there is dropped."""


def reason_against(*, clocks: bool = False) -> str | None:
    """Return why there can be no such hosts, or `clocks`, on this machine; None if there can."""
    if clocks and not _CC:
        return "there is no C compiler (`cc`)"
    if not _IP or not _UNSHARE:
        return "there is no `ip` (iproute2) or no `unshare` (util-linux)"
    script = f"{_IP} link add one type veth peer name other && {_IP} link add hub type bridge"
    tried = subprocess.run(
        [_UNSHARE, "--net", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        return f"network namespaces with veth cannot be made (that takes root): {tried.stderr}"
    return None


class Host:
    """A network namespace with one address on the switch."""

    def __init__(self, name: str, number: int, namespace: int) -> None:
        self.name = name
        self.address = f"127.1.0.{number}"
        self.hardware = f"02:00:00:00:00:{number:02x}"
        self.namespace = namespace
        self.clock: dict[str, str] = {}
        """Variables for a program that is to go by the host's clock."""

    def set_clock(self, ahead_s: int, folder: Path) -> None:
        """Have a clock of its own, so many seconds ahead; `folder` keeps a library for that."""
        library = folder / "clock.so"
        if not library.exists():
            subprocess.run([_CC, "-shared", "-fPIC", "-o", library, _CLOCK], check=True)
        self.clock = {"LD_PRELOAD": str(library), "CLOCK_AHEAD_S": str(ahead_s)}

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread, with what it starts, be here for the block."""
        with _back_afterwards():
            _enter(self.namespace)
            yield

    def sees(self, others: Iterable[Host], *, is_so: bool = True) -> None:
        """Have packets from here reach other hosts, or nobody."""
        with self.inside():
            _ip(
                *(
                    f"neigh replace {other.address} dev wire nud permanent "
                    f"lladdr {other.hardware if is_so else _NOBODY}"
                    for other in others
                    if other is not self
                )
            )


class Switch:
    """The hosts, and what joins them. They are gone when the block ends."""

    def __enter__(self) -> Self:
        self.hosts: list[Host] = []
        self._cut: tuple[list[Host], list[Host]] = [], []
        with ExitStack() as stack:
            self._hub = _new_namespace(stack)
            with _back_afterwards():
                _enter(self._hub)
                _ip("link add hub type bridge", "link set hub up")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def host(self, name: str) -> Host:
        """Add a host that all others reach."""
        number = len(self.hosts) + 1
        namespace = _new_namespace(self._stack)
        host = Host(name, number, namespace)
        with _back_afterwards():
            _enter(self._hub)
            target = f"/proc/{os.getpid()}/fd/{namespace}"
            _ip(
                f"link add port{number} type veth peer name wire netns {target}",
                f"link set port{number} master hub up",
            )
        with host.inside():
            for place in ("all", "default", "wire"):
                Path(f"/proc/sys/net/ipv4/conf/{place}/route_localnet").write_text("1")
            _ip(
                f"link set wire address {host.hardware} up",
                "link set lo up",
                # a host's 127.0.0.0/8 is its own, but for the addresses on the switch
                "addr del 127.0.0.1/8 dev lo",
                "addr add 127.0.0.1/32 dev lo",
                f"addr add {host.address}/24 scope global dev wire",
            )
        host.sees(self.hosts)
        for other in self.hosts:
            other.sees([host])
        self.hosts.append(host)
        return host

    def cut(self, these: Iterable[Host], those: Iterable[Host]) -> None:
        """Let no packet pass between two groups, until they are healed."""
        self._cut = [*these], [*those]
        self._join(*self._cut, is_so=False)

    def heal(self) -> None:
        """Let the two groups reach each other again."""
        self._join(*self._cut, is_so=True)

    @staticmethod
    def _join(these: list[Host], those: list[Host], *, is_so: bool) -> None:
        for one in these:
            one.sees(those, is_so=is_so)
        for one in those:
            one.sees(these, is_so=is_so)


def _new_namespace(stack: ExitStack) -> int:
    with _back_afterwards():
        _check(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET))
        return _opened(stack)


@contextmanager
def _back_afterwards() -> Iterator[None]:
    with ExitStack() as stack:
        here = _opened(stack)
        try:
            yield
        finally:
            _enter(here)


def _opened(stack: ExitStack) -> int:
    descriptor = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _ip(*commands: str) -> None:
    """Run them in one process: where the CPU is scarce, each more would take a second."""
    batch = "\n".join(commands)
    subprocess.run([_IP, "-batch", "-"], input=batch, text=True, check=True, capture_output=True)


def _enter(namespace: int) -> None:
    _check(ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
