"""What tests share: a real Valkey, settings of a quick world, ledger, commands, sandbox, workers.

Each test has a database of its own on its process' server, so queue names may stay as they are.
A test changes settings by `@pytest.mark.settings(sendcode_rate_limit=5)`.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from redis import Redis

from config.celery import make_celery
from config.data_key import new_data_key
from config.redis import connect
from config.settings import Settings
from demo.world import UNBOUNDED, EmbeddedValkey
from jobs.account import Account
from jobs.batches import Batches
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.publish import Publisher
from jobs.webhooks import Webhooks
from producer.events import Events
from tests.commands import Command, InThisProcess
from tests.forked import fork_of_tests, share_template
from tests.lasting_keys import keys_that_last_without_reason
from tests.receiver import Receiver
from tests.sandbox import Sandbox
from tests.worker_process import WorkerProcess

DATABASES = 8192
"""More than there are tests."""
NOBODY = "http://127.0.0.1:9"
"""An endpoint at which nobody listens (the port of the discard protocol)."""

QUICK_WORLD: dict[str, Any] = {
    "tencentcloud_secret_id": "AKIDEXAMPLE",
    "tencentcloud_secret_key": "SECRETEXAMPLE",
    "sendcode_data_keys": new_data_key("k1"),
    "sendcode_rate_limit": 200,
    "sendcode_phone_interval": 8,
    "sendcode_http_timeout": 1,
    "sendcode_lease": 2,
    "sendcode_sweep_interval": 0.5,
    "sendcode_backoff": 0.05,
    "sendcode_frequency_wait": 3,
    "sendcode_canary_interval": 1,
    **UNBOUNDED,
}

LONGEST = (
    *("acceptance/outage", "acceptance/demo", "acceptance/redis_servers", "acceptance/sentinel"),
    *("acceptance/stopping", "acceptance/console", "integration/console_failures"),
    *("integration/console_batches", "acceptance/leaks", "integration/sender"),
    *("acceptance/steering", "acceptance/another_ledger", "acceptance/refused_commands"),
    *("acceptance/faults", "integration/limiter", "acceptance/webhooks", "integration/web_fuzz"),
    *("acceptance/console_people", "integration/client", "acceptance/two_releases"),
    *("acceptance/mixed_batch", "acceptance/damage", "integration/web_codes"),
    *("integration/killed_workers", "acceptance/unread_log", "integration/mending"),
    *("integration/web_metrics", "acceptance/killed_and_paused", "acceptance/killed_import"),
    *("acceptance/refusing_servers", "acceptance/odd_files", "integration/console_people"),
    *("integration/sender_troubles", "acceptance/rotation", "acceptance/one_clock"),
)
"""Modules of tests, the longest first; none that is not here takes much more than 20 s."""
_databases = itertools.count()
_SEARCHES = bool(os.environ.get("HYPOTHESIS_SEARCH"))

hypothesis_settings.register_profile(
    "sendcode",
    deadline=None,  # a busy machine is no finding
    derandomize=not _SEARCHES,  # the same cases for everybody
    max_examples=1_000 if _SEARCHES else 50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
hypothesis_settings.load_profile("sendcode")

# The tests start hundreds of Python processes: each would compile all our modules anew. And pytest
# would rewrite the assertions of all test modules in each of its processes, in each run.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Who wakes up waits for those who compute: fewer changes between processes, for the same work.
with suppress(AttributeError, OSError):  # not Linux, or not allowed
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

# A script's background job is deaf to Ctrl-C, and so would be all commands that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "settings(**changes): other settings for this test")
    is_one_of_xdists = hasattr(config, "workerinput")
    if not is_one_of_xdists and getattr(config.option, "tx", None):
        share_template()
        if fork := fork_of_tests(config.args):
            config.option.tx = [fork if spec == "popen" else spec for spec in config.option.tx]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage in what stays: all modules of ours and thousands of tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take longest, for all processes to be done at the same time.

    xdist hands out module after module (`--dist loadfile`). What is long mostly waits, so two of
    the others, which mostly compute, follow each of them.
    """
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        folder, name = item.path.parent.name, item.path.stem.removeprefix("test_")
        modules.setdefault(f"{folder}/{name}", []).append(item)
    longest = [modules.pop(name) for name in LONGEST if name in modules]
    others = [modules[name] for name in sorted(modules)]  # acceptance, integration, unit
    ordered = []
    for n, module in enumerate(longest):
        ordered += [module, *others[2 * n : 2 * n + 2]]
    ordered += others[2 * len(longest) :]
    items[:] = [item for module in ordered for item in module]


@pytest.fixture(scope="session", autouse=True)
def _state_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let no test read or leave a state file of this machine's user."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """The server of this test process. It forgets when it is killed: it is here to be quick."""
    directory = tmp_path_factory.mktemp("valkey")
    with EmbeddedValkey(directory, databases=DATABASES, fsync="no") as server:
        yield server


@pytest.fixture
def redis_url(valkey: EmbeddedValkey) -> Iterator[str]:
    """An empty database; when the test is over, none of its keys may last without a reason."""
    url = valkey.url(next(_databases))
    client: Redis = Redis.from_url(url, decode_responses=True, driver_info=None)
    try:
        yield url
        lasting = keys_that_last_without_reason(client)
        assert not lasting, f"keys without expiry and without a reason (lasting_keys.py): {lasting}"
    finally:
        client.flushdb()
        client.close()


@pytest.fixture
def settings(request: pytest.FixtureRequest, redis_url: str) -> Settings:
    """The settings of a quick world: its sandbox if the test has one, else nobody."""
    has_sandbox = "sandbox" in request.fixturenames
    endpoint = request.getfixturevalue("sandbox").url if has_sandbox else NOBODY
    values = {"sendcode_redis_url": redis_url, "sendcode_endpoint": endpoint}
    return Settings(**{**values, **marked_settings(request)})


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """The API's stand-in, in a thread, with the interval and rate of the test's settings."""
    world = marked_settings(request)
    with Sandbox(
        rate_limit=world["sendcode_rate_limit"], phone_interval=world["sendcode_phone_interval"]
    ) as server:
        yield server


@pytest.fixture
def redis(settings: Settings) -> Iterator[Redis]:
    client = connect(settings)
    yield client
    client.close()


@pytest.fixture
def keys(settings: Settings) -> Keys:
    return Keys(settings.sendcode_key_prefix)


@pytest.fixture
def ledger(redis: Redis, settings: Settings) -> Ledger:
    return Ledger(redis, settings)


@pytest.fixture
def batches(redis: Redis, settings: Settings) -> Batches:
    return Batches(redis, settings)


@pytest.fixture
def account(redis: Redis, settings: Settings) -> Account:
    return Account(redis, settings)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Receive webhooks, as a backend does."""
    with Receiver() as server:
        yield server


@pytest.fixture
def webhooks(redis: Redis, settings: Settings) -> Webhooks:
    return Webhooks(redis, settings)


@pytest.fixture
def celery_app(settings: Settings) -> Iterator[Celery]:
    """A producer's Celery app: it publishes, and has no task."""
    app = make_celery(settings)
    yield app
    app.pool.force_close_all()
    app.close()


@pytest.fixture
def publisher(celery_app: Celery) -> Publisher:
    return Publisher(celery_app)


@pytest.fixture
def events(settings: Settings) -> Iterator[Events]:
    events = Events(settings)
    yield events
    events.close()


@pytest.fixture
def sendcode(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command line, in this process, as a person types it: `sendcode("batch", "list")`."""
    return InThisProcess(settings, monkeypatch, capsys)


@pytest.fixture
def start_worker(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start real workers: `start_worker("--concurrency", "4", NAME="value of the environment")`.

    Each is ready when the call returns, and ended when the test is over.
    """
    with ExitStack() as stack:
        numbers = itertools.count(1)

        def start(*options: str, ready: bool = True, **environment: str) -> WorkerProcess:
            worker = WorkerProcess(
                settings, tmp_path, f"w{next(numbers)}", *options, environment=environment
            )
            stack.callback(worker.kill)
            return worker.wait_ready() if ready else worker

        yield start


def ipv6_loopback() -> str:
    """Return `[::1]`, for a URL; where the machine has no IPv6, what it has instead."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return "127.0.0.1"
    return "[::1]"


def marked_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return those of a quick world, with what the test and its module change."""
    changes = dict(QUICK_WORLD)
    for mark in reversed(list(request.node.iter_markers("settings"))):
        changes.update(mark.kwargs)
    return changes
