"""The Python call: one event job, accepted in the ledger and published at once.

Whatever may block is done in a thread that the caller waits for just so long: no time-out of a
connection bounds the name service, or several commands together.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import redis

from config import SendcodeError
from config.celery import make_celery
from config.redis import connect
from config.settings import Settings, load_settings, misspelt
from config.unavailable import RedisUnavailableError
from jobs.identity import LedgerRefusedError, state_file
from jobs.job import JobRecord, Lane, SendCodeJob
from jobs.ledger import Ledger, Submitted
from jobs.phone import PhoneNumber
from jobs.publish import NotPublishedError, Publisher
from jobs.scripts import time_ms
from producer import bounds

log = logging.getLogger("sendcode.producer")

_FIRST_LOOK_S = 0.01
_LONGEST_PAUSE_S = 0.1


class KeyReusedError(SendcodeError, ValueError):
    """This idempotency key was given before, with another number: nothing was done."""


def send_code(
    country_code: str,
    phone_num: str | None = None,
    *,
    key: str | None = None,
    wait: float | None = None,
    expires_in: float | None = None,
    timeout: float = 2.0,
    settings: Settings | None = None,
) -> JobRecord:
    """Have one verification code sent, overtaking every waiting batch job.

    Once this returns, the job is in the ledger and ends in a final state, whatever fails from then
    on. It blocks for milliseconds, and for `timeout` seconds at most where Redis is slow, silent or
    away, plus `wait` seconds if that is given.

    Threads share the connections; a forked child makes its own. Fork before threads send, as
    pre-forking servers do: a fork in the middle of a call copies locks that nobody releases.

    Args:
        country_code: Such as "852"; "+852" and "00852" are understood. Or the whole number in
            international form, "+852 5123 4567", and no `phone_num`.
        phone_num: Without the country code; blanks, dashes and brackets are understood. A number
            that its country's numbering plan does not have is sent to all the same, as in a batch,
            and flagged: `phone.doubt`, which is `doubt` in the job's `as_dict()`.
        key: Your name for what happened, such as "signup-81723", up to 200 characters. The same
            key again gives the same job and sends nothing, for as long as
            `SENDCODE_RETENTION_DAYS`. Without a key every call is a new job: a call that raised
            `RedisUnavailableError` may have been accepted, and must not simply be repeated.
        wait: Seconds to wait for the end; by default the call returns once the job is accepted.
        expires_in: Seconds after which the code is of no use and is not sent; 365 days at most.
        timeout: Seconds for the job to be accepted, in total.
        settings: Those to use, such as `load_settings("sendcode.env")`; by default those of the
            environment alone, read at the first call. A `.env` in the current folder is the
            application's own and is not looked at.

    Returns:
        The job as it is then: look at `state` (`state.is_final`, `state.is_sent`).

    Raises:
        PhoneError: Nothing can be sent to this number; says why, without the number.
        KeyReusedError: The key belongs to a job for another number.
        RedisUnavailableError: The job could not be recorded, or nobody knows within `timeout`.
        SettingsError: The settings are wrong.
        ValueError: `key` is empty or too long, or `wait`, `timeout` or `expires_in` make no sense.
        TypeError: A part of the number is no text.
    """
    phone = _phone(country_code, phone_num)
    if expires_in is not None:
        try:
            bounds.life_s(expires_in)
        except ValueError as exc:
            raise ValueError(f"expires_in: {exc}") from None
    if wait is not None and not 0 <= wait <= threading.TIMEOUT_MAX:
        raise ValueError("wait: must not be negative, or endless")
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise ValueError("timeout: must be more than 0 seconds, and not endless")
    line = _line_to(settings)
    call = _Call(line, phone, key, expires_in, wait or 0)
    call.start()
    return call.result(timeout)


def _phone(country_code: str, phone_num: str | None) -> PhoneNumber:
    for name, value in (("country_code", country_code), ("phone_num", phone_num)):
        if not isinstance(value, str) and not (name == "phone_num" and value is None):
            raise TypeError(
                f"{name}: must be text, not {type(value).__name__}, which loses zeros and a plus "
                'sign: send_code("852", "51234567")'
            )
    if phone_num is None:
        phone = PhoneNumber.from_international(country_code)
    else:
        phone = PhoneNumber.parse(country_code, phone_num)
    if doubt := phone.doubt:
        log.info("doubtful number %s, sent to all the same: %s", phone.masked, doubt.message)
    return phone


class _Call(threading.Thread):
    """One call, in a thread that may outlive it where Redis is silent."""

    def __init__(
        self,
        line: _Line,
        phone: PhoneNumber,
        key: str | None,
        expires_in: float | None,
        wait_s: float,
    ) -> None:
        super().__init__(name="send_code", daemon=True)
        self._line = line
        self._phone = phone
        self._key = key
        self._expires_in = expires_in
        self._wait_s = wait_s
        self._accepted = threading.Event()
        self._record: JobRecord | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            submitted = self._line.accept(self._phone, self._key, self._expires_in)
        except Exception as exc:  # noqa: BLE001 (all of them are raised to the caller)
            self._error = exc
            self._accepted.set()
            return
        self._record = submitted.record
        self._accepted.set()
        self._line.publish(submitted)
        if self._wait_s:
            for record in self._line.looks(submitted.record, self._wait_s):
                self._record = record

    def result(self, timeout_s: float) -> JobRecord:
        """Wait, and return the job as it is known by then, or raise what went wrong."""
        deadline = time.monotonic() + timeout_s
        self._accepted.wait(timeout_s)
        if self._error is not None:
            raise self._error
        if self._record is None:
            raise RedisUnavailableError.from_redis(redis.TimeoutError(), self._line.settings)
        # what is accepted is published by a worker if need be
        self.join(max(0.0, deadline - time.monotonic()) + self._wait_s)
        return self._record


class _Line:
    """The connections that the calls with the same settings share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._ledger = Ledger(connect(settings, retries=1), settings, state_file(settings))
        self._publisher = Publisher(make_celery(settings))

    def accept(self, phone: PhoneNumber, key: str | None, expires_in: float | None) -> Submitted:
        try:
            not_after_ms = None if expires_in is None else self._now_ms() + round(expires_in * 1000)
            submitted = self._ledger.submit(SendCodeJob.for_event(phone, key, not_after_ms))
        except redis.RedisError as exc:
            raise RedisUnavailableError.from_redis(exc, self.settings) from exc
        except LedgerRefusedError as exc:
            place = self.settings.redis.place
            raise RedisUnavailableError(f"Redis at {place}: {exc}") from exc
        if submitted.record.phone != phone:
            raise KeyReusedError(
                f"this key was used before, for {submitted.record.phone.masked} "
                f"(job {submitted.record.job_id}): give each code a key of its own"
            )
        return submitted

    def looks(self, record: JobRecord, wait_s: float) -> Iterator[JobRecord]:
        """Look until the job has ended or the time is over; a look that fails is tried again."""
        deadline = time.monotonic() + wait_s
        pause_s = _FIRST_LOOK_S
        while not record.state.is_final:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
            with suppress(redis.RedisError):
                record = self._ledger.job(record.job_id) or record
                yield record

    def publish(self, submitted: Submitted) -> None:
        if not submitted.is_new:
            return
        try:
            self._publisher.publish([(Lane.EVENT, submitted.record.job_id)])
        except NotPublishedError as exc:
            # accepted all the same: the sweepers miss its message and publish it
            reason = RedisUnavailableError.from_redis(exc, self.settings)
            log.warning("accepted, but left to a worker to publish: %s", reason)

    def _now_ms(self) -> int:
        return time_ms(self._ledger.client.time())


_lines: dict[Settings | None, _Line] = {}
_lock = threading.Lock()


def _line_to(settings: Settings | None) -> _Line:
    with _lock:
        line = _lines.get(settings)
        if line is None:
            line = _lines[settings] = _Line(settings or _from_environment())
        return line


def _from_environment() -> Settings:
    for name, remedy in misspelt(env_file=None).items():
        log.warning("%s is no setting and changes nothing: %s", name, remedy)
    return load_settings(env_file=None)


def _forget_lines() -> None:
    """In a forked child: its parent's sockets are not its own."""
    global _lock  # noqa: PLW0603 (a lock that another thread held at the fork is never released)
    _lock = threading.Lock()
    _lines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lines)
