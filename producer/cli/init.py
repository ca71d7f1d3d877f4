"""`sendcode init`: write the `.env` of this folder, then check whether all is there."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Annotated

import typer

from config.data_key import new_data_key
from config.files import read_env_file
from config.settings import (
    CREDENTIALS,
    DATA_KEYS,
    Settings,
    SettingsError,
    load_settings,
)
from producer.cli.console import (
    CommandFailedError,
    MisusedError,
    ask_first,
    complain,
    is_terminal,
    say,
)
from producer.cli.doctor import doctor
from producer.sheet import written_file

_ENV = Path(".env")
_QUESTIONS = {
    "tencentcloud_secret_id": "SecretId of the partner account (hidden; empty if no worker runs "
    "here)",
    "tencentcloud_secret_key": "SecretKey (hidden)",
    "sendcode_redis_url": "Redis URL with its password (hidden; empty for redis://127.0.0.1:6379/0)",
}
"""What is asked for at a terminal where the environment does not have it."""
_NEEDS_NO_QUOTES = re.compile(r"[\w:/@.,%+=*?&-]*", re.ASCII)
_HEAD = """\
# Written by `sendcode init`. It holds secrets: keep it from others (chmod 600), and out of backups
# that they can read. What else can be set is in the README.
"""


def init(
    yes: Annotated[
        bool, typer.Option("--yes", help="Replace the .env that is there, without asking.")
    ] = False,
) -> None:
    """Write the .env of this folder, with a data key and passwords; then see what `doctor` says.

    Settings that the environment has are taken from there, so it works without a terminal, too; at
    one it asks for the rest. Only you can read the file. A .env that is replaced leaves its
    data keys to the new one: without them nobody can read what Redis holds.
    """
    values = _of_the_environment()
    if os.path.lexists(_ENV):
        ask_first(f"Replace {_ENV.absolute()}, with all that is in it but data keys?", yes=yes)
        values = _data_keys_before() | values
    load_settings(None)  # reports what is wrong with them before anything is asked
    if is_terminal():
        _ask(values)
    elif missing := [each.upper() for each in CREDENTIALS if not _has(values, each)]:
        raise MisusedError(
            f"there is no terminal to ask for {' and '.join(missing)}: "
            "put them into the environment"
        )
    if not _has(values, "sendcode_flower_password"):
        values["SENDCODE_FLOWER_PASSWORD"] = secrets.token_urlsafe(24)
    if not _has(values, DATA_KEYS):
        values[DATA_KEYS.upper()] = new_data_key()
    with written_file(_ENV, overwrite=True, encoding="utf-8") as file:
        file.write(_HEAD)
        file.writelines(f"{name}={_quoted(value)}\n" for name, value in values.items())
    say(
        f"{_ENV.absolute()} is written, for you alone; Flower's password is in it, and the data "
        "key: keep a copy of that where the backups of Redis are not. Next:"
    )
    try:
        doctor()
    except CommandFailedError as exc:
        complain(
            f"{exc}: they must pass before the first send; a worker is started by `sendcode worker`"
        )


def _of_the_environment() -> dict[str, str]:
    """Return the variables of ours that are set, and those that name a file instead."""
    names = [name.upper() for name in Settings.model_fields]
    return {
        each: value
        for name in names
        for each in (name, f"{name}_FILE")
        if (value := os.environ.get(each))
    }


def _data_keys_before() -> dict[str, str]:
    """Return the data keys of the file that is there.

    Raises:
        MisusedError: it cannot be read.
    """
    found, faults = read_env_file(_ENV)
    if faults:
        raise MisusedError(f"{faults[0]}; its data keys would be lost: move it away first")
    names = (DATA_KEYS.upper(), f"{DATA_KEYS.upper()}_FILE")
    return {name: found[name] for name in names if name in found}


def _has(values: dict[str, str], field: str) -> bool:
    return not values.keys().isdisjoint({field.upper(), f"{field.upper()}_FILE"})


def _ask(values: dict[str, str]) -> None:
    for field, question in _QUESTIONS.items():
        if _has(values, field):
            continue
        if field == "tencentcloud_secret_key" and not _has(values, "tencentcloud_secret_id"):
            continue
        while answer := typer.prompt(
            question, default="", show_default=False, hide_input=True, err=True
        ):
            try:
                load_settings(None, **{field: answer})
            except SettingsError as exc:
                complain(str(exc))
            else:
                values[field.upper()] = answer
                break


def _quoted(value: str) -> str:
    if _NEEDS_NO_QUOTES.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
