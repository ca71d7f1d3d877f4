"""The client of SendVerifyCode: one HTTP call in, one verdict out.

Whatever network and server do becomes a verdict here, at one seam, by one rule: before the request
was written the code was not sent; after that, only an answer shows whether it was.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from urllib3.connection import port_by_scheme

from jobs.api_connection import Proxy, code_before_writing, in_short
from jobs.codes import Kind, OwnCode
from worker.deadline import Exchange, now_s
from worker.pool import NETWORK_ERRORS, Session, root_of
from worker.signing import CONTENT_TYPE, Credentials, Signer
from worker.verdict import Verdict, judge_body, judge_status, own_verdict

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "sendcode/0.1",
    "X-TC-Action": "SendVerifyCode",
    "X-TC-Version": "2022-09-28",
    "X-TC-Language": "en-US",
    "X-TC-RequestClient": "sendcode/0.1",
}
_LARGEST_ANSWER = 64 * 1024  # bytes, decompressed; a real answer has fewer than 300
_HALF_DATE_S = 0.5  # a Date header is cut to whole seconds: on average it is half a second behind
_NO_DATE_BEFORE = 1_577_836_800  # 2020: an earlier date comes from a clock that is not set


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one call.

    Attributes:
        verdict: What it means.
        sent_at: When the request was written, in seconds of the client's `now`; None: it
            was not, and the server has counted nothing.
        answered_at: When the answer's first byte was there, on the same clock; None: none came.
            The server counted the request between the two.
        acknowledged_at: When the peer's kernel had the request, on the same clock, the
            acknowledgement's return trip included; None: that is not known.
        took_ms: The whole call, connecting included.
    """

    verdict: Verdict
    sent_at: float | None
    answered_at: float | None
    acknowledged_at: float | None
    took_ms: int
    fingerprint: str = ""
    """Of the credentials that the request was signed with."""


class SendVerifyCodeClient:
    """Calls the API. Any number of threads may share one; build it after any fork."""

    def __init__(
        self,
        endpoint: str,
        credentials: Credentials,
        timeout_s: float,
        *,
        clock: Callable[[], float] = time.time,
        now: Callable[[], float] = now_s,
        ca_bundle: str | None = None,
        proxy: str | None = None,
        is_acknowledged: bool = True,
    ) -> None:
        """Prepare it; nothing connects yet.

        Args:
            endpoint: Base URL without a path.
            credentials: The account's.
            timeout_s: Total for one call, answer read in full.
            clock: Unix seconds, for signatures.
            now: Seconds, for limits and the stamps of an answer; counts time in suspension.
            ca_bundle: File of trusted certificates; by default that of `requests`.
            proxy: URL of an HTTP proxy to tunnel through (CONNECT); not for plain http.
            is_acknowledged: Whether to ask the kernel when the peer acknowledged a request.

        Raises:
            ValueError: The endpoint is no such URL.
        """
        url = urlsplit(endpoint)
        if url.scheme not in port_by_scheme or not url.hostname or url.path not in {"", "/"}:
            raise ValueError("the endpoint must be a base URL such as https://host")
        name = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        is_usual = url.port in {None, port_by_scheme[url.scheme]}
        self._host = name if is_usual else f"{name}:{url.port}"
        self._url = f"{url.scheme}://{self._host}/"
        self.timeout_s = timeout_s
        """Total seconds for one call."""
        self._exchange = Exchange(now)
        self._clock = clock
        self._auth = TC3Auth(credentials, self._host, clock)
        self._session = Session(
            endpoint,
            self._exchange,
            timeout_s,
            ca_bundle=ca_bundle,
            proxy=Proxy.from_url(proxy) if proxy else None,
            is_acknowledged=is_acknowledged,
        )
        self._request = self._session.prepare_request(
            requests.Request("POST", self._url, headers=_HEADERS)
        )

    def __repr__(self) -> str:
        return f"SendVerifyCodeClient({self._url!r})"

    @property
    def fingerprint(self) -> str:
        """Mark of the credentials that it signs with."""
        return self._auth.fingerprint

    @property
    def clock_offset_s(self) -> float:
        """Seconds by which the server's clock is ahead of ours; 0 until it has refused ours."""
        return self._auth.offset_s

    def sign_with(self, credentials: Credentials) -> None:
        """Sign with other credentials from the next call on."""
        self._auth = TC3Auth(credentials, self._host, self._clock, self._auth.offset_s)

    def send(
        self,
        country_code: str,
        phone_num: str,
        *,
        not_after: float | None = None,
        when_acknowledged: Callable[[float, float], object] = lambda _sent, _at: None,
    ) -> Answer:
        """Ask for one code to be sent: one HTTP call at most, whatever comes of it.

        `not_after` is a time on the client's clock `now` after which nothing is written any more,
        checked when all else is done, connecting included. A call that was too late leaves its
        connection open for the next. For `when_acknowledged` see `Exchange.start`.
        Raises nothing for what network and server do.
        """
        body = json.dumps({"CountryCode": country_code, "PhoneNum": phone_num}).encode()
        exchange, auth = self._exchange, self._auth
        exchange.start(self.timeout_s, not_after, when_acknowledged)
        started = exchange.now()
        outer = sys.exception()  # what the caller may just be handling is no part of a failure here
        try:
            verdict = self._call(body, auth)
        except Exception as exc:
            if exchange.sent_at is None and not isinstance(exc, NETWORK_ERRORS):
                raise  # a defect of ours, with nothing sent
            verdict = _verdict_on_failure(exc, outer, exchange)
        took_ms = round((exchange.now() - started) * 1000)
        return Answer(
            verdict,
            exchange.sent_at,
            exchange.answered_at,
            exchange.acknowledged_at,
            took_ms,
            auth.fingerprint,
        )

    def make_ready(self) -> None:
        """Open a connection, so that a slot need not wait for it; what fails shows in `send`."""
        self._session.make_ready()

    def close(self) -> None:
        """Close all connections; the client cannot be used afterwards."""
        self._session.close()

    def _call(self, body: bytes, auth: TC3Auth) -> Verdict:
        request = self._request.copy()
        request.body = body
        request.headers["Content-Length"] = str(len(body))
        response = self._session.post_once(auth(request))
        try:
            if self._exchange.sent_at is None:
                response.raw.drain_conn()
                return own_verdict(OwnCode.STALE, f"by {self._exchange.late_s() * 1000:.0f} ms")
            verdict = judge_status(response.status_code)
            if verdict is None:
                verdict = self._read(response)
        finally:
            response.close()  # and the connection, unless the answer was read to its end
        if verdict.kind is Kind.CLOCK:
            auth.correct_clock(response.headers.get("Date"))
        return verdict

    def _read(self, response: requests.Response) -> Verdict:
        answer = response.raw.read(_LARGEST_ANSWER + 1, decode_content=True)
        if len(answer) > _LARGEST_ANSWER:
            return own_verdict(OwnCode.TOO_LARGE, f"more than {_LARGEST_ANSWER} bytes")
        return judge_body(answer)


def _verdict_on_failure(
    exc: BaseException, outer: BaseException | None, exchange: Exchange
) -> Verdict:
    """Return the verdict on an exception; all foreign ones are translated here.

    Only the type of the one that urllib3 and requests have wrapped is shown: their texts may hold
    addresses, or what a server sent. A `ProxyError` has a text of our own.
    """
    exc = root_of(exc, outer)
    if exchange.sent_at is not None:
        code = OwnCode.READ_TIMEOUT if exchange.is_over() else OwnCode.LOST
    else:
        code = code_before_writing(exc)
    return own_verdict(code, in_short(exc))


class TC3Auth(AuthBase):
    """Signs a request when it is sent, for the host it names; the server can correct its clock.

    Threads may share one. `clock` returns Unix seconds.
    """

    def __init__(
        self,
        credentials: Credentials,
        host: str,
        clock: Callable[[], float],
        offset_s: float = 0.0,
    ) -> None:
        self._signer = Signer(credentials, host)
        self._token = credentials.token
        self._clock = clock
        self.fingerprint = credentials.fingerprint
        self.offset_s = offset_s
        """Seconds by which the server's clock is ahead of ours, where it has refused ours."""

    def __repr__(self) -> str:
        return f"TC3Auth(host={self._signer.host!r})"

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
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
