"""`sendcode forget`: blank what is kept of a person."""

from __future__ import annotations

from jobs.phone import PhoneNumber
from jobs.removing import Forgetting
from producer.cli.console import CommandFailedError, ask_first, number_asked_for, say, show_json
from producer.cli.options import JsonOption, YesOption, ledger_connection

_SHOWN = 5


def forget(
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Blank what is kept of a person: ended jobs, rows, history, dead letters.

    The number, in international form, is read from standard input, or asked for and hidden. Dead
    letters are dropped first. What has not ended stays, and is named: cancel it, or wait. The act
    is noted in the list of actions, without the number. What was written to files, and backups of
    Redis, are not reached; its append-only file is rewritten by a worker soon after.
    """
    phone = PhoneNumber.from_international(number_asked_for(has_option=False))
    with ledger_connection() as (settings, client):
        forgetting = Forgetting(client, settings)
        ids = forgetting.find(phone)
        ask_first(f"Blank all that is kept of {phone.masked} ({len(ids)} jobs and rows)?", yes=yes)
        done = forgetting.forget(phone, ids)
    if as_json:
        show_json(
            {
                "blanked": done.blanked,
                "waiting": done.waiting,
                "history_removed": done.is_history_gone,
            }
        )
    say(f"{done.blanked} jobs and rows of {phone.masked} are blanked")
    if done.waiting:
        shown = ", ".join(done.waiting[:_SHOWN]) + (" …" if done.waiting[_SHOWN:] else "")
        raise CommandFailedError(
            f"{len(done.waiting)} have not ended ({shown}): sendcode job cancel ID, or wait; then "
            "do this again"
        )
    if not done.is_history_gone:
        raise CommandFailedError(
            "a code was just sent to the number, and until a minute is over it must be known: then "
            "do this again"
        )
