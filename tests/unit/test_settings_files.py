"""Files of settings and secrets: whose they must be, and who may read and change them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings, SettingsError, exposed, load_settings, settings_file

SOMEBODY = 54321
"""The number of a user that this machine does not have."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, which everybody can enter (pytest's own are its user's alone)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        monkeypatch.chdir(made)
        yield Path(made)


@pytest.fixture(params=[".env", "secret"])
def file(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `.env`, or a file that `SENDCODE_FLOWER_PASSWORD_FILE` names."""
    path = folder / str(request.param)
    if path.name == ".env":
        path.write_text("SENDCODE_FLOWER_PASSWORD=unseen\n", encoding="utf-8")
    else:
        path.write_text("unseen\n", encoding="utf-8")
        monkeypatch.setenv("SENDCODE_FLOWER_PASSWORD_FILE", str(path))
    path.chmod(0o600)
    return path


def refusal() -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    (line,) = str(caught.value).splitlines()
    assert "unseen" not in line
    return line


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o620, 0o602])
def test_a_file_that_others_may_write_to_is_refused_with_the_remedy(mode: int, file: Path) -> None:
    file.chmod(mode)

    told = refusal()

    name = ".env" if file.name == ".env" else str(file)
    assert f"can be changed by others (mode {mode:o})" in told
    assert told.endswith(f"chmod go-w {name}")


@as_root
def test_a_file_of_another_user_is_refused_with_the_remedy(file: Path) -> None:
    os.chown(file, SOMEBODY, -1)

    assert f"belongs to {SOMEBODY}, who can change it" in refusal()


@as_root
def test_another_user_s_link_to_a_file_of_ours_is_refused(file: Path) -> None:
    target = file.rename(file.with_suffix(".ours"))
    file.symlink_to(target)
    assert load_settings().sendcode_flower_password
    os.chown(file, SOMEBODY, -1, follow_symlinks=False)

    assert f"belongs to {SOMEBODY}" in refusal()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_can_read_is_accepted_and_named(mode: int, file: Path) -> None:
    before = exposed()
    file.chmod(mode)

    assert load_settings().sendcode_flower_password
    name = ".env" if file.name == ".env" else str(file)
    # root gives a service its file by the file's group
    expected = {name: f"chmod go-r {name}"} if mode != 0o640 or os.geteuid() else {}
    assert (before, exposed()) == ({}, expected)


def test_a_readable_file_in_a_closed_folder_is_exposed_to_nobody(file: Path, folder: Path) -> None:
    file.chmod(0o644)
    folder.chmod(0o700)

    assert exposed() == {}


def test_the_settings_file_is_named_by_its_whole_path(file: Path, folder: Path) -> None:
    assert settings_file() == (str(folder / ".env") if file.name == ".env" else None)
