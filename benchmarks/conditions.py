"""Under which conditions a limiter is measured: the API's work, a queue, the way, Redis' distance.

A condition is written as its parts, joined by `+`, with 80 ms of work unless one part says more:

    80, 60-160, lognormal300   the API works so many ms: constant, uniform, median (sigma 0.6)
    queue5                     each request waits 5 ms on average (exponential) to be counted
    end                        the API counts a request when its work is done
    packets5                   packets to and from the API are delayed by 5 ms on average
                               (exponential), so they overtake each other, and 1 % are lost
    close200                   it closes each connection; a new one takes 200 ms of TLS
    allows18                   the account is allowed 18/s, though sendcode's setting is 20
    redis30                    Redis is 30 ms away from the workers, there and back
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import trustme

from benchmarks.world import World
from tests.faults.proxy import ProxyProcess
from tests.network import Network, reason_against
from tests.tls_front import TlsFront

FOUR_APIS = ("80", "60-160", "lognormal300", "lognormal1000")
HARDER = (
    *("queue5", "queue20", "lognormal300+queue5", "lognormal300+queue20"),
    *("packets5", "packets20", "lognormal300+packets5", "lognormal300+packets20"),
    *("close200", "allows10", "allows18", "1950-2050", "2950-3050", "redis30", "redis100"),
)
SIGMA = 0.6
LOSS = 0.01
_WORK = re.compile(r"(lognormal)?(\d+(?:-\d+)?)")
_PART = re.compile(r"(queue|packets|close|allows|redis)(\d+)|(end)")
_FIELDS = {
    "queue": "queue_ms",
    "packets": "packets_ms",
    "close": "tls_ms",
    "allows": "allowed",
    "redis": "redis_ms",
}


class NotMeasuredError(Exception):
    """This machine cannot make the condition; the message says why."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What is measured under; `name` is how it is asked for."""

    name: str
    work: str = "80"
    """Milliseconds, as `python -m sandbox --answer-ms` takes them."""
    queue_ms: int = 0
    counts_at_end: bool = False
    packets_ms: int | None = None
    """Mean delay of a packet on the way to or from the API; None: a quiet loopback."""
    tls_ms: int | None = None
    """A connection is good for one request, and takes so long to open; None: it is kept."""
    allowed: int | None = None
    """Requests per second, where they are fewer than the workers believe."""
    redis_ms: int = 0

    @classmethod
    def named(cls, name: str) -> Condition:
        """Return the condition of that name.

        Raises:
            ValueError: a part of it is unknown.
        """
        fields: dict[str, object] = {}
        for part in name.split("+"):
            if found := _WORK.fullmatch(part):
                shape, work = found.groups()
                fields["work"] = f"lognormal:{work}:{SIGMA}" if shape else work
            elif found := _PART.fullmatch(part):
                kind, number, _ = found.groups()
                if kind is None:
                    fields["counts_at_end"] = True
                else:
                    fields[_FIELDS[kind]] = int(number)
            else:
                raise ValueError(f"no such condition: {part!r} in {name!r}")
        return cls(name, **fields)  # type: ignore[arg-type]

    @classmethod
    def several(cls, names: str) -> list[Condition]:
        """Return those of a comma-separated list, as argparse wants it."""
        try:
            return [cls.named(name) for name in names.split(",")]
        except ValueError as exc:
            raise ArgumentTypeError(str(exc)) from None

    @contextmanager
    def world(self, rate: int, *sandbox_options: str) -> Iterator[World]:
        """Run a world in it, whose workers are set to `rate`.

        Raises:
            NotMeasuredError: this machine cannot.
        """
        options = [*sandbox_options, "--answer-ms", self.work, "--jitter-ms", str(self.queue_ms)]
        options += ["--rate-limit", str(self.allowed or rate)]
        options += ["--counts-at-end"] * self.counts_at_end
        options += ["--closes"] * (self.tls_ms is not None)
        with ExitStack() as stack:
            network = None
            if self.packets_ms is not None:
                if reason := reason_against():
                    raise NotMeasuredError(reason)
                network = stack.enter_context(Network())
            made = World(*options, network=network, sendcode_rate_limit=rate)
            world = stack.enter_context(made)
            if network is not None:
                network.set(jitter_ms=self.packets_ms or 0, loss=LOSS)
            if self.redis_ms:
                proxy = stack.enter_context(ProxyProcess(world.valkey.port))
                proxy.order(f"delay {self.redis_ms / 2000}")
                far = world.valkey.url().replace(f":{world.valkey.port}/", f":{proxy.port}/")
                world.environment["SENDCODE_REDIS_URL"] = far
            if self.tls_ms is not None:
                authority = trustme.CA()
                bundle = world.folder / "authority.pem"
                authority.cert_pem.write_to_path(bundle)
                port = urlsplit(world.sandbox.url).port or 0
                front = TlsFront(port, authority, handshake_s=self.tls_ms / 1000)
                stack.enter_context(front)
                world.environment["SENDCODE_ENDPOINT"] = f"https://127.0.0.1:{front.port}"
                world.environment["SENDCODE_CA_BUNDLE"] = str(bundle)
            stack.callback(world.stop_processes)  # before what they talk through
            yield world
