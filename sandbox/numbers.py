"""Magic numbers: which number the sandbox treats how; the table is numbers.txt.

A `PhoneNum` of 8 digits or more that starts with a prefix of `MAGIC_NUMBERS` gets that row's
behaviour, under any country code; the digits after the prefix are free, so that each row has at
least 10,000 numbers. All prefixes start with 99: with country codes 852 and 65 such numbers are
possible (8 digits) but not assigned, so no test's file has anybody's telephone number.
`python -m sandbox --list-numbers` prints the table.

A behaviour with `tries` applies to that many requests of a number, which is ordinary from then on;
without, it always applies. A request refused for signature, parameters or rate does not count.

No number can get a refused connection or a failing name look-up, as the server learns the number
from the request; stop the sandbox to get the former.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Final

MIN_LENGTH: Final = 8
PREFIX_LENGTH: Final = 4
_CODE: Final = re.compile(r"[A-Z][A-Za-z0-9]*(\.[A-Za-z0-9]+)*")


class Delivery(StrEnum):
    """How an answer is sent."""

    PLAIN = "plain"  # as the API answers: HTTP 200, JSON
    CHARSET = "charset"  # the same with `; charset=utf-8` in the content type
    SLOW = "slow"  # the same, `slow_ms` after the decision
    HANG_UP = "hang-up"  # connection closed (FIN), not one byte
    RESET = "reset"  # connection reset (RST), not one byte
    SILENCE = "silence"  # no answer, and the connection stays open: a read time-out
    BAD_GATEWAY = "bad-gateway"  # HTTP 502 with a proxy's HTML page
    SERVER_ERROR = "server-error"  # HTTP 500 with JSON in the API's form
    GATEWAY_TIMEOUT = "gateway-timeout"  # HTTP 504 with a proxy's HTML page
    HTML = "html"  # HTTP 200 with an HTML page
    EMPTY = "empty"  # HTTP 200 without a body
    STRANGE = "strange"  # HTTP 200 with JSON that is not an answer of the API
    TRUNCATED = "truncated"  # half of the announced body, then the connection is closed
    OVERSIZED = "oversized"  # a correct answer with 1 MiB of padding in it
    REDIRECT = "redirect"  # HTTP 307 to a path that answers "sent" and sends nothing
    DRIP_BODY = "drip-body"  # the body byte by byte, one every `drip_ms`
    DRIP_HEADERS = "drip-headers"  # headers and body, byte by byte


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One way to treat a request that passed signature, rate and parameters.

    `accepts`: a code is sent to the number, unless that is in its interval. `elsewhere`: somebody
    else has just had a code sent to the number, so its interval starts now.
    """

    name: str
    code: str | None = None
    accepts: bool = False
    delivery: Delivery = Delivery.PLAIN
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class MagicNumber:
    """One row of the table; `tries` is None where the behaviour never ends."""

    prefix: str
    behaviour: str
    tries: int | None
    note: str


_CLEAR: Final = (Delivery.PLAIN, Delivery.CHARSET, Delivery.SLOW)


def _behaviours() -> Iterator[Behaviour]:
    yield Behaviour("ok", accepts=True)
    yield Behaviour("slow", accepts=True, delivery=Delivery.SLOW)
    yield Behaviour("charset", accepts=True, delivery=Delivery.CHARSET)
    yield Behaviour("charset-error", "FailedOperation.PhoneBindUpper", delivery=Delivery.CHARSET)
    yield Behaviour("interval-elsewhere", accepts=True, elsewhere=True)
    yield Behaviour("internal-error-after", "InternalError", accepts=True)
    yield Behaviour("failed-operation-after", "FailedOperation", accepts=True)
    for delivery in [each for each in Delivery if each not in _CLEAR]:
        yield Behaviour(f"{delivery}-before", "InternalError", delivery=delivery)
        yield Behaviour(f"{delivery}-after", accepts=True, delivery=delivery)


BEHAVIOURS: Final[Mapping[str, Behaviour]] = {each.name: each for each in _behaviours()}
ORDINARY: Final = BEHAVIOURS["ok"]


def _row(line: str) -> MagicNumber:
    prefix, behaviour, tries, note = line.split(maxsplit=3)
    return MagicNumber(prefix, behaviour, None if tries == "all" else int(tries), note)


TABLE: Final = (files(__package__) / "numbers.txt").read_text("utf-8")
MAGIC_NUMBERS: Final = tuple(_row(line) for line in TABLE.splitlines() if line and line[0] != "#")
_BY_PREFIX: Final[Mapping[str, MagicNumber]] = {row.prefix: row for row in MAGIC_NUMBERS}


def behaviour_named(name: str) -> Behaviour:
    """Return the behaviour called `name`: one of `BEHAVIOURS`, or an API code to answer with.

    Raises:
        ValueError: `name` is neither.
    """
    known = BEHAVIOURS.get(name)
    if known is not None:
        return known
    if _CODE.fullmatch(name):
        return Behaviour(name, code=name)
    raise ValueError(f"neither a behaviour nor a code of the API: {name!r}")


def magic_for(phone_num: str) -> MagicNumber | None:
    """Return the row for `phone_num` (digits without country code), if there is one."""
    if len(phone_num) < MIN_LENGTH:
        return None
    return _BY_PREFIX.get(phone_num[:PREFIX_LENGTH])
