"""The Python call: one event job, accepted in the ledger and published at once."""

from __future__ import annotations

import logging
import os
import threading
import time

import redis

from config.celery import make_celery
from config.redis import connect
from config.settings import Settings, load_settings
from config.unavailable import RedisUnavailableError
from jobs.clock import time_ms
from jobs.identity import LedgerRefusedError, state_file
from jobs.job import JobRecord, Lane, SendCodeJob
from jobs.ledger import Ledger, Submitted
from jobs.phone import PhoneNumber
from jobs.publish import NotPublishedError, Publisher
from producer import bounds

log = logging.getLogger("sendcode.producer")

_FIRST_LOOK_S = 0.01
_LONGEST_PAUSE_S = 0.1


class KeyReusedError(ValueError):
    """This idempotency key was given before, with another number: nothing was done."""


def send_code(
    country_code: str,
    phone_num: str,
    *,
    key: str | None = None,
    wait: float | None = None,
    expires_in: float | None = None,
    settings: Settings | None = None,
) -> JobRecord:
    """Have one verification code sent, overtaking every waiting batch job.

    Once this returns, the job is in the ledger and ends in a final state, whatever fails from then
    on. Threads share the connections; a forked child makes its own. Fork before threads send, as
    pre-forking servers do: a fork in the middle of a call copies locks that nobody releases.

    Args:
        country_code: Such as "852"; "+852" and "00852" are understood.
        phone_num: Without the country code; blanks, dashes and brackets are understood.
        key: Your name for what happened, such as "signup-81723", up to 200 characters. The same
            key again gives the same job and sends nothing, for as long as
            `SENDCODE_RETENTION_DAYS`. Without a key every call is a new job: a call that raised
            `RedisUnavailableError` may have been accepted, and must not simply be repeated.
        wait: Seconds to wait for the end; by default the call returns once the job is accepted.
        expires_in: Seconds after which the code is of no use and is not sent; 365 days at most.
        settings: Those to use; by default the environment's, read at the first call.

    Returns:
        The job as it is then: look at `state` (`state.is_final`, `state.is_sent`).

    Raises:
        PhoneError: Nothing can be sent to this number; says why, without the number.
        KeyReusedError: The key belongs to a job for another number.
        RedisUnavailableError: The job could not be recorded.
        SettingsError: The settings are wrong.
        ValueError: `key` is empty or too long, or `wait` or `expires_in` make no sense.
    """
    phone = PhoneNumber.parse(country_code, phone_num)
    if expires_in is not None:
        try:
            bounds.life_s(expires_in)
        except ValueError as exc:
            raise ValueError(f"expires_in: {exc}") from None
    if wait is not None and not wait >= 0:
        raise ValueError("wait: must not be negative")
    line = _line_to(settings)
    record = line.accept(phone, key, expires_in)
    return record if wait is None else line.wait_for(record, wait)


class _Line:
    """The connections that the calls with the same settings share."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ledger = Ledger(connect(settings), settings, state_file(settings))
        self._publisher = Publisher(make_celery(settings))

    def accept(self, phone: PhoneNumber, key: str | None, expires_in: float | None) -> JobRecord:
        try:
            not_after_ms = None if expires_in is None else self._now_ms() + round(expires_in * 1000)
            submitted = self._ledger.submit(SendCodeJob.for_event(phone, key, not_after_ms))
        except redis.RedisError as exc:
            raise RedisUnavailableError.from_redis(exc, self._settings) from exc
        except LedgerRefusedError as exc:
            place = self._settings.redis_place
            raise RedisUnavailableError(f"Redis at {place}: {exc}") from exc
        if submitted.record.phone != phone:
            raise KeyReusedError(
                f"this key was used before, for {submitted.record.phone.masked} "
                f"(job {submitted.record.job_id}): give each code a key of its own"
            )
        self._publish(submitted)
        return submitted.record

    def wait_for(self, record: JobRecord, wait_s: float) -> JobRecord:
        """Look until the job has ended or the time is over; a look that fails is tried again."""
        deadline = time.monotonic() + wait_s
        pause_s = _FIRST_LOOK_S
        while not record.state.is_final:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
            try:
                record = self._ledger.job(record.job_id) or record
            except redis.RedisError:
                continue
        return record

    def _publish(self, submitted: Submitted) -> None:
        if not submitted.is_new:
            return
        try:
            self._publisher.publish([(Lane.EVENT, submitted.record.job_id)])
        except NotPublishedError as exc:
            # accepted all the same: the sweepers miss its message and publish it
            reason = RedisUnavailableError.from_redis(exc, self._settings)
            log.warning("accepted, but left to a worker to publish: %s", reason)

    def _now_ms(self) -> int:
        return time_ms(self._ledger.client.time())


_lines: dict[Settings | None, _Line] = {}
_lock = threading.Lock()


def _line_to(settings: Settings | None) -> _Line:
    with _lock:
        line = _lines.get(settings)
        if line is None:
            line = _lines[settings] = _Line(settings or load_settings())
        return line


def _forget_lines() -> None:
    """In a forked child: its parent's sockets are not its own."""
    global _lock  # noqa: PLW0603 (a lock that another thread held at the fork is never released)
    _lock = threading.Lock()
    _lines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lines)
