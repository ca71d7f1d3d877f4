"""Hosts of their own on one switch: network namespaces, joined by veth and a bridge.

`with Switch() as switch: one = switch.host("one")`. A host has one address; what is started within
`one.inside()` runs there. `switch.cut(these, those)` has no packet pass between two groups, without
any of them being told. All addresses are loopback ones, so that plain http is allowed, and nothing
leads out. Needs Linux, root, `ip` and `unshare`; see `reason_against`.
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
_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000
_NOBODY = "02:00:00:00:ff:ff"
"""A hardware address that no host has: what goes there is dropped."""


def reason_against() -> str | None:
    """Return why there can be no such hosts on this machine; None if there can."""
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

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread, with what it starts, be here for the block."""
        with _back_afterwards():
            _enter(self.namespace)
            yield

    def sees(self, other: Host, *, is_so: bool = True) -> None:
        """Have packets from here reach another host, or nobody."""
        hardware = other.hardware if is_so else _NOBODY
        with self.inside():
            _ip(f"neigh replace {other.address} lladdr {hardware} dev wire nud permanent")


class Switch:
    """The hosts, and what joins them. They are gone when the block ends."""

    def __enter__(self) -> Self:
        self.hosts: list[Host] = []
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
        for other in self.hosts:
            host.sees(other)
            other.sees(host)
        self.hosts.append(host)
        return host

    def cut(self, these: Iterable[Host], those: Iterable[Host]) -> None:
        """Let no packet pass between two groups."""
        self._join(these, those, is_so=False)

    def heal(self) -> None:
        """Let every host reach every other again."""
        self._join(self.hosts, self.hosts, is_so=True)

    @staticmethod
    def _join(these: Iterable[Host], those: Iterable[Host], *, is_so: bool) -> None:
        there = list(those)
        for one in these:
            for other in there:
                if one is not other:
                    one.sees(other, is_so=is_so)
                    other.sees(one, is_so=is_so)


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
    for command in commands:
        subprocess.run([_IP, *command.split()], check=True, capture_output=True)


def _enter(namespace: int) -> None:
    _check(ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
