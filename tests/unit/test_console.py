"""Errors as one line and an exit code; results on stdout, talk on stderr."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import redis
import typer

from config.settings import SettingsError
from config.unavailable import RedisUnavailableError
from jobs.phone import PhoneError, PhoneNumber
from producer.cli import console
from producer.cli.console import CommandFailedError, MisusedError, exit_code_for


def phone_error() -> PhoneError:
    with pytest.raises(PhoneError) as caught:
        PhoneNumber.parse("86", "13000000000")
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (CommandFailedError("no such batch"), 1, "sendcode: no such batch\n"),
        (MisusedError("--queues: no"), 2, "sendcode: --queues: no\n"),
        (SettingsError("A: wrong"), 2, "sendcode: wrong setting: A: wrong\n"),
        (phone_error(), 2, "country code 86"),
        (redis.ConnectionError("refused"), 1, "closed the connection"),
        (RedisUnavailableError("Redis at x is full"), 1, "sendcode: Redis at x is full\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), 2, "a.csv: no such file"),
        (PermissionError(errno.EACCES, "Permission denied", "a.csv"), 2, "a.csv: permission"),
        (OSError(errno.ENOSPC, "No space left", "out.csv"), 1, "out.csv: no space left"),
        (OSError("the stand-in answered 503"), 1, "sendcode: the stand-in answered 503\n"),
        (KeyError("x"), 1, "unexpected KeyError; this is a defect"),
    ],
)
def test_each_error_has_its_line_and_exit_code(
    error: Exception, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_for(error) == code

    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_wrong_settings_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_for(SettingsError("A: wrong\nB: missing")) == 2

    lines = capsys.readouterr().err.splitlines()
    assert lines == ["sendcode: wrong setting: A: wrong", "sendcode: wrong setting: B: missing"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(130)])
def test_ctrl_c_is_a_line_and_exit_code_130(
    stop: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise stop

    with pytest.raises(SystemExit) as caught:
        console.run(interrupted)

    assert caught.value.code == 130
    assert capsys.readouterr().err == "sendcode: interrupted\n"


def test_an_unexpected_error_shows_where_it_comes_from_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(console.TRACEBACK, "1")

    exit_code_for(KeyError("x"))

    assert "KeyError" in capsys.readouterr().err


def test_nothing_can_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.show("a\x1b[31mb\x07\r[bold]c")

    assert capsys.readouterr().out == "a\ufffd[31mb\ufffd\ufffd[bold]c\n"


def test_a_character_that_the_terminal_lacks_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()

    @app.command()
    def greet() -> None:
        console.show("手机号 ok")

    with (tmp_path / "out").open("w", encoding="latin-1") as narrow:
        monkeypatch.setattr("sys.stdout", narrow)
        with pytest.raises(SystemExit) as caught:
            console.run(lambda: app([]))

    assert caught.value.code == 0
    assert "ok" in (tmp_path / "out").read_text(encoding="latin-1")
