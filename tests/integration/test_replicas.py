"""What is accepted only once replicas have it (`SENDCODE_WAIT_REPLICAS`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from config.redis import NotReplicatedError, connect
from config.settings import Settings
from demo.world import EmbeddedValkey
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import JobRecord, SendCodeJob
from jobs.keys import Keys
from jobs.ledger import Ledger, Tried
from jobs.phone import PhoneNumber
from producer import RedisUnavailableError, send_code
from tests.conftest import NOBODY, QUICK_WORLD
from tests.replicas import frozen, replica_of
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess

_databases = itertools.count()


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("primary"), fsync="no") as primary:
        yield primary


@pytest.fixture(scope="module")
def replica(
    primary: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedValkey]:
    with replica_of(primary, tmp_path_factory.mktemp("replica")) as replica:
        yield replica


@pytest.fixture
def settings(primary: EmbeddedValkey) -> Settings:
    own = {"sendcode_redis_url": primary.url(next(_databases)), "sendcode_endpoint": NOBODY}
    return Settings(**{**QUICK_WORLD, **own, "sendcode_wait_replicas": 1})


def sent_off(key: str, settings: Settings) -> JobRecord:
    """Ask for a code until it is accepted: on a busy machine a replica may take a second, too."""

    def ask() -> JobRecord | None:
        with suppress(RedisUnavailableError):
            return send_code("852", "99000001", key=key, settings=settings)
        return None

    return cast("JobRecord", wait_until(ask, "its acceptance"))


def test_an_event_is_accepted_once_a_replica_has_it(
    settings: Settings, replica: EmbeddedValkey
) -> None:
    job = sent_off("signup-1", settings)

    with Redis.from_url(replica.url(settings.redis.database)) as there:
        assert there.exists(Keys(settings.sendcode_key_prefix).job(job.job_id))


def test_an_event_that_no_replica_has_may_be_asked_for_again_with_its_key(
    settings: Settings, replica: EmbeddedValkey
) -> None:
    asked = ("852", "99000001")
    with frozen(replica):
        for _ in range(2):  # it is there by then, and its replica still does not have it
            with pytest.raises(RedisUnavailableError, match="with the same key"):
                send_code(*asked, key="signup-2", timeout=PATIENCE_S, settings=settings)

    job = sent_off("signup-2", settings)
    with Redis.from_url(replica.url(settings.redis.database)) as there:
        assert there.exists(Keys(settings.sendcode_key_prefix).job(job.job_id))


def test_no_request_leaves_whose_attempt_no_replica_has(
    settings: Settings, replica: EmbeddedValkey, tmp_path: Path
) -> None:
    with Sandbox(rate_limit=200, phone_interval=8) as sandbox:
        settings = settings.model_copy(update={"sendcode_endpoint": sandbox.url})
        careless = settings.model_copy(update={"sendcode_wait_replicas": 0})
        worker = WorkerProcess(settings, tmp_path, "w1").wait_ready()

        with frozen(replica):
            asked = send_code(
                "852", "99000001", key="signup-1", timeout=PATIENCE_S, settings=careless
            )
            wait_until(lambda: worker.log.count("not sent, trying later") > 1, "two attempts")
            requests = sandbox.stats()["requests"]
        sent = send_code(
            *("852", "99000001"),
            key="signup-1",
            timeout=PATIENCE_S,
            wait=PATIENCE_S,
            settings=careless,
        )
        accepted = sandbox.stats()["accepted"]
        worker.stop()

    assert (requests, accepted) == (0, 1)
    assert sent.job_id == asked.job_id
    assert sent.state.is_sent
    assert not sent.possible_duplicate
    assert sent.attempts <= 2  # those that were not sent do not count


def appended(batches: Batches, rows: Sequence[BatchRow]) -> int:
    with suppress(NotReplicatedError):
        return batches.append("b1", 0, rows)
    return 0


def test_rows_that_no_replica_has_may_be_appended_again(
    settings: Settings, replica: EmbeddedValkey
) -> None:
    rows = [BatchRow(n, ["x"], PhoneNumber("852", f"9900{n:04d}")) for n in range(3)]
    with connect(settings) as client:
        batches = Batches(client, settings)
        batches.open("b1", "digest", ["phone"])

        with frozen(replica), pytest.raises(NotReplicatedError):
            batches.append("b1", 0, rows)
        have = wait_until(lambda: appended(batches, rows), "its rows")

    assert have == len(rows)
    with Redis.from_url(replica.url(settings.redis.database)) as there:
        assert there.exists(Keys(settings.sendcode_key_prefix).rows("b1"))


def test_what_an_earlier_connection_wrote_is_not_confirmed_before_a_replica_has_it(
    settings: Settings, replica: EmbeddedValkey
) -> None:
    careless = settings.model_copy(update={"sendcode_wait_replicas": 0})
    phone = PhoneNumber("852", "99000001")
    rows = [BatchRow(2, ["x"], phone)]
    with connect(careless) as client, connect(settings) as begins, connect(settings) as appends:
        ledger, batches = Ledger(client, careless), Batches(client, careless)
        job_id = ledger.submit(SendCodeJob.for_event(phone)).record.job_id
        assert ledger.claim(job_id, "t1").verdict == "granted"
        batches.open("b1", "digest", ["phone"])

        with frozen(replica):
            ledger.begin(job_id, "t1", 1, 500, Tried())
            again = Ledger(begins, settings).begin(job_id, "t1", 1, 500, Tried())
            assert (again.kind, again.is_kept) == ("first", False)
            batches.append("b1", 0, rows)
            with pytest.raises(NotReplicatedError):
                Batches(appends, settings).append("b1", 0, rows)
