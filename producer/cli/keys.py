"""`sendcode keys`: the keys under which the ledger's numbers and rows are sealed."""

from __future__ import annotations

import string
from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import Annotated

import typer

from config.settings import SettingsError, load_settings, new_data_key
from producer.cli.console import CommandFailedError, MisusedError, say, show
from producer.cli.options import blaming


def new(
    key_id: Annotated[
        str | None,
        typer.Option("--id", help="What the key is called (default: by the day: k20261126a)."),
    ] = None,
) -> None:
    """Make a data key and print it, as SENDCODE_DATA_KEYS takes it. Nothing is kept or changed.

    Whoever has it can read the ledger, and who has lost it cannot: keep a copy where the backups of
    Redis are not. To change keys, put the new one in front of the old ones, by a comma, for all
    programs; then sendcode keys rotate.
    """
    taken = _ids_in_use()
    if key_id in taken:
        raise MisusedError(f"--id: SENDCODE_DATA_KEYS has a key {key_id}: each needs its own id")
    with blaming("--id"):
        show(new_data_key(key_id or next_key_id(taken, datetime.now(UTC).date())))
    say("keep it from others, and a copy of it where the backups of Redis are not")


def next_key_id(taken: Collection[str], today: date) -> str:
    """Return an id for a key made today that no other has.

    Raises:
        CommandFailedError: there were 26 keys today.
    """
    for letter in string.ascii_lowercase:
        key_id = f"k{today:%Y%m%d}{letter}"
        if key_id not in taken:
            return key_id
    raise CommandFailedError("26 keys were made today: name this one with --id")


def _ids_in_use() -> list[str]:
    """Return the ids of the settings' keys; none where there are no settings yet."""
    try:
        return [key_id for key_id, _ in load_settings().data_keys]
    except SettingsError:
        return []
