"""The Python call: one event job, accepted in the ledger and published at once.

Whatever may block is done in a thread that the caller waits for just so long: no time-out of a
connection bounds the name service, or several commands together.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis

from config import SendcodeError
from config.celery import make_celery
from config.redis import connect
from config.settings import DATA_KEYS, Settings, load_settings, misspelt
from config.tracing import step
from config.unavailable import RedisUnavailableError
from jobs.identity import LedgerRefusedError, state_file
from jobs.job import JobRecord, Lane, SendCodeJob, State, event_job_id
from jobs.ledger import Ledger, Submitted
from jobs.phone import PhoneNumber
from jobs.publish import NotPublishedError, Publisher
from jobs.quotas import NumberNotAllowedError, Quotas, count_refusal
from producer import bounds

log = logging.getLogger("sendcode.producer")

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.1


class KeyReusedError(SendcodeError, ValueError):
    """This idempotency key was given before, with another number or terms: nothing was done."""

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id
        """The job that the key belongs to."""


def send_code(  # noqa: PLR0913 (all but the number by name)
    country_code: str,
    phone_num: str | None = None,
    *,
    key: str | None = None,
    wait: float | None = None,
    expires_in: float | None = None,
    reference: str | None = None,
    resend: bool = False,
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
        phone_num: Without the country code; spaces, dashes and brackets are understood. A number
            that its country's numbering plan does not have is sent to all the same, as in a batch,
            and flagged: `phone.doubt`, which is `doubt` in the job's `as_dict()`.
        key: Your name for what happened, such as "signup-81723", up to 200 characters. The same
            key again returns the same job and sends nothing, for as long as
            `SENDCODE_RETENTION_DAYS`. Without a key every call is a new job: a call that raised
            `RedisUnavailableError` may have been accepted, and must not simply be repeated.
        wait: Seconds to wait for the end; by default the call returns once the job is accepted.
        expires_in: Seconds after which the code is of no use and is not sent; 365 days at most.
        reference: Your own name for the job, up to 200 characters, returned with it everywhere;
            without the number. Other numbers with a plus in it come back masked.
        resend: Send although another event waits with a code for this number, or its minute is not
            over; by default that one's job is returned, now and for this key again, and nothing is
            sent.
        timeout: Seconds for the job to be accepted, in total.
        settings: Those to use, such as `load_settings("sendcode.env")`; by default those of the
            environment alone, read at the first call. A `.env` in the current folder is the
            application's own and is not looked at.

    Returns:
        The job as it is then: look at `state` (`state.is_final`, `state.is_sent`).

    Raises:
        PhoneError: Nothing can be sent to this number; says why, without the number.
        KeyReusedError: The key belongs to a job for another number, or with other terms
            (`expires_in`, `reference`).
        NumberNotAllowedError: Its country or its kind of line is not allowed by the settings.
        QuotaExceededError: A bound on spending refuses it: `rule`, `retry_after_s`.
        RedisUnavailableError: The job could not be recorded, or nobody knows within `timeout`.
        SettingsError: The settings are wrong, or have no data key.
        SealedError: The ledger is sealed under a data key that the settings do not have.
        ValueError: `key` is empty, too long or holds the number, `reference` is too long, or
            `wait`, `timeout` or `expires_in` make no sense.
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
    events = _events_of(settings)
    call = _Call(
        events, SendCodeJob.for_event(phone, key, expires_in, reference), wait or 0, resend
    )
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

    def __init__(self, events: Events, job: SendCodeJob, wait_s: float, resend: bool) -> None:
        super().__init__(name="send_code", daemon=True)
        self._events = events
        self._job = job
        self._wait_s = wait_s
        self._resend = resend
        self._context = contextvars.copy_context()  # the caller's trace, if it has one
        self._accepted = threading.Event()
        self._record: JobRecord | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            submitted = self._context.run(self._events.accept, self._job, resend=self._resend)
        except Exception as exc:  # noqa: BLE001 (all of them are raised to the caller)
            self._error = exc
            self._accepted.set()
            return
        self._record = submitted.record
        self._accepted.set()
        self._events.publish(submitted)
        if self._wait_s:
            for record in self._events.poll(submitted.record, self._wait_s):
                self._record = record

    def result(self, timeout_s: float) -> JobRecord:
        """Wait, and return the job as it is known by then, or raise what went wrong."""
        deadline = time.monotonic() + timeout_s
        self._accepted.wait(timeout_s)
        if self._error is not None:
            raise self._error
        if self._record is None:
            raise RedisUnavailableError.from_redis(redis.TimeoutError(), self._events.settings)
        # what is accepted is published by a worker if need be
        self.join(max(0.0, deadline - time.monotonic()) + self._wait_s)
        return self._record


class Events:
    """Accepts event jobs, over connections that all calls with the same settings share.

    Thread-safe. Every method may block for as long as Redis does.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._ledger = Ledger(connect(settings, retries=1), settings, state_file(settings))
        self._quotas = Quotas(settings)
        self._publisher = Publisher(make_celery(settings))

    def accept(
        self, job: SendCodeJob, token: str = "", *, resend: bool = False, trace: str = ""
    ) -> Submitted:
        """Record the job in the ledger, or find the one that has its key.

        `token`: the name of the HTTP API's token that asks for it. Without `resend`, an event that
        waits with a code for the same number, or has just sent one, stands for it. A test has ended
        by then; quotas do not apply to it, but the rules on allowed numbers do. `trace`: the
        caller's `traceparent`.

        Raises:
            KeyReusedError: the key belongs to another number, or to other terms.
            NumberNotAllowedError: no code may be sent to this number.
            QuotaExceededError: a bound on spending refuses it.
            RedisUnavailableError: it was perhaps not recorded.
        """
        with step("sendcode.accept", "PRODUCER", trace) as taken, self._redis_errors():
            self._check(job)
            quotas = self._quotas.of(job.phone, token, self._ledger.records.vault.index)
            submitted = self._ledger.submit(
                job, quotas, token=token, resend=resend, trace=taken.traceparent
            )
            taken.note(job_id=submitted.record.job_id, is_new=submitted.is_new)
        record = submitted.record
        differs = submitted.differs
        if not submitted.is_same_number:
            differs = next((what for what, same in job.compare(record).items() if not same), "")
        if differs:
            raise KeyReusedError(
                f"this key was used before, for {record.phone.masked} and with another {differs} "
                f"(job {record.job_id}): give each code a key of its own",
                record.job_id,
            )
        return submitted

    def close(self) -> None:
        """Close the connections to the ledger; they open again when they are needed."""
        self._ledger.client.close()

    def _check(self, job: SendCodeJob) -> None:
        try:
            watching = self._quotas.check(job.phone)
        except NumberNotAllowedError as exc:
            if not job.is_test:
                count_refusal(self._ledger.client, self.settings, exc.rule, "refused")
            raise
        if watching and not job.is_test:
            count_refusal(self._ledger.client, self.settings, watching, "watched")

    def publish(self, submitted: Submitted) -> None:
        """Hand a new job to the workers; if that fails, they notice and publish it themselves."""
        if not submitted.is_new or submitted.record.state.is_final:
            return
        try:
            self._publisher.publish([(Lane.EVENT, submitted.record.job_id)])
        except NotPublishedError as exc:
            reason = RedisUnavailableError.from_redis(exc, self.settings)
            log.warning("accepted, but left to a worker to publish: %s", reason)

    def job(self, job_id: str) -> JobRecord | None:
        """Return a job; None if there is none.

        Raises:
            RedisUnavailableError: it cannot be found out.
        """
        with self._redis_errors():
            return self._ledger.job(job_id)

    def job_of_key(self, key: str, *, is_test: bool) -> JobRecord | None:
        """Return the job that an idempotency key was answered with; None if there is none.

        Raises:
            RedisUnavailableError: it cannot be found out.
        """
        with self._redis_errors():
            return self._ledger.job_of_key(event_job_id(key, is_test=is_test))

    def poll(self, record: JobRecord, wait_s: float) -> Iterator[JobRecord]:
        """Read the job until it has ended or the time is over; an error is tried again."""
        deadline = time.monotonic() + wait_s
        pause_s = _FIRST_PAUSE_S
        while not record.state.is_final:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
            with suppress(redis.RedisError):
                record = self._ledger.job(record.job_id) or record
                yield record

    def estimated_send_ms(self, record: JobRecord, next_slot_ms: int = 0) -> int | None:
        """Return when an event job's request will leave, in Unix ms; None if it has left.

        An estimate from what waits in front of it, at the present rate. `next_slot_ms`: as the
        ledger returned it a moment ago; 0 to ask for it.
        """
        if record.state is State.PARKED:
            return record.due_ms
        if record.state is not State.QUEUED:
            return None
        with self._redis_errors():
            return next_slot_ms or self._ledger.next_slot_ms()

    @contextmanager
    def _redis_errors(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as exc:
            raise RedisUnavailableError.from_redis(exc, self.settings) from exc
        except LedgerRefusedError as exc:
            place = self.settings.redis.place
            raise RedisUnavailableError(f"Redis at {place}: {exc}") from exc


_shared: dict[Settings | None, Events] = {}
_lock = threading.Lock()


def _events_of(settings: Settings | None) -> Events:
    with _lock:
        events = _shared.get(settings)
        if events is None:
            events = _shared[settings] = Events(settings or _from_environment())
        return events


def _from_environment() -> Settings:
    for name, remedy in misspelt(env_file=None).items():
        log.warning("%s is not a setting and changes nothing: %s", name, remedy)
    return load_settings(env_file=None, required=(DATA_KEYS,))


def _forget_connections() -> None:
    """Drop the shared connections in a forked child: its parent's sockets are not its own."""
    global _lock  # noqa: PLW0603 (a lock that another thread held at the fork is never released)
    _lock = threading.Lock()
    _shared.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connections)
