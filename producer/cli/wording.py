"""What the services answer, in the words of the command line: it names commands and options.

Services return values and error codes; here each becomes a sentence with the command or the option
that helps. Why a dead letter is left alone: producer/cli/dead.py.
"""

from __future__ import annotations

import redis

from config import SendcodeError
from config.settings import Settings, SettingsError, load_settings
from config.unavailable import RedisUnavailableError
from jobs.account import AccountState
from jobs.batch import Batch
from jobs.codes import NEVER_LEFT, OUTAGE, RESTART, concerned_by, explain, is_own
from jobs.identity import LedgerRefusedError, LedgerState
from jobs.job import State, split_job_id
from producer.cli.console import FAILED, MISUSED, TRACEBACK, CommandFailedError, MisusedError
from producer.cli.display import clock, span
from producer.importing import ImportRefusedError, Refusal
from producer.sheet import Choice, Note, SheetError
from producer.stories import Instead, NoSuchJobError, Story, lower_first
from producer.users import LastAdminError

STATES = {
    State.QUEUED: "waiting for their turn",
    State.LEASED: "with a worker",
    State.SENDING: "being sent",
    State.PARKED: "waiting for another try",
    State.SENT: "sent",
    State.SENT_INFERRED: "sent; proved, as their answer was lost",
    State.DEAD: "failed for good",
    State.UNKNOWN: "perhaps sent, nobody can prove it",
    State.CANCELLED: "not sent, as the batch was cancelled, or their number got a code meanwhile",
    State.EXPIRED: "not sent, as it would have been too late",
    State.REJECTED: "cannot be sent, never became jobs",
}
"""What each state means for the rows in it."""


_WRONG_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def error_in_words(exc: Exception) -> tuple[list[str], int]:
    """Return what went wrong in one line (settings: one line each), and the exit code."""
    lines, code = [str(exc)], FAILED
    match exc:
        case SheetError():
            lines, code = [_with_options(str(exc), *exc.choices)], MISUSED
        case MisusedError():
            code = MISUSED
        case ImportRefusedError():
            lines, code = [refused_import_in_words(exc)], MISUSED
        case NoSuchJobError():
            lines = [no_such_job_in_words(exc)]
        case SettingsError():
            lines, code = [f"wrong setting: {line}" for line in str(exc).splitlines()], MISUSED
        case CommandFailedError() | LedgerRefusedError() | LastAdminError():
            pass
        case SendcodeError():
            code = MISUSED if isinstance(exc, ValueError) else FAILED
        case redis.RedisError():
            lines = [_no_redis(exc)]
        case OSError():
            if exc.filename is not None:
                lines = [f"{exc.filename}: {(exc.strerror or 'failed').lower()}"]
            elif exc.strerror:
                lines = [exc.strerror.lower()]
            code = MISUSED if isinstance(exc, _WRONG_FILE) else FAILED
        case _:
            lines = [
                f"unexpected {type(exc).__name__}; this is a defect, please report it "
                f"({TRACEBACK}=1 shows where it comes from)"
            ]
    return lines, code


_OPTIONS: dict[Choice, str] = {
    "phone_column": "--phone-column NAME",
    "country_column": "--country-column NAME",
    "sheet": "--sheet NAME",
    "encoding": "--encoding NAME",
    "overwrite": "--overwrite",
    "format": "--format csv",
}
"""The options for what a person may choose about a file."""


def _with_options(text: str, *choices: Choice) -> str:
    return f"{text} ({', '.join(_OPTIONS[each] for each in choices)})" if choices else text


def note_in_words(note: Note) -> str:
    """Return a note about how a file was read, with the option for another choice."""
    return _with_options(note.text, *([note.choice] if note.choice else []))


def _no_redis(exc: redis.RedisError) -> str:
    try:
        settings = load_settings()
    except SettingsError:  # the command was given others
        settings = Settings()
    return str(RedisUnavailableError.from_redis(exc, settings))


def refused_import_in_words(error: ImportRefusedError) -> str:
    """Return why a file cannot become a batch, and what to do."""
    batch = error.batch
    if batch is None:
        return NO_BATCH[error.why]
    batch_id = batch.batch_id
    match error.why:
        case Refusal.CANCELLED:
            return (
                f'this content is batch "{batch_id}", which was cancelled; to send what it did not '
                f"send: {results_command(batch, 'cancelled')}, and submit that file"
            )
        case Refusal.OTHER_CONTENT:
            return (
                f'batch "{batch_id}" was made from other content; if this is its file corrected, '
                "it would send all of it again: correct only what failed, in the file of "
                f"{results_command(batch, 'failed')}, and submit that; other customers need their "
                "own --id"
            )
        case Refusal.OTHER_ENCODING:
            as_begun = (
                f"with --encoding {batch.encoding}" if batch.encoding else "without --encoding"
            )
            return f'the import of batch "{batch_id}" was begun {as_begun}; complete it like that'
        case _:
            then = (
                f"look at it: sendcode batch status {batch_id}"
                if batch.imported
                else f"complete it with --id {batch_id}"
            )
            return (
                f'this content is batch "{batch_id}" already, which is {batch.phase}: {then}; only '
                "if every row is to be sent once more, submit it with --again and another --id"
            )


NO_BATCH = {
    Refusal.ID_UNFIT: (
        "a batch's id has 1 to 64 letters, digits, dots, underscores and dashes; choose another"
    ),
    Refusal.ID_RESERVED: 'the id "ev" belongs to events; choose another',
    Refusal.CONTENT_HELD: "another batch had this content, and was removed just now: try again",
    Refusal.NO_ROWS: (
        "no row can be sent: there is none below the names of the columns; save the file with its "
        "rows"
    ),
    Refusal.NO_VALID_ROW: "no row can be sent; nothing was submitted",
}


def results_command(batch: Batch, only: str = "") -> str:
    """Return the command that writes a batch's rows to a file, all or some."""
    batch_id = batch.batch_id
    some = f" --only {only}" if only else ""
    return f"sendcode batch results {batch_id}{some} --output {batch_id}-{only or 'results'}.csv"


def no_such_job_in_words(error: NoSuchJobError) -> str:
    """Return what there is instead of a job, or what became of it."""
    job_id = error.job_id
    if error.instead is Instead.REJECTED_ROW and error.row is not None:
        batch_id, number = split_job_id(job_id)
        by = error.corrected_by
        then = f"; a corrected file took this customer over: {by}" if by else ""
        return (
            f"row {number} of batch {batch_id} never became a job; it was {State.REJECTED} "
            f"(line {error.row.line}): {error.row.reason}{then}"
        )
    if error.instead is Instead.FORGOTTEN:
        return f"job {job_id} ended so long ago that it is no longer kept"
    if error.instead is Instead.BATCH:
        return f"{job_id} is a batch: sendcode batch status {job_id}"
    return f'there is no job "{job_id}"; a batch\'s jobs are named after it and the row, as b1-12'


def story_in_words(story: Story) -> str:
    """Return what became of a job; if it waits for something else, how to find out more."""
    return story.words + ("" if story.waits_for == "its time" else " (sendcode status)")


def refusal_explained(worker: str, code: str, since_ms: int | None) -> tuple[str, str]:
    """Return why one worker takes no work while others go on, and what lets it go on."""
    known = explain(code)
    because, remedy = "the API refuses it", lower_first(known.remedy)
    again = "sendcode resume lets it try again as it is"
    if code in NEVER_LEFT:
        because, remedy = "it cannot reach the API", remedy.partition(", then")[0]
        again = "it goes on by itself once it can connect"
    since = f" since {clock(since_ms, seconds=True)}" if since_ms else ""
    why = f"{worker} takes no work{since}, as {because}: {code}"
    return f"{why} ({lower_first(known.meaning)})", f"{remedy}; {again}"


def halt_explained(account: AccountState) -> tuple[str, str]:
    """Return why all sending is halted, and what lets it go on."""
    halted = "all sending is halted"
    if account.since_ms:
        halted += f" since {clock(account.since_ms, seconds=True)}"
    if account.by == "person":
        return f"{halted} by a person ({account.message})", "sendcode resume"
    known = explain(account.code)
    tried = f" (last {account.canary})" if account.canary else ""
    goes_on = f"one job{tried} tries every {account.canary_s:g} s, and all go on when it succeeds"
    if known.kind in OUTAGE:
        answer = f"{account.code}: {account.message or lower_first(known.meaning)}"
        last = f"; {account.worker} was the last to see it" if account.worker else ""
        wait = f"wait; {goes_on}"
        if is_own(account.code):  # we got no answer, so our side may be to blame
            wait += "; if it stays, check network, firewall, any proxy and SENDCODE_ENDPOINT"
            wait += f"; after a change of settings {RESTART}"
        return f"{halted}, as the API is out ({answer}{last})", wait
    whom = f"to {account.worker}" if account.worker else "of the API"
    if account.job:
        whom += f" about job {account.job}"
    why = f"{halted} by an answer {whom}: {account.code} ({lower_first(known.meaning)})"
    if concerned_by(account.code):
        why += "; no worker is left that it does not refuse"
    remedy = lower_first(known.remedy)
    return why, f"{remedy}; {goes_on}"


LEDGER_DISPUTED = "a worker remembers another ledger in this place, and sends nothing"


def ledger_in_words(ledger: LedgerState) -> str:
    """Return how old a ledger is and when it was last alive, without a full stop."""
    if ledger.born_ms is None or ledger.alive_ms is None:
        return "new: nothing was submitted or sent here yet"
    age_s = max(0, ledger.now_ms - ledger.born_ms) / 1000
    silent_s = max(0, ledger.now_ms - ledger.alive_ms) / 1000
    born = clock(ledger.born_ms, seconds=True)
    text = f"{span(age_s)} old (since {born}), last alive {silent_s:,.0f} s ago"
    if ledger.accepted_ms:
        text += f"; accepted as it was at {clock(ledger.accepted_ms, seconds=True)}"
    return text


def halt_in_words(account: AccountState) -> str:
    """Return why all sending is halted, as one sentence without a full stop."""
    return ": ".join(halt_explained(account))
