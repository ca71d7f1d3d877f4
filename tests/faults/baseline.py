"""The same work done by a plain Celery task, with the settings that are usually advised.

Late acknowledgement, rejection on a lost worker, a visibility timeout that is just long enough and
often looked at, automatic retries with back-off. The same API client signs and sends, so that the
difference is the ledger's alone. It is also kind to the plain task: the API's rate limit is off,
an answer that leaves a doubt is not tried again, and nothing but SIGKILL of workers befalls it.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import redis
from celery import Celery
from kombu import Queue

from config import BATCH_QUEUE, SEND_CODE_TASK
from config.settings import Settings, load_settings
from jobs.codes import Kind
from jobs.phone import PhoneNumber
from tests.faults import doomed
from tests.faults.audit import Asked, Findings
from tests.faults.injector import Injector, plan
from tests.faults.recovery import Recoveries
from tests.faults.result import Result
from tests.faults.workers import crew
from tests.faults.world import World
from worker.api import SendVerifyCodeClient
from worker.signing import Credentials

WORKERS = 4
VISIBILITY_S = 8
"""Unacknowledged for so long, a message is delivered again: longer than any task takes, as advised,
and in this quick world as long as 80 s are in the real one."""
RESTORE_S = 1
"""Looked at so often. By default it is every 100 s."""
BACKLOG = 50
"""Messages published and not worked off at any time."""
_PHONES = "plain:phones"
_DONE = "plain:done"


class NotNowError(Exception):
    """To be tried again by Celery."""


def send_one(job_id: str) -> str:
    """Send one code; gives the request id.

    Raises:
        NotNowError: it was certainly not sent.
    """
    phone = str(_redis().hget(_PHONES, job_id))
    answer = _client().send("852", phone)
    if answer.verdict.kind in {Kind.TRANSIENT, Kind.THROTTLED}:
        raise NotNowError(answer.verdict.code)
    _redis().hset(_DONE, job_id, answer.verdict.code or "sent")
    return answer.verdict.request_id or ""


def make_app(settings: Settings) -> Celery:
    app = Celery("plain", broker=settings.redis_url, backend=settings.redis_url)
    app.conf.update(
        task_queues=[Queue(BATCH_QUEUE)],
        task_default_queue=BATCH_QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=settings.sendcode_concurrency,
        worker_pool="threads",
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_S,
            "unacked_restore_interval": RESTORE_S,
            "unacked_restore_throttle": 1,
        },
    )

    @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
        name=SEND_CODE_TASK,
        autoretry_for=(NotNowError,),
        retry_backoff=1,
        max_retries=5,
        acks_late=True,
        reject_on_worker_lost=True,
    )
    def send_code(job_id: str) -> str:
        # looked up in the module, so that the watched one is called
        return str(globals()["send_one"](job_id))

    return app


_made: dict[str, Any] = {}


def __getattr__(name: str) -> Any:
    if name in {"app", "celery"}:
        return _made.setdefault("app", make_app(load_settings(None)))
    raise AttributeError(name)


def _redis() -> redis.Redis:
    if "redis" not in _made:
        _made["redis"] = redis.Redis.from_url(load_settings(None).redis_url, decode_responses=True)
    found: redis.Redis = _made["redis"]
    return found


def _client() -> SendVerifyCodeClient:
    if "client" not in _made:
        settings = load_settings(None)
        secret_id, secret_key, token = settings.credentials()
        _made["client"] = SendVerifyCodeClient(
            settings.sendcode_endpoint,
            Credentials(secret_id, secret_key, token),
            settings.sendcode_http_timeout,
        )
    found: SendVerifyCodeClient = _made["client"]
    return found


def run(*, jobs: int, kills: int, seed: int) -> Result:
    """Do to the plain task what is done to ours, SIGKILL of workers alone."""
    chance = random.Random(seed)
    with World(sandbox_options=("--rate-limit", "0")) as world:
        recoveries = Recoveries()
        names = {f"p{number}": world.settings for number in range(1, WORKERS + 1)}
        with crew(names, world.folder, recoveries.listen, "tests.faults.baseline") as workers:
            workers.wait_ready()
            faults = plan(kills, doomed.PLAIN_POINTS, chance, plain=True)
            inject = Injector(world, workers, recoveries, faults, chance)
            started = time.monotonic()
            asked = _drive(world, inject, jobs)
            seconds = time.monotonic() - started
            inject.stop()
            workers.stop()
        findings = _reckon(world, asked)
        deaths, stopped = workers.deaths, workers.stopped
        return Result(inject.done, findings, recoveries, seconds, deaths, stopped)


def _drive(world: World, inject: Injector, jobs: int) -> list[Asked]:
    """Publish jobs as they are worked off, and go on until nothing has come back for long."""
    asked = [Asked(f"p-{n}", PhoneNumber("852", f"5{n:07d}")) for n in range(jobs)]
    world.redis.hset(_PHONES, mapping={job.job_id: job.phone.phone_num for job in asked})
    app = make_app(world.settings)
    published, ended, moved_at = 0, 0, time.monotonic()
    patience_s = VISIBILITY_S + 5 * RESTORE_S
    while ended < jobs and time.monotonic() - moved_at < patience_s:
        inject.turn(ended / jobs + 0.05)
        done = int(world.redis.hlen(_DONE))
        if done != ended or not inject.is_over:
            ended, moved_at = done, time.monotonic()
        may_go_on = inject.progress >= published / jobs - 0.05
        while may_go_on and published < min(jobs, ended + BACKLOG):
            job_id = asked[published].job_id
            app.send_task(SEND_CODE_TASK, (job_id,), task_id=job_id, ignore_result=True)
            published += 1
        time.sleep(0.02)
    # messages that are delivered twice come after their visibility timeout
    quiet_until = time.monotonic() + patience_s
    while time.monotonic() < quiet_until:
        inject.turn(1)
        time.sleep(0.05)
    app.pool.force_close_all()
    app.close()
    return asked


def _reckon(world: World, asked: list[Asked]) -> Findings:
    """Judge by what the sandbox counted: a plain task keeps no other record that could be asked."""
    accepted: dict[str, int] = world.sandbox.stats()["accepted_per_number"]
    findings = Findings(jobs=len(asked), states=Counter())
    for job in asked:
        count = accepted.get(job.digits, 0)
        findings.states["accepted" if count else "None"] += 1
        if count == 0:
            findings.lost.append(job.job_id)
        elif count > 1:
            findings.doubled.append(job.digits)
    return findings
