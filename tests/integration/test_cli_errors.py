"""What every command says when something is wrong: one clear line, the right exit code."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from config.settings import Settings
from tests.commands import SEND, Command
from tests.files import customer, write_csv

LEDGER_COMMANDS = [
    SEND,
    ("status",),
    ("status", "--json"),
    ("halt",),
    ("resume",),
    ("actions",),
    ("batch", "list"),
    ("batch", "status", "b1"),
    ("batch", "pause", "b1"),
    ("batch", "resume", "b1"),
    ("batch", "cancel", "b1", "--yes"),
    ("batch", "results", "b1"),
    ("batch", "submit", "customers.csv"),
    ("dead", "list"),
    ("dead", "show", "ev-1"),
    ("job", "show", "ev-1"),
]


@pytest.fixture(autouse=True)
def _tests_do_not_become_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it would have replaced this process")

    monkeypatch.setattr(os, "execve", refuse)


@pytest.fixture(autouse=True)
def _a_file_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "customers.csv", [customer(1)])


@pytest.fixture
def without_redis(sendcode: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("SENDCODE_REDIS_URL", "redis://:secret@127.0.0.1:9/0")
    return sendcode


@pytest.mark.parametrize("words", LEDGER_COMMANDS, ids=" ".join)
def test_redis_down_is_a_line_with_its_place_and_no_password(
    words: tuple[str, ...], without_redis: Command
) -> None:
    ran = without_redis(*words)

    assert ran.exit_code == (4 if words[0] == "send" else 1)
    assert ran.out == ""
    complaints = [line for line in ran.err.splitlines() if line.startswith("sendcode: ")]
    assert complaints == [
        "sendcode: Redis at redis://127.0.0.1:9/0 cannot be reached: "
        "start it, or set SENDCODE_REDIS_URL"
    ]
    assert "secret" not in ran.err


@pytest.mark.parametrize(
    "words", [*LEDGER_COMMANDS, ("doctor",), ("worker",), ("flower",)], ids=" ".join
)
def test_wrong_settings_are_a_line_each_without_their_values(
    words: tuple[str, ...], sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDCODE_RATE_LIMIT", "plenty")
    monkeypatch.setenv("SENDCODE_REDIS_URL", "http://:secret@nowhere")

    ran = sendcode(*words)

    assert ran.exit_code == 2
    assert ran.out == ""
    lines = ran.err.splitlines()
    assert [line.split(": ")[1:3] for line in lines] == [
        ["wrong setting", "SENDCODE_REDIS_URL"],
        ["wrong setting", "SENDCODE_RATE_LIMIT"],
    ]
    assert "plenty" not in ran.err
    assert "secret" not in ran.err


@pytest.mark.parametrize("words", [("status",), (*SEND, "--wait", "0"), ("batch", "list")])
def test_a_misspelt_setting_is_named_once_whatever_is_asked_for(
    words: tuple[str, ...], sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDCODE_AMBIGOUS", "hold")

    ran = sendcode(*words)

    told = (
        "SENDCODE_AMBIGOUS is not a setting and changes nothing: did you mean SENDCODE_AMBIGUOUS?"
    )
    assert ran.err.count(told) == 1


def test_a_worker_without_credentials_says_which_are_missing(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TENCENTCLOUD_SECRET_ID")
    monkeypatch.delenv("TENCENTCLOUD_SECRET_KEY")

    ran = sendcode("worker")

    assert ran.exit_code == 2
    assert "TENCENTCLOUD_SECRET_ID: missing; set it, or TENCENTCLOUD_SECRET_ID_FILE" in ran.err
    assert "TENCENTCLOUD_SECRET_KEY: missing" in ran.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("worker", "--queues", "send-code.dead-letter"), "send-code.dead-letter: must be among"),
        (
            ("worker", "--queues", ","),
            "must be among send-code.event,send-code.batch,send-code.webhook",
        ),
        (("worker", "--name", "a b"), "--name: letters"),
        (("flower",), "SENDCODE_FLOWER_PASSWORD is not set"),
        (("flower", "--no-auth", "--address", "192.0.2.1"), "--no-auth is for a loopback address"),
        (("status", "--watch", "--json"), "choose one"),
        ((*SEND, "--key", ""), "sendcode: --key: must not be empty"),
        ((*SEND, "--expires-in", "0"), "sendcode: --expires-in: must be more than 0"),
        ((*SEND, "--expires-in", "inf"), "--expires-in: must be more than 0 seconds, and 365 days"),
        (("send", "--country-code", "86", "--phone", "13000000000"), "country code 86"),
        (("send", "--country-code", "852", "--phone", "5123-ABCD"), "other than digits"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_refused_with_exit_code_2(
    words: tuple[str, ...], complaint: str, sendcode: Command
) -> None:
    ran = sendcode(*words)

    assert ran.exit_code == 2
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1
    assert complaint in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        (*SEND, "--nonsense"),
        ("worker", "--concurrency", "0"),
        ("flower", "--port", "0"),
    ],
    ids=" ".join,
)
def test_a_mistyped_command_is_exit_code_2_and_says_where_help_is(
    words: tuple[str, ...], sendcode: Command
) -> None:
    ran = sendcode(*words)

    assert ran.exit_code == 2
    assert ran.out == ""
    assert "for help" in ran.err


@pytest.mark.parametrize(
    ("words", "option"), [(("flower", "--no-auth"), "--address"), (("web",), "--host")]
)
def test_a_port_that_is_taken_is_a_line(
    sendcode: Command, words: tuple[str, ...], option: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = sendcode(*words, "--port", str(taken.getsockname()[1]))

    assert ran.exit_code == 1
    assert f"address already in use): choose another one with --port or {option}" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_login_that_redis_refuses_is_a_line(
    sendcode: Command, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = settings.redis_url
    password = url.split(":")[2].split("@")[0]
    monkeypatch.setenv("SENDCODE_REDIS_URL", url.replace(password, "guess"))

    ran = sendcode("status")

    assert ran.exit_code == 1
    assert "refuses the login: check user and password in SENDCODE_REDIS_URL" in ran.err
    assert "guess" not in ran.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("job", "show", "ev-0"), "ev-0"),
        (("dead", "show", "ev-0"), "ev-0"),
        (("batch", "status", "b0"), "b0"),
        (("batch", "results", "b0"), "b0"),
        (("batch", "pause", "b0"), "b0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_id_that_nobody_knows_is_a_line_and_exit_code_1(
    words: tuple[str, ...], complaint: str, sendcode: Command
) -> None:
    ran = sendcode(*words)

    assert ran.exit_code == 1
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1
    assert complaint in ran.err


def test_a_file_that_is_not_there_is_a_line_and_exit_code_2(sendcode: Command) -> None:
    ran = sendcode("batch", "submit", "absent.csv")

    assert ran.exit_code == 2
    assert len(ran.err.splitlines()) == 1
    assert "absent.csv" in ran.err


@pytest.mark.parametrize(
    "words",
    ["", "send", "status", "doctor", "halt", "resume", "worker", "flower", "batch", "dead"],
)
def test_help_needs_neither_settings_nor_redis(
    words: str, without_redis: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDCODE_RATE_LIMIT", "plenty")

    ran = without_redis(*words.split(), "--help")

    assert ran.exit_code == 0
    assert "Usage: sendcode" in ran.out
    assert "<bool>" not in ran.out  # a flag takes no value
    assert ran.err == ""


def test_help_flows_whatever_the_width_and_names_arguments_once(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    told = sendcode("dead", "requeue", "--help").out

    assert " would only be refused again needs a corrected number (--phone), which makes a" in told
    # older versions of typer leave the dots out
    assert re.search(r"dead requeue \[OPTIONS\] \[JOB\](\.\.\.)?  ", told)
