"""Settings that follow their files while a process runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from config.redis import make_pool
from config.rereading import CHECK_EVERY_S, Rereading
from config.settings import CREDENTIALS, Settings, load_settings

KEYS = {"secret_id": "AKIDFIRST", "secret_key": "FIRSTKEY", "token": "FIRSTTOKEN"}
URL = "redis://:first@127.0.0.1:6390/0"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the secrets' files, which the environment names."""
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
        monkeypatch.delenv(f"{field.upper()}_FILE", raising=False)
    for name, value in KEYS.items():
        (tmp_path / name).write_text(value, encoding="utf-8")
        monkeypatch.setenv(f"TENCENTCLOUD_{name.upper()}_FILE", str(tmp_path / name))
    (tmp_path / "url").write_text(URL, encoding="utf-8")
    monkeypatch.setenv("SENDCODE_REDIS_URL_FILE", str(tmp_path / "url"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def look(files: Path) -> Callable[[], Settings]:
    """Return the settings after a second more, and a look at their files."""
    assert files.is_dir()

    def read() -> Settings:
        return load_settings(required=CREDENTIALS)

    time = Time()
    rereading = Rereading(read(), read, time)

    def after_a_second() -> Settings:
        time.now_s += CHECK_EVERY_S
        return rereading.latest()

    after_a_second.ask = rereading.request  # type: ignore[attr-defined]
    return after_a_second


def replace_file(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def test_a_replaced_file_is_taken_when_it_has_stayed_the_same_for_a_look(
    files: Path, look: Callable[[], Settings], caplog: pytest.LogCaptureFixture
) -> None:
    replace_file(files / "secret_id", "AKIDSECOND")
    assert look().credentials() == tuple(KEYS.values())
    replace_file(files / "secret_key", "SECONDKEY")
    assert look().credentials() == tuple(KEYS.values())

    assert look().credentials() == ("AKIDSECOND", "SECONDKEY", "FIRSTTOKEN")

    (record,) = caplog.records
    assert record.message == "settings read again"
    changed = record.__dict__["fields"]["changed"]
    assert changed == "TENCENTCLOUD_SECRET_ID, TENCENTCLOUD_SECRET_KEY"


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(files: Path) -> None:
    def read() -> Settings:
        settings = load_settings(required=CREDENTIALS)
        if settings.credentials()[1] == "SECONDKEY":
            replace_file(files / "secret_key", "THIRDKEY")
        return settings

    time = Time()
    rereading = Rereading(read(), read, time)
    replace_file(files / "secret_key", "SECONDKEY")
    for time.now_s in range(1, 5):
        settings = rereading.latest()

    assert settings.credentials()[1] == "THIRDKEY"


def test_a_link_that_another_version_is_put_behind_is_followed(
    tmp_path: Path, files: Path, look: Callable[[], Settings]
) -> None:
    for version, key in (("v1", "FIRSTKEY"), ("v2", "SECONDKEY")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(key, encoding="utf-8")
    (tmp_path / "data").symlink_to("v1")
    (files / "secret_key").unlink()
    (files / "secret_key").symlink_to("data/key")
    look(), look()

    (tmp_path / "data.new").symlink_to("v2")
    (tmp_path / "data.new").replace(tmp_path / "data")
    look()

    assert look().credentials()[1] == "SECONDKEY"


@pytest.mark.parametrize("name", ["secret_key", "token"])
@pytest.mark.parametrize("trouble", ["gone", "empty", "no file that may be read"])
def test_a_file_that_cannot_be_used_for_a_moment_changes_nothing_and_is_warned_about_once(
    trouble: str,
    name: str,
    files: Path,
    look: Callable[[], Settings],
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = files / name
    if trouble == "gone":
        file.unlink()
    elif trouble == "empty":
        file.write_text("", encoding="utf-8")
    else:
        file.write_text("CHANGED", encoding="utf-8")
        file.chmod(0o666)
    for _ in range(4):
        assert look().credentials() == tuple(KEYS.values())
    (warning,) = caplog.records
    assert f"TENCENTCLOUD_{name.upper()}" in str(warning.__dict__["fields"])
    assert "CHANGED" not in str(warning.__dict__)

    replace_file(file, "SECOND")
    look()

    assert "SECOND" in look().credentials()


def test_lasting_credentials_take_the_place_of_temporary_ones(
    files: Path, look: Callable[[], Settings]
) -> None:
    (files / "token").write_text("", encoding="utf-8")
    replace_file(files / "secret_id", "AKIDSECOND")
    look()

    assert look().credentials() == ("AKIDSECOND", "FIRSTKEY", None)


def test_a_signal_has_files_read_that_look_unchanged(
    files: Path, look: Callable[[], Settings]
) -> None:
    file = files / "secret_key"
    before = file.stat()
    file.write_text("OTHERKEY", encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    look()
    assert look().credentials()[1] == "FIRSTKEY"

    look.ask()  # type: ignore[attr-defined]

    assert look().credentials()[1] == "OTHERKEY"


def test_an_env_file_is_followed_too_and_what_needs_a_restart_is_named(
    files: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SENDCODE_REDIS_URL_FILE")
    time = Time()
    (files / ".env").write_text("SENDCODE_LOG_LEVEL=info\n", encoding="utf-8")
    rereading = Rereading(load_settings(), load_settings, time)
    replace_file(files / ".env", "SENDCODE_LOG_LEVEL=debug\nSENDCODE_RATE_LIMIT=5\n")
    for time.now_s in (1.0, 2.0):
        settings = rereading.latest()

    assert settings.sendcode_log_level == "debug"
    assert [each.__dict__["fields"]["changed"] for each in caplog.records] == [
        "SENDCODE_LOG_LEVEL",
        "SENDCODE_RATE_LIMIT",
    ]


@pytest.mark.parametrize(
    ("url", "password"),
    [
        (URL.replace("first", "second"), "second"),
        (URL.replace("first", "second").replace("6390", "6391"), "first"),  # after a restart
        (URL.replace(":first@", ""), "first"),  # a line that is being written
    ],
)
def test_a_connection_logs_in_with_the_password_that_the_place_has_by_now(
    url: str, password: str, files: Path
) -> None:
    settings = load_settings(required=CREDENTIALS)
    pool = make_pool(settings.redis)
    replace_file(files / "url", url)
    settings.read_again()
    assert settings._rereading
    settings._rereading._next_check_s = 0

    login = pool.connection_kwargs["credential_provider"].get_credentials()

    assert login == (password,)
