"""Magic numbers: how the sandbox treats which number, as data.

A `PhoneNum` of 8 digits or more that starts with a prefix of `MAGIC_NUMBERS` gets that row's
behaviour, under any country code; the digits after the prefix are free, so that each row has at
least 10,000 numbers. All prefixes start with 99: with country codes 852 and 65 such numbers are
possible (8 digits) but assigned to nobody, so nobody's telephone stands in a test's file.
`python -m sandbox --list-numbers` prints the table.

A behaviour with `tries` shows for that many requests of a number, then the number is an ordinary
one; without, it shows always. A request refused by signature, parameters or rate does not count.

No number gets a refused connection or a failing name look-up, as the server knows the number only
once it has the request; stop the sandbox to get the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MIN_LENGTH: Final = 8
PREFIX_LENGTH: Final = 4
_CODE: Final = re.compile(r"[A-Z][A-Za-z0-9]*(\.[A-Za-z0-9]+)*")


class Delivery(StrEnum):
    """How an answer leaves the server."""

    PLAIN = "plain"  # as the API answers: HTTP 200, JSON
    CHARSET = "charset"  # the same with `; charset=utf-8` in the content type
    SLOW = "slow"  # the same, `slow_ms` after the decision
    HANG_UP = "hang-up"  # connection closed (FIN), not one byte
    RESET = "reset"  # connection reset (RST), not one byte
    SILENCE = "silence"  # nothing, and the connection stays open: a read time-out
    BAD_GATEWAY = "bad-gateway"  # HTTP 502 with a proxy's HTML page
    SERVER_ERROR = "server-error"  # HTTP 500 with an answer that is JSON in the API's form
    GATEWAY_TIMEOUT = "gateway-timeout"  # HTTP 504 with a proxy's HTML page
    HTML = "html"  # HTTP 200 with a HTML page
    EMPTY = "empty"  # HTTP 200 without a body
    STRANGE = "strange"  # HTTP 200 with JSON that is no answer of the API
    TRUNCATED = "truncated"  # half of the announced body, then the connection is closed
    OVERSIZED = "oversized"  # a right answer with 1 MiB of padding in it
    REDIRECT = "redirect"  # HTTP 307 to a path that answers "sent" and sends nothing
    DRIP_BODY = "drip-body"  # the body byte by byte, one each `drip_ms`
    DRIP_HEADERS = "drip-headers"  # headers and body, byte by byte


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One way to treat a request that passed signature, rate and parameters.

    It `accepts` if a code is sent to the number (unless that is in its interval). `elsewhere`:
    somebody else has just had a code sent to the number, so that its interval starts now.
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


def _named() -> Iterator[Behaviour]:
    yield Behaviour("ok", accepts=True)
    yield Behaviour("slow", accepts=True, delivery=Delivery.SLOW)
    yield Behaviour("charset", accepts=True, delivery=Delivery.CHARSET)
    yield Behaviour("charset-error", "FailedOperation.PhoneBindUpper", delivery=Delivery.CHARSET)
    yield Behaviour("interval-elsewhere", accepts=True, elsewhere=True)
    yield Behaviour("internal-error-after", "InternalError", accepts=True)
    for delivery in [each for each in Delivery if each not in _CLEAR]:
        yield Behaviour(f"{delivery}-before", "InternalError", delivery=delivery)
        yield Behaviour(f"{delivery}-after", accepts=True, delivery=delivery)


BEHAVIOURS: Final[Mapping[str, Behaviour]] = {each.name: each for each in _named()}
ORDINARY: Final = BEHAVIOURS["ok"]

_ONCE: Final = 1
_ALWAYS: Final = None

MAGIC_NUMBERS: Final[tuple[MagicNumber, ...]] = (
    # The number itself
    MagicNumber("9900", "ok", _ALWAYS, "an ordinary number"),
    MagicNumber("9901", "FailedOperation.PhoneBindUpper", _ALWAYS, "permanent"),
    MagicNumber("9902", "FailedOperation.SendVerifyCodeLimit", _ALWAYS, "too often, for ever"),
    MagicNumber("9903", "FailedOperation.SendVerifyCodeLimit", _ONCE, "too often, once"),
    MagicNumber("9904", "FailedOperation.SendVerifyCodeLimit60", _ALWAYS, "always in its interval"),
    MagicNumber("9905", "interval-elsewhere", _ONCE, "in its interval when first tried"),
    MagicNumber("9906", "FailedOperation.SendVerifyCodeLimit60", _ONCE, "refused once"),
    MagicNumber("9907", "InvalidParameterValue", _ALWAYS, "permanent"),
    MagicNumber("9908", "InvalidParameterValue.UnSupportArea", _ALWAYS, "permanent"),
    MagicNumber("9909", "InvalidParameter", _ALWAYS, "permanent"),
    MagicNumber("9910", "MissingParameter", _ALWAYS, "permanent"),
    MagicNumber("9911", "UnknownParameter", _ALWAYS, "permanent"),
    # Not sent, for now
    MagicNumber("9920", "ServiceUnavailable", 2, "not sent, fine at the third try"),
    MagicNumber("9921", "ServiceUnavailable", 4, "not sent, fine at the fifth try"),
    MagicNumber("9922", "ServiceUnavailable", _ALWAYS, "never gets well"),
    MagicNumber("9923", "ResourceUnavailable", _ONCE, "not sent"),
    MagicNumber("9924", "ResourceInsufficient", _ONCE, "not sent"),
    MagicNumber("9925", "OperationDenied.ServiceBusy", _ONCE, "not sent"),
    MagicNumber("9926", "RequestLimitExceeded", _ONCE, "throttled, though the rate was kept"),
    MagicNumber("9927", "RequestLimitExceeded.UinLimitExceeded", _ONCE, "throttled, longer code"),
    # Ambiguous: "before" was not sent, "after" was
    MagicNumber("9930", "InternalError", _ONCE, "not sent"),
    MagicNumber("9931", "internal-error-after", _ONCE, "sent, though answered InternalError"),
    MagicNumber("9932", "InternalError", _ALWAYS, "never sent"),
    MagicNumber("9933", "hang-up-before", _ONCE, "connection closed, not sent"),
    MagicNumber("9934", "hang-up-after", _ONCE, "connection closed, sent"),
    MagicNumber("9935", "reset-before", _ONCE, "connection reset, not sent"),
    MagicNumber("9936", "reset-after", _ONCE, "connection reset, sent"),
    MagicNumber("9937", "silence-before", _ONCE, "read time-out, not sent"),
    MagicNumber("9938", "silence-after", _ONCE, "read time-out, sent"),
    MagicNumber("9939", "hang-up-before", _ALWAYS, "never answered, never sent"),
    MagicNumber("9940", "hang-up-after", _ALWAYS, "sent, but never answered"),
    MagicNumber("9941", "bad-gateway-before", _ONCE, "502, not sent"),
    MagicNumber("9942", "bad-gateway-after", _ONCE, "502, sent"),
    MagicNumber("9943", "bad-gateway-before", _ALWAYS, "502 for ever, never sent"),
    MagicNumber("9944", "server-error-before", _ONCE, "500, not sent"),
    MagicNumber("9945", "gateway-timeout-after", _ONCE, "504, sent"),
    MagicNumber("9946", "html-before", _ONCE, "a HTML page with 200, not sent"),
    MagicNumber("9947", "html-after", _ONCE, "a HTML page with 200, sent"),
    MagicNumber("9948", "truncated-before", _ONCE, "half an answer, not sent"),
    MagicNumber("9949", "truncated-after", _ONCE, "half an answer, sent"),
    MagicNumber("9950", "oversized-after", _ONCE, "1 MiB of answer, sent"),
    MagicNumber("9951", "empty-after", _ONCE, "no body, sent"),
    MagicNumber("9952", "strange-after", _ONCE, "JSON that is no answer, sent"),
    MagicNumber("9953", "redirect-before", _ONCE, "307, not sent"),
    MagicNumber("9954", "redirect-before", _ALWAYS, "307 for ever, never sent"),
    MagicNumber("9955", "drip-body-after", _ONCE, "body byte by byte, sent"),
    MagicNumber("9956", "drip-headers-after", _ONCE, "all byte by byte, sent"),
    MagicNumber("9957", "drip-body-before", _ONCE, "body byte by byte, not sent"),
    # Right answers that look unusual
    MagicNumber("9960", "slow", _ALWAYS, "a right answer, 3 s late"),
    MagicNumber("9961", "charset", _ALWAYS, "a right answer with a charset"),
    MagicNumber("9962", "charset-error", _ALWAYS, "an error with a charset"),
    # The whole account, as one number sees it (see account_state for all of them)
    MagicNumber("9970", "AuthFailure.SignatureExpire", _ONCE, "clock, once"),
    MagicNumber("9971", "AuthFailure.SignatureExpire", _ALWAYS, "clock, for ever"),
    MagicNumber("9972", "AuthFailure.SignatureFailure", _ALWAYS, "account-wide"),
    MagicNumber("9973", "AuthFailure.SecretIdNotFound", _ALWAYS, "account-wide"),
    MagicNumber("9974", "AuthFailure.InvalidSecretId", _ALWAYS, "account-wide"),
    MagicNumber("9975", "AuthFailure.TokenFailure", _ALWAYS, "account-wide"),
    MagicNumber("9976", "AuthFailure.MFAFailure", _ALWAYS, "account-wide"),
    MagicNumber("9977", "AuthFailure.UnauthorizedOperation", _ALWAYS, "account-wide"),
    MagicNumber("9978", "UnauthorizedOperation", _ALWAYS, "account-wide"),
    MagicNumber("9979", "UnauthorizedOperation", _ONCE, "account-wide, once"),
    MagicNumber("9980", "LimitExceeded", _ALWAYS, "account-wide"),
    MagicNumber("9981", "IpInBlacklist", _ALWAYS, "account-wide"),
    MagicNumber("9982", "IpNotInWhitelist", _ALWAYS, "account-wide"),
    MagicNumber("9983", "ActionOffline", _ALWAYS, "account-wide"),
    MagicNumber("9984", "InvalidAction", _ALWAYS, "account-wide"),
    MagicNumber("9985", "NoSuchProduct", _ALWAYS, "account-wide"),
    MagicNumber("9986", "NoSuchVersion", _ALWAYS, "account-wide"),
    MagicNumber("9987", "UnsupportedOperation", _ALWAYS, "account-wide"),
    MagicNumber("9988", "InvalidRequest", _ALWAYS, "account-wide"),
    MagicNumber("9989", "RequestSizeLimitExceeded", _ALWAYS, "account-wide"),
    # Codes that are in no documentation
    MagicNumber("9990", "FailedOperation.NeverHeardOf", _ONCE, "unknown code, once"),
    MagicNumber("9991", "FailedOperation.NeverHeardOf", _ALWAYS, "unknown code, for ever"),
)

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
    raise ValueError(f"no behaviour and no code of the API: {name!r}")


def magic_for(phone_num: str) -> MagicNumber | None:
    """Return the row that `phone_num` (digits without country code) falls under, if any."""
    if len(phone_num) < MIN_LENGTH:
        return None
    return _BY_PREFIX.get(phone_num[:PREFIX_LENGTH])


def number_for(behaviour: str, serial: int = 0, *, prefix: str | None = None) -> str:
    """Return an 8-digit PhoneNum with that behaviour; `serial` (0 to 9999) tells them apart.

    Raises:
        LookupError: no row has that behaviour, or several have and `prefix` does not choose.
    """
    rows = [
        row for row in MAGIC_NUMBERS if row.behaviour == behaviour and prefix in (None, row.prefix)
    ]
    if len(rows) != 1:
        raise LookupError(f"{len(rows)} magic numbers for {behaviour!r}: name the prefix")
    return f"{rows[0].prefix}{serial:04d}"
