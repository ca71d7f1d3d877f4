"""TC3 signing as a `requests` auth, with a clock that the server can correct."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from requests import PreparedRequest
from requests.auth import AuthBase

from worker.signing import CONTENT_TYPE, Credentials, Signer

_HALF_DATE_S = 0.5  # a Date header is cut to whole seconds: on average it is half a second behind
_NO_DATE_BEFORE = 1_577_836_800  # 2020: a server that says less has no clock to go by


class TC3Auth(AuthBase):
    """Signs a request when it is sent, for the host it names.

    Threads may share one. `clock` gives Unix seconds.
    """

    def __init__(self, credentials: Credentials, host: str, clock: Callable[[], float]) -> None:
        self._signer = Signer(credentials, host)
        self._token = credentials.token
        self._clock = clock
        self.offset_s = 0.0
        """Seconds by which the server's clock is ahead of ours, where it has refused ours."""

    def __repr__(self) -> str:
        return f"TC3Auth(host={self._signer.host!r})"

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        timestamp = int(self._clock() + self.offset_s)
        body = r.body if isinstance(r.body, bytes) else str(r.body or "").encode()
        r.headers["Host"] = self._signer.host
        r.headers["Content-Type"] = CONTENT_TYPE
        r.headers["X-TC-Timestamp"] = str(timestamp)
        if self._token is not None:
            r.headers["X-TC-Token"] = self._token
        r.headers["Authorization"] = self._signer.authorization(body, timestamp)
        return r

    def correct_clock(self, date_header: str | None) -> None:
        """Sign from now on by the server's clock, as its answer's Date header shows it.

        A header that is missing or unreadable changes nothing. The offset is against our raw
        clock, so a second correction does not add to the first.
        """
        try:
            date = parsedate_to_datetime(date_header or "")
            server_time = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError):
            return
        if server_time >= _NO_DATE_BEFORE:
            self.offset_s = server_time + _HALF_DATE_S - self._clock()
