"""What each code means for its job, in plain words, and what a person can do about it. Pure data.

Codes come from the API, or are our own for calls that brought no answer of the API. The worker acts
by a code's kind (`worker/verdict.py` reads the answers, `worker/reactions.py` reacts), producers
show its texts.
Sources: the vendor's reference page and its list of common error codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, TypeVar

T = TypeVar("T")


class Kind(StrEnum):
    """What happened, and with it what to do next."""

    SENT = "sent"
    TRANSIENT = "transient"
    """Not sent, for a passing reason: try again after a wait."""
    AMBIGUOUS = "ambiguous"
    """Perhaps sent: only a probe inside the number's interval can prove it."""
    THROTTLED = "throttled"
    """Not sent: the whole fleet is too fast. Spends no attempt."""
    TOO_EARLY = "too_early"
    """Not sent: a code went to this number within the interval. To a probe it is the proof that
    the attempt before it was accepted."""
    TOO_OFTEN = "too_often"
    """Not sent: too many codes to this number lately. Long waits, few tries."""
    PERMANENT = "permanent"
    """Not sent, and never will be: the number is at fault."""
    CLOCK = "clock"
    """Not sent: the timestamp was more than 5 minutes off. The client has noted the server's
    time: take a slot and call again, once; if it stays, it is as ACCOUNT."""
    ACCOUNT = "account"
    """Not sent, and no job is at fault: halt the sending."""
    UNKNOWN = "unknown"
    """A code that nobody documented: one more try, as a probe."""
    STALE = "stale"
    """Not sent: the slot was over before anything was written. Take another one; should the lease
    be lost meanwhile, the ledger refuses to journal the next try."""


OUTAGE = frozenset({Kind.TRANSIENT, Kind.AMBIGUOUS})
"""Enough of such answers in a row mean that the API is out."""


class OwnCode(StrEnum):
    """Our codes, for calls that brought no answer of the API and for jobs that end without one."""

    DNS = "Network.Dns"
    CONNECT = "Network.Connect"
    CONNECT_TIMEOUT = "Network.ConnectTimeout"
    TLS = "Network.Tls"
    PROXY = "Network.Proxy"
    STALE = "Network.Stale"
    """The caller's time was over before anything was written."""
    READ_TIMEOUT = "Network.ReadTimeout"
    LOST = "Network.Lost"

    UNPROVED = "Unproved"
    """`begin.lua`: the number's interval is over, and no probe can prove anything any more."""
    SENT_MEANWHILE = "SentMeanwhile"
    """`was_sent_meanwhile` in numbers.lua: its batch leaves out who has a code."""

    ALONE = "RefusedAlone"
    """`refuse.lua`: an account-wide answer for this job only, again and again."""
    COUNTRY = "Quota.Country"
    """`SENDCODE_COUNTRIES` does not name the number's country (`Sender`)."""
    UNREADABLE = "Ledger.Unreadable"
    """The job's record in Redis is broken (`set_aside.lua`) or lost (`end_lost_job`)."""
    FORGED = "Ledger.Forged"
    """Its number was not sealed by us for this job (jobs/records.py)."""
    LOCKED = "Ledger.Locked"
    """It is sealed under a data key that the worker lacks: it waits (`Sender`)."""

    HTTP_STATUS = "Answer.HttpStatus"
    REDIRECT = "Answer.Redirect"
    TOO_LARGE = "Answer.TooLarge"
    NOT_JSON = "Answer.NotJson"
    WRONG_SHAPE = "Answer.WrongShape"


NEVER_LEFT = frozenset(
    {OwnCode.DNS, OwnCode.CONNECT, OwnCode.CONNECT_TIMEOUT, OwnCode.TLS, OwnCode.PROXY}
)
"""Of calls that did not get as far as the API: the fault may be this machine's alone."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means. Its texts end without a full stop: they fit a cell, or around a colon."""

    kind: Kind
    meaning: str
    """What happened."""
    remedy: str
    """What a person can do."""


_WAIT = "Nothing: it is tried again by itself"
_REQUEUE = "Its attempts are spent; try it again once the service is well again"
_OUR_BUG = "Report it to the developers: the request is built by this program"
_TICKET = "Open a ticket with the vendor and give the request id"
RESTART = "restart the workers"
_FIX_CREDENTIALS = (
    f"Correct secret id, key and token in their files; if they are in the environment, {RESTART}"
)
_NOT_ALLOWED = (
    "These credentials may not send codes",
    "Have the account's owner allow SendVerifyCode for them",
)
_FIX_ENDPOINT = f"Correct SENDCODE_ENDPOINT, then {RESTART}"
_FIX_NUMBER = "Correct the country code or number and submit it again"
_ASK_CUSTOMER = "Check with the customer whether a code has come before you try it again"
_CHECK_NETWORK = "Check network, firewall and SENDCODE_ENDPOINT, then try it again"
_OTHER_SERVER = f"Check SENDCODE_ENDPOINT and any proxy on the way, then {RESTART}"

_OF_JOBS: Mapping[str, tuple[str, str]] = {
    OwnCode.UNPROVED: (
        "An attempt had no clear answer, and nobody can prove any more what became of it",
        _ASK_CUSTOMER,
    ),
    OwnCode.SENT_MEANWHILE: (
        "Not sent, as asked for: its number got a code by another job meanwhile",
        "Nothing: the customer has a code",
    ),
    OwnCode.ALONE: (
        "The service refused this number alone, with a reason that concerns the whole account",
        "Check the number; if it is right, open a ticket with the vendor and give the request id",
    ),
    OwnCode.UNREADABLE: (
        "Its record in Redis was lost or damaged: nobody knows any more whether a code was sent",
        "Ask the customer whether a code has come; if not, try it again with its number",
    ),
    OwnCode.FORGED: (
        "Its record in Redis was made, changed or moved by somebody else: it is not trusted",
        "Find out who else writes into this Redis; a real job can be tried again with its number",
    ),
    OwnCode.LOCKED: (
        "It is sealed under a data key that the worker does not have: it waits",
        f"Put the key back behind the first of SENDCODE_DATA_KEYS; if that is no file, {RESTART}",
    ),
}
"""No call gets these as its answer."""
_BY_KIND: Mapping[Kind, Mapping[str, tuple[str, str]]] = {
    Kind.TRANSIENT: {
        "OperationDenied.ServiceBusy": ("The service is busy", _WAIT),
        "ServiceUnavailable*": ("The service is unavailable for the moment", _WAIT),
        "ResourceUnavailable*": ("The service lacks a resource for the moment", _WAIT),
        "ResourceInsufficient*": ("The service lacks capacity for the moment", _WAIT),
        OwnCode.DNS: ("The service's host name was not found", _CHECK_NETWORK),
        OwnCode.CONNECT: ("The service could not be reached", _CHECK_NETWORK),
        OwnCode.CONNECT_TIMEOUT: ("The service could not be reached in time", _CHECK_NETWORK),
        OwnCode.TLS: (
            "No secure connection: the server's certificate could not be verified, or TLS failed",
            "Check the machine's clock, any proxy on the way and SENDCODE_CA_BUNDLE",
        ),
        OwnCode.PROXY: (
            "The proxy could not be reached, or refused the way to the service",
            "Check SENDCODE_PROXY, its login, and that it lets SENDCODE_ENDPOINT through",
        ),
    },
    Kind.STALE: {
        OwnCode.STALE: ("The worker was held up so long that it did not send any more", _WAIT)
    },
    Kind.AMBIGUOUS: {
        "InternalError*": ("The service failed inside: the code may have been sent", _ASK_CUSTOMER),
        OwnCode.READ_TIMEOUT: (
            "The request went out and no answer came in time: the code may have been sent",
            _ASK_CUSTOMER,
        ),
        OwnCode.LOST: (
            "The connection broke after the request went out: the code may have been sent",
            _ASK_CUSTOMER,
        ),
        OwnCode.HTTP_STATUS: (
            "The answer had another HTTP status than 200: the code may have been sent",
            _ASK_CUSTOMER,
        ),
        OwnCode.REDIRECT: (
            "The answer pointed to another address, which is never followed",
            _OTHER_SERVER,
        ),
        OwnCode.TOO_LARGE: ("The answer was far too large to be one of this API", _OTHER_SERVER),
        OwnCode.NOT_JSON: ("The answer was cut short or not one of this API", _OTHER_SERVER),
        OwnCode.WRONG_SHAPE: ("The answer was not one of this API", _OTHER_SERVER),
    },
    Kind.UNKNOWN: _OF_JOBS,
    Kind.PERMANENT: {
        OwnCode.COUNTRY: (
            "No code may be sent to this country, by the settings",
            "Name its calling code in SENDCODE_COUNTRIES, restart the workers, and try it again",
        ),
        "FailedOperation.PhoneBindUpper": (
            "This number already has the most accounts allowed",
            "Ask the customer for another number",
        ),
        "InvalidParameterValue.UnSupportArea": (
            "Accounts cannot be created with numbers of this country or region",
            "Ask the customer for a number of another country or region",
        ),
        # and InvalidParameterValue
        "InvalidParameter*": (
            "The service does not accept this country code or number",
            _FIX_NUMBER,
        ),
        "MissingParameter*": (
            "The service refused the request, not the number: it lacked a field",
            _OUR_BUG,
        ),
        "UnknownParameter*": (
            "The service refused the request, not the number: it had a field too many",
            _OUR_BUG,
        ),
    },
    Kind.THROTTLED: {
        "RequestLimitExceeded*": (
            "The account has sent more requests than the service allows per second",
            "Find out what else uses the account, or lower SENDCODE_RATE_LIMIT",
        )
    },
    Kind.TOO_EARLY: {
        "FailedOperation.SendVerifyCodeLimit60": (
            "This number was sent a code within the last 60 seconds",
            "Wait a minute; if it stays, find out what else sends codes with this account",
        )
    },
    Kind.TOO_OFTEN: {
        "FailedOperation.SendVerifyCodeLimit": (
            "Codes were sent to this number too often",
            "Wait some hours, then try it again",
        )
    },
    Kind.CLOCK: {
        "AuthFailure.SignatureExpire": (
            "This machine's clock is more than 5 minutes off",
            "Set the clock right (NTP) on every worker",
        )
    },
    Kind.ACCOUNT: {
        "AuthFailure.SignatureFailure": (
            "The secret key does not fit the secret id",
            _FIX_CREDENTIALS,
        ),
        "AuthFailure.SecretIdNotFound": (
            "The secret id does not exist or was deleted",
            _FIX_CREDENTIALS,
        ),
        "AuthFailure.InvalidSecretId": ("The secret id is not one for this API", _FIX_CREDENTIALS),
        "AuthFailure.TokenFailure": (
            "The temporary credentials are wrong or have expired",
            f"Renew secret id, key and token together; if they are in the environment, {RESTART}",
        ),
        "AuthFailure.MFAFailure": (
            "The account asks for a second factor, which a program cannot give",
            f"Use credentials that need none, then {RESTART}",
        ),
        "AuthFailure.UnauthorizedOperation": _NOT_ALLOWED,
        "AuthFailure*": ("The service does not accept our credentials", _FIX_CREDENTIALS),
        "UnauthorizedOperation*": _NOT_ALLOWED,
        "IpInBlacklist": (
            "The workers' IP address is barred from this account",
            "Have the account's owner take it off the list",
        ),
        "IpNotInWhitelist": (
            "The workers' IP address is not on this account's list",
            "Have the account's owner add it",
        ),
        "ActionOffline": ("The vendor has taken SendVerifyCode offline", _TICKET),
        "InvalidAction": ("The endpoint does not know SendVerifyCode", _FIX_ENDPOINT),
        "NoSuchProduct": ("The endpoint does not know this product", _FIX_ENDPOINT),
        "NoSuchVersion": ("The endpoint does not know this version of the API", _FIX_ENDPOINT),
        "InvalidRequest": ("The service could not read our request", _OUR_BUG),
        "RequestSizeLimitExceeded": ("Our request was too large", _OUR_BUG),
        "Unsupported*": ("The service does not support this call for the account", _TICKET),
        "LimitExceeded*": (
            "The account's quota is used up",
            "Have the account's owner raise the quota",
        ),
    },
}
"""Meaning and remedy of each code. A star stands for any ending."""
CODES: Mapping[str, Code] = {
    code: Code(kind, *texts) for kind, codes in _BY_KIND.items() for code, texts in codes.items()
}
_OF_A_KEY = ("AuthFailure", "UnauthorizedOperation")
_OF_A_WORKER = ("IpInBlacklist", "IpNotInWhitelist", "InvalidAction", "NoSuch")
_OWN: frozenset[str] = frozenset(OwnCode)
_UNDOCUMENTED = Code(
    Kind.UNKNOWN, "The service gave a code that its documentation does not list", _TICKET
)


def explain(code: str) -> Code:
    """Return the entry for a code; for one that nobody documented, what holds for all of those."""
    return find(code, CODES) or _UNDOCUMENTED


def find(code: str, table: Mapping[str, T]) -> T | None:
    """Return the table's entry for a code: the exact one, else that with the longest beginning."""
    if code in table:
        return table[code]
    fitting = (key for key in table if key.endswith("*") and code.startswith(key[:-1]))
    longest = max(fitting, key=len, default=None)
    return table[longest] if longest is not None else None


def concerned_by(code: str) -> Literal["", "key", "worker"]:
    """Return whom an account-wide code concerns: all, those with the same key, or this worker.

    The latter two are about what a worker was set up with or where it runs.
    """
    if code == "AuthFailure.SignatureExpire" or code.startswith(_OF_A_WORKER):
        return "worker"
    return "key" if code.startswith(_OF_A_KEY) else ""


def explain_end(code: str) -> Code:
    """Return the entry for the code of a job that has ended: nothing is tried by itself now."""
    known = explain(code)
    return replace(known, remedy=_REQUEUE) if known.remedy == _WAIT else known


def is_for_operations(code: str) -> bool:
    """Return whether only operators can mend it, by its settings, its account or its code."""
    known = explain(code)
    is_theirs = known.kind in {Kind.ACCOUNT, Kind.CLOCK, Kind.THROTTLED} or code == OwnCode.FORGED
    return is_theirs or known.remedy == _OUR_BUG or "SENDCODE_" in known.remedy


def is_own(code: str) -> bool:
    """Return whether the code is ours: the API gave no answer, or none that could be read."""
    return code in _OWN


def is_permanent(code: str) -> bool:
    """Return whether the same request would only be refused again."""
    return explain(code).kind is Kind.PERMANENT
