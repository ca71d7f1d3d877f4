"""`sendcode keys`: the keys under which the ledger's numbers and rows are sealed."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Annotated

import typer

from config.data_key import new_data_key
from config.settings import SettingsError, load_settings
from jobs.rotation import Rotation
from producer.cli.console import CommandFailedError, MisusedError, say, show, show_json
from producer.cli.display import count_of, progress_of, show_table
from producer.cli.options import JsonOption, blaming, ledger_connection

_COUNTED = {
    "job": "jobs",
    "rows": "rows",
    "cells": "blocks of cells",
    "vault": "index",
    "unreadable": "put aside",
    "note": "notes",
    "action": "actions",
    "decision": "decisions",
    "halt": "halt",
}
"""What is counted, and what it is called."""


def keys_new(
    key_id: Annotated[
        str | None,
        typer.Option(
            "--id", help="What the key is called (default: k, day, digest: k20261126-3f9a04c1)."
        ),
    ] = None,
) -> None:
    """Make a data key and print it, as SENDCODE_DATA_KEYS takes it. Nothing is kept or changed.

    Whoever has it can read the ledger, and who has lost it cannot: keep a copy where the backups of
    Redis are not. To change keys, give the new one to all programs behind the old ones, after a
    comma, so that all can read it; then in front of them; then sendcode keys rotate.
    """
    with suppress(SettingsError):  # there need not be any yet
        if key_id in dict(load_settings().data_keys):
            raise MisusedError(f"--id: SENDCODE_DATA_KEYS has a key {key_id}: take another id")
    with blaming("--id"):
        show(new_data_key(key_id))
    say("keep it from others, and a copy of it where the backups of Redis are not")


def keys_status(as_json: JsonOption = False) -> None:
    """Show how much of the ledger is sealed under which key. Exit 1 if a key is missing here.

    It reads all of the ledger; with a million rows that takes a minute or so.
    """
    with ledger_connection() as (settings, client):
        rotation = Rotation(client, settings)
        first, known = rotation.first, [key_id for key_id, _ in settings.data_keys]
        with progress_of("counting", unit="texts") as progress:
            found = rotation.count(progress)
    ids = list(dict.fromkeys([*known, *sorted(key_id for _, key_id in found)]))
    unknown = [key_id for key_id in ids if key_id and key_id not in known]
    if as_json:
        by_key = {
            key_id: {what: found[what, key_id] for what in _COUNTED} for key_id in ids if key_id
        }
        in_the_clear = {what: found[what, ""] for what in _COUNTED}
        show_json(
            {"first": first, "keys": by_key, "unknown": unknown, "in_the_clear": in_the_clear}
        )
    else:
        rows = [
            (_called(key_id, first, unknown), *(f"{found[what, key_id]:,}" for what in _COUNTED))
            for key_id in ids
        ]
        show_table(("key", *_COUNTED.values()), rows, right=",".join(_COUNTED.values()))
    if unknown:
        raise CommandFailedError(_unknown(unknown))


def keys_rotate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show how much would be sealed anew.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Seal anew, under the first key of SENDCODE_DATA_KEYS, what is sealed under the others.

    While workers send: in small steps, each of which leaves alone what was changed meanwhile. It
    may be ended at any point, and begun again. Every program needs the new key first; afterwards
    the old ones can go, but older backups are sealed under them.
    """
    with ledger_connection() as (settings, client):
        rotation = Rotation(client, settings)
        first = rotation.first
        with progress_of("counting", unit="texts") as progress:
            count = rotation.count(progress)
        others = sum(n for (_, key_id), n in count.items() if key_id not in {"", first})
        if dry_run:
            if as_json:
                show_json({"first": first, "dry_run": True, "others": others})
            say(f"{count_of(others, 'text')} under other keys than {first}")
            return
        with progress_of("sealing anew", others, unit="texts") as progress:
            done = rotation.rotate(progress)
    if as_json:
        show_json(
            {
                "first": first,
                "dry_run": False,
                "sealed_anew": done.done,
                "unknown": dict(done.unknown),
                "forged": done.forged,
                "complete": done.is_complete,
            }
        )
    say(f"{count_of(done.done, 'text')} sealed anew under {first}")
    if done.forged:
        shown = ", ".join(done.forged)
        say(f"some do not open, though their key is here: changed or moved from outside: {shown}")
    if done.unknown:
        raise CommandFailedError(_unknown(done.unknown))
    if not done.is_complete:
        raise CommandFailedError(
            "something is sealed under another key again and again: give every program the new key "
            "as its first, then do this again"
        )


def _called(key_id: str, first: str, unknown: Collection[str]) -> str:
    if not key_id:
        return "none, in the clear"
    return (
        f"{key_id} (seals)" if key_id == first else key_id + (" (not here)" * (key_id in unknown))
    )


def _unknown(ids: Collection[str]) -> str:
    return (
        f"SENDCODE_DATA_KEYS does not have {', '.join(ids)}: what is sealed under it is kept and "
        "cannot be read; add the key behind the others"
    )
