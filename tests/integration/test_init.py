"""`sendcode init`: the `.env` that it writes, with and without a person at a terminal."""

from __future__ import annotations

import os
import pty
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from config.settings import Settings, load_settings
from demo.world import environment_of
from tests.commands import SENDCODE, Command
from tests.forked import begin


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without(settings: Settings, *fields: str) -> Settings:
    return Settings(**{k: v for k, v in settings if k not in fields and v is not None})


def test_init_writes_what_the_environment_has_and_ends_with_the_doctor(
    folder: Path, sendcode: Command, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "key").write_text("SECRETEXAMPLE", encoding="utf-8")
    (folder / "key").chmod(0o600)
    monkeypatch.delenv("TENCENTCLOUD_SECRET_KEY")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY_FILE", str(folder / "key"))

    ran = sendcode("init")

    written = folder / ".env"
    assert ran.exit_code == 0
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert "OK    Redis at" in ran.out
    assert "checks failed" in ran.err, "no worker is alive"
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    read = load_settings()
    assert read.credentials() == ("AKIDEXAMPLE", "SECRETEXAMPLE", None)
    assert read.redis_url == settings.redis_url
    password = read.sendcode_flower_password
    assert password
    assert password.get_secret_value() not in ran.out + ran.err
    assert len(password.get_secret_value()) >= 32


def test_init_without_a_terminal_names_the_credentials_that_it_lacks(
    folder: Path, sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TENCENTCLOUD_SECRET_KEY")

    ran = sendcode("init")

    assert ran.exit_code == 2
    assert "TENCENTCLOUD_SECRET_KEY" in ran.err
    assert list(folder.iterdir()) == []


def test_init_replaces_no_file_that_is_there_without_being_told_to(
    folder: Path, sendcode: Command
) -> None:
    (folder / ".env").write_text("SENDCODE_RATE_LIMIT=7\n", encoding="utf-8")

    refused = sendcode("init")

    assert refused.exit_code == 2
    assert "--yes" in refused.err
    assert (folder / ".env").read_text(encoding="utf-8") == "SENDCODE_RATE_LIMIT=7\n"
    assert sendcode("init", "--yes").exit_code == 0
    assert "SENDCODE_RATE_LIMIT=200.0\n" in (folder / ".env").read_text(encoding="utf-8")


def test_init_asks_a_person_for_what_is_missing_and_again_for_what_is_wrong(
    folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = without(settings, "tencentcloud_secret_id", "tencentcloud_secret_key")
    terminal, its_end = pty.openpty()
    process = begin([*SENDCODE, "init"], folder, environment_of(bare), (its_end,) * 3)
    os.close(its_end)
    screen = b""
    for question, answer in (
        (b"SecretId", b"AKID WRONG\n"),
        (b"SecretId", b"AKIDTYPED\n"),
        (b"SecretKey", b"SECRET\\TYPED\n"),
    ):
        asked = b""
        while not (question in asked and asked.endswith(b": ")):  # what is typed before is lost
            asked += os.read(terminal, 4096)
        os.write(terminal, answer)
        screen += asked
    with suppress(OSError):  # its end was closed
        while part := os.read(terminal, 4096):
            screen += part
    os.close(terminal)

    assert process.wait(60) == 0
    assert b"has a character that no credential has" in screen
    assert b"AKID" not in screen
    assert b"TYPED" not in screen
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    assert load_settings().credentials() == ("AKIDTYPED", "SECRET\\TYPED", None)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "value", ["a'b", "a\\b", "a\\'b", 'a"b', "a b", "a#b", "$a", "${a}", "a\u00e9"]
)
def test_what_init_writes_is_read_back_as_it_was(
    value: str, sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDCODE_FLOWER_PASSWORD", value)

    assert sendcode("init").exit_code == 0

    monkeypatch.delenv("SENDCODE_FLOWER_PASSWORD")
    password = load_settings().sendcode_flower_password
    assert password
    assert password.get_secret_value() == value
