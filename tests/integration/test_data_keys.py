"""Data keys on the command line: made, asked for, never off by mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.data_key import new_data_key
from config.settings import Settings, SettingsError, load_settings
from demo.world import environment_of, free_port
from jobs.job import SendCodeJob
from jobs.ledger import Ledger
from jobs.vault import Vault
from producer import send_code
from tests.commands import SEND, Command, run, run_program
from tests.ledger_acts import number
from tests.worker_process import TOP, WorkerProcess

NAME = "SENDCODE_DATA_KEYS"


@pytest.fixture
def sendcode(sendcode: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """The command line without a key, where no `.env` is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(NAME)
    return sendcode


def test_keys_new_prints_a_key_that_the_setting_takes(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDCODE_RATE_LIMIT", "a wrong setting is no hindrance")

    first, second = sendcode("keys", "new").out.strip(), sendcode("keys", "new").out.strip()

    assert first != second
    ((key_id, key),) = load_settings(
        None, sendcode_data_keys=first, sendcode_rate_limit=1
    ).data_keys
    assert re.fullmatch(r"k\d{8}-[0-9a-f]{8}", key_id)
    assert len(key) == 32


def test_keys_new_gives_each_key_of_a_day_an_id_of_its_own(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, sendcode("keys", "new", "--id", "mine").out.strip())

    refused = sendcode("keys", "new", "--id", "mine")

    ids = [sendcode("keys", "new").out.partition(":")[0] for _ in range(3)]
    assert len(set(ids)) == 3  # as if on three machines: none knows of the others
    assert refused.exit_code == 2
    assert "has a key mine" in refused.err
    assert sendcode("keys", "new", "--id", "a b").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        SEND,
        ("worker",),
        ("web",),
        ("status",),
        ("batch", "list"),
        ("dead", "list"),
        ("job", "show", "ev-1"),
    ],
    ids=" ".join,
)
def test_without_a_key_nothing_that_uses_the_ledger_starts(
    words: tuple[str, ...], sendcode: Command
) -> None:
    ran = sendcode(*words)

    assert ran.exit_code == 2
    assert ran.out == ""
    assert f"wrong setting: {NAME}: missing" in ran.err
    assert "`sendcode keys new` makes one" in ran.err


def sealed_under(data_key: str, ledger: Ledger) -> str:
    """Return an index key as another machine's data key seals it."""
    other = Settings(sendcode_data_keys=SecretStr(data_key))
    return Vault(ledger.client, other).seal(b"0" * 32, "index")


@pytest.fixture
def sealed(ledger: Ledger) -> str:
    """A ledger with a number in it, and the index key that it has then."""
    ledger.submit(SendCodeJob.for_event(number()))
    return str(ledger.client.hget(ledger.keys.vault, "index"))


@pytest.mark.parametrize("trouble", ["another key of one id", "a garbled index"])
def test_a_worker_does_not_start_where_the_index_of_numbers_does_not_open(
    trouble: str,
    start_worker: Callable[..., WorkerProcess],
    ledger: Ledger,
    sealed: str,
) -> None:
    garbled = trouble == "a garbled index"
    index = "v1.k1.AAAA" if garbled else sealed_under(new_data_key("k1"), ledger)
    ledger.client.hset(ledger.keys.vault, "index", index)

    worker = start_worker(ready=False)

    assert worker.wait() == 2
    lines = [line for line in worker.log.splitlines() if "sendcode: " in line]
    assert len(lines) == 1
    assert "the index of numbers does not open, though its key is here: look for" in lines[0]
    ledger.client.hset(ledger.keys.vault, "index", sealed)


@pytest.mark.usefixtures("sealed")
def test_the_web_does_not_start_where_the_index_of_numbers_does_not_open(
    settings: Settings, tmp_path: Path
) -> None:
    other = settings.model_copy(update={"sendcode_data_keys": SecretStr(new_data_key("k1"))})

    ran = run(other, "web", "--port", str(free_port()), cwd=tmp_path)

    assert ran.exit_code == 1
    assert ran.err.count("\n") == 1
    assert "the index of numbers does not open, though its key is here: look for" in ran.err


def test_make_secrets_gives_each_machine_a_key_id_of_its_own(tmp_path: Path) -> None:
    ids = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        standard = f"PYTHON={sys.executable} -S"  # without what is installed
        subprocess.run(
            ["make", "-C", name, "-f", str(TOP / "Makefile"), "secrets", standard],  # noqa: S607
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        ids.add((tmp_path / name / "secrets/sendcode_data_keys").read_text("utf-8").split(":")[0])
    assert len(ids) == 2


def test_without_a_key_a_worker_started_by_celery_ends_and_says_how_to_make_one(
    settings: Settings, tmp_path: Path
) -> None:
    bare = settings.model_copy(update={"sendcode_data_keys": None})

    command = [sys.executable, "-m", "celery", "-A", "worker", "worker"]
    ran = run_program(command, environment_of(bare), cwd=tmp_path)

    assert ran.exit_code == 2
    assert f"wrong setting: {NAME}: missing" in ran.err
    assert "sendcode keys new" in ran.err


@pytest.mark.usefixtures("sendcode", "first_code")
def test_without_a_key_the_python_call_raises_settings_error() -> None:
    with pytest.raises(SettingsError, match=NAME):
        send_code("852", "51234567")


def test_the_doctor_fails_without_a_key_and_names_those_that_are_there(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = sendcode("doctor")
    new, old = (sendcode("keys", "new", "--id", each).out.strip() for each in ("new", "old"))
    monkeypatch.setenv(NAME, f"{new},{old}")
    with_two = sendcode("doctor")

    assert without.exit_code == 1
    assert f"FAIL  {NAME} is missing" in without.out
    assert "OK    data key new seals, old open too" in with_two.out
    assert new.partition(":")[2] not in with_two.out + with_two.err


def test_init_makes_a_key_and_keeps_it_when_the_file_is_replaced(
    sendcode: Command, tmp_path: Path
) -> None:
    sendcode("init")
    made = load_settings().data_keys
    (tmp_path / ".env").write_text(
        (tmp_path / ".env").read_text("utf-8").replace("SENDCODE_RATE_LIMIT=", "#"), "utf-8"
    )

    sendcode("init", "--yes")

    assert len(made) == 1
    assert load_settings().data_keys == made
