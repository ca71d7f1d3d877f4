"""The API itself: one request in, one decision out. No I/O; time is passed in.

Order of the checks, each a place where a request can end: protocol, action and version,
signature, rate, parameters, state of the account, the number. Where the vendor's pages leave the
order open, we chose it.
"""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sandbox.journal import SECOND_NS, Journal, NumberRecord, SlidingWindow
from sandbox.numbers import ORDINARY, Behaviour, Delivery, behaviour_named, magic_for
from sandbox.settings import AccountState, Settings
from sandbox.signature import Credentials, Refused, verify
from sandbox.wire import JSON, Request

ACTION: Final = "SendVerifyCode"
VERSION: Final = "2022-09-28"
MAX_CLIENT_NAME: Final = 128
# Source: the official SDK's description of the request (the reference page names no limits).
BARRED_COUNTRIES: Final = frozenset(("7", "380", "86"))
_PHONE_NUM: Final = re.compile(r"[0-9]{1,32}")
_COUNTRY_CODE: Final = re.compile(r"[1-9][0-9]{0,3}")
_NAMES: Final = ("CountryCode", "PhoneNum")
# The error codes here and in `sandbox.numbers` are those of the vendor's reference page (section 6)
# and its page of common error codes. Messages are ours: the vendor says to decide by code alone.


@dataclass(frozen=True, slots=True)
class Parameters:
    """Whom to send a code: digits only."""

    country_code: str
    phone_num: str

    @property
    def number(self) -> str:
        """The digits of the international form, which identify a telephone."""
        return self.country_code + self.phone_num


@dataclass(frozen=True, slots=True)
class Decision:
    """What the API answers (success has no code), and how the answer is sent."""

    request_id: str
    code: str | None = None
    message: str = "The request was refused."
    delivery: Delivery = Delivery.PLAIN


class Api:
    """One account at the vendor, and all that the API remembers of it."""

    def __init__(
        self, credentials: Credentials, settings: Settings, *, seed: int, started_ns: int
    ) -> None:
        self.credentials = credentials
        """The only credentials that are accepted."""
        self._seed = seed
        self._window = SlidingWindow(settings.rate_limit)
        self.change(settings)
        self.reset(started_ns)

    def change(self, settings: Settings) -> None:
        """Change the settings; nothing is forgotten."""
        self.settings = settings
        self._window.set_rate(settings.rate_limit)
        self._interval_ns = round(settings.phone_interval * SECOND_NS)
        self._faults = [(behaviour_named(name), p) for name, p in settings.faults.items()]

    def reset(self, now_ns: int) -> None:
        """Forget all requests, numbers and counts; keep the settings, restart the random faults."""
        self.journal = Journal(now_ns)
        self._window.clear()
        self._random = random.Random(self._seed)  # noqa: S311 - faults must be repeatable

    def decide(self, request: Request, at_ns: int, now: float) -> Decision:
        """Answer a request to the API.

        Args:
            request: as received.
            at_ns: its arrival on the monotonic clock; never earlier than the one before.
            now: the same moment on the API's clock, in Unix seconds.
        """
        self.journal.record_arrival(at_ns, self._window.places)
        request_id = str(uuid.uuid4())
        number = None
        try:
            # Read first, so that a request refused for another reason also counts for its number.
            with suppress(Refused):
                number = read_parameters(request.body).number
                self.journal.number(number).requests += 1
            self._admit(request, at_ns, now)
            parameters = read_parameters(request.body)
        except Refused as refused:
            self.journal.record_answer(at_ns, number, refused.code)
            return Decision(request_id, refused.code, refused.message)
        record = self.journal.number(parameters.number)
        behaviour = self._account_behaviour() or self._number_behaviour(parameters, record)
        code = self._apply(behaviour, record, at_ns)
        self.journal.record_answer(at_ns, number, code, behaviour.name)
        return Decision(request_id, code, delivery=behaviour.delivery)

    def _admit(self, request: Request, at_ns: int, now: float) -> None:
        """Check everything that the API checks before the parameters."""
        _check_protocol(request)
        verify(request, self.credentials, now)
        if not self._window.admit(at_ns):
            self.journal.rejected_rate_limit += 1
            raise Refused("RequestLimitExceeded")

    def _account_behaviour(self) -> Behaviour | None:
        state = self.settings.account_state
        if state is None:
            return None
        if state.requests is not None:
            left = state.requests - 1
            rest = AccountState(behaviour=state.behaviour, requests=left) if left else None
            self.settings = self.settings.model_copy(update={"account_state": rest})
        return behaviour_named(state.behaviour)

    def _number_behaviour(self, parameters: Parameters, record: NumberRecord) -> Behaviour:
        record.tries += 1
        magic = magic_for(parameters.phone_num)
        if magic is None:
            return self._random_behaviour()
        is_over = magic.tries is not None and record.tries > magic.tries
        return ORDINARY if is_over else behaviour_named(magic.behaviour)

    def _random_behaviour(self) -> Behaviour:
        if not self._faults:
            return ORDINARY
        draw = self._random.random()
        for behaviour, probability in self._faults:
            if draw < probability:
                return behaviour
            draw -= probability
        return ORDINARY

    def _apply(self, behaviour: Behaviour, record: NumberRecord, at_ns: int) -> str | None:
        """Send the code, or not; return the error code of the answer."""
        if behaviour.elsewhere:
            record.interval_from_ns = at_ns
        if not behaviour.accepts:
            return behaviour.code
        if self._in_interval(record, at_ns):
            self.journal.refused_interval += 1
            return behaviour.code or "FailedOperation.SendVerifyCodeLimit60"
        self.journal.record_sent(record, at_ns)
        return behaviour.code

    def _in_interval(self, record: NumberRecord, at_ns: int) -> bool:
        if not self._interval_ns or record.interval_from_ns is None:
            return False
        # "should be greater than 60 seconds", says the reference page: 60 exactly is too early.
        return at_ns - record.interval_from_ns <= self._interval_ns


def _check_protocol(request: Request) -> None:
    headers = request.headers
    if request.method != "POST":
        raise Refused("UnsupportedProtocol")
    if request.too_large:
        raise Refused("RequestSizeLimitExceeded")
    for name in ("X-TC-Action", "X-TC-Version"):
        if name.lower() not in headers:
            raise Refused("MissingParameter", f"The header {name} is missing.")
    if headers["x-tc-action"] != ACTION:
        raise Refused("InvalidAction")
    if headers["x-tc-version"] != VERSION:
        raise Refused("NoSuchVersion")
    if len(headers.get("x-tc-requestclient", "")) > MAX_CLIENT_NAME:
        raise Refused("InvalidParameter", "X-TC-RequestClient has more than 128 characters.")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Refused("InvalidRequest", "The Content-Type is not application/json.")


def read_parameters(body: bytes) -> Parameters:
    """Return the parameters in `body`.

    Raises:
        Refused: InvalidParameter, UnknownParameter, MissingParameter or InvalidParameterValue.
    """
    try:
        document = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique_names, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise Refused("InvalidParameter", "The body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise Refused("InvalidParameter", "The body is not a JSON object.")
    for name in document:
        if name not in _NAMES:
            raise Refused("UnknownParameter", "The body has a parameter that is not known.")
    for name in _NAMES:
        if name not in document:
            raise Refused("MissingParameter", f"The parameter {name} is missing.")
        if not isinstance(document[name], str):
            raise Refused("InvalidParameter", f"The parameter {name} is not a string.")
    country_code, phone_num = document["CountryCode"], document["PhoneNum"]
    if not _COUNTRY_CODE.fullmatch(country_code):
        raise Refused("InvalidParameterValue", "CountryCode is not a country code.")
    if not _PHONE_NUM.fullmatch(phone_num):
        raise Refused("InvalidParameterValue", "PhoneNum is not 1 to 32 digits.")
    if country_code in BARRED_COUNTRIES:
        raise Refused("InvalidParameterValue.UnSupportArea")
    return Parameters(country_code, phone_num)


def _unique_names(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name appears twice")
    return document


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
