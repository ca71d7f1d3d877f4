"""What became of a job, in words for a person who is no programmer, and what that person can do.

Also why nothing is sent at all.
"""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

from jobs.account import AccountState
from jobs.codes import OUTAGE, RESTART, OwnCode, concerned_by, explain, explain_end, is_own
from jobs.identity import LedgerState
from jobs.job import JobRecord, iso
from jobs.outcome import State

_PLAIN = {
    State.QUEUED: "Waiting to be sent",
    State.LEASED: "Being sent now",
    State.SENDING: "Being sent now",
    State.SENT: "The code was sent",
    State.SENT_INFERRED: (
        "The code was sent (its answer was lost; the service's refusal of a second one proved it)"
    ),
    State.CANCELLED: "Not sent: it was cancelled, alone or with its batch",
    State.EXPIRED: "Not sent: it would have come too late",
}
PERHAPS_TWICE = "perhaps twice, as nobody can prove that no earlier code went out"

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

WaitsFor = Literal["its time", "its turn", "sending"]
"""What a parked job waits for: also when its time has come, and while sending is halted."""
_WAITS = {
    "its turn": "it waits for its turn",
    "sending": "it waits until sending goes on",
}

FORGOTTEN = "forgotten"
"""The status of a row whose job ended so long ago that the ledger no longer has it."""
FORGOTTEN_WORDS = "It ended so long ago that its result is no longer kept"


def explained(code: str) -> str:
    """Meaning and remedy of the code of a job that failed, as one sentence without a full stop."""
    found = explain_end(code)
    return f"{found.meaning}: {lower_first(found.remedy)}"


def outcome_in_words(record: JobRecord, waits_for: WaitsFor = "its time") -> str:
    """Say what became of a job, without a full stop; never with its number.

    `waits_for` is looked at if it is parked.
    """
    state = record.state
    if state is State.DEAD:
        told = explained(record.code)
        return f"{told} (dropped from the dead letters)" if record.dropped_ms else told
    if state is State.UNKNOWN:
        twice = f", {PERHAPS_TWICE}" if record.possible_duplicate else ""
        return f"Perhaps sent{twice}; nobody can prove it. {explained(record.code)}"
    if state is State.PARKED:
        return _parked(record, waits_for)
    if state is State.CANCELLED and record.code == OwnCode.SENT_MEANWHILE:
        return explained(record.code)
    told = _PLAIN[state]
    if state.is_sent and record.replaces:
        told += f", to the corrected number {record.phone.masked}"
    return told + (f"; {PERHAPS_TWICE}" if state.is_sent and record.possible_duplicate else "")


def _parked(record: JobRecord, waits_for: WaitsFor) -> str:
    why = explain(record.code).meaning if record.code else "Waiting"
    if waits_for != "its time":
        return f"{why}; {_WAITS[waits_for]} (sendcode status)"
    when = f" at {iso(record.due_ms)}" if record.due_ms else ""
    return f"{why}; it {'is tried again' if record.code else 'goes on'} by itself{when}"


class Halt(NamedTuple):
    """Why nothing is sent, and what lets it go on: two texts to be joined by a colon."""

    why: str
    remedy: str


def refusal_explained(worker: str, code: str, since_ms: int | None) -> Halt:
    """Say why one worker takes no work while others go on."""
    known = explain(code)
    since = f" since {_clock(since_ms)}" if since_ms else ""
    why = f"{worker} takes no work{since}, as the API refuses it: {code}"
    remedy = f"{lower_first(known.remedy)}; sendcode resume lets it try again as it is"
    return Halt(f"{why} ({lower_first(known.meaning)})", remedy)


def halt_explained(account: AccountState) -> Halt:
    """Say it of a halted account."""
    halted = "all sending is halted"
    if account.since_ms:
        halted += f" since {_clock(account.since_ms)}"
    if account.by == "person":
        return Halt(f"{halted} by a person ({account.message})", "sendcode resume")
    known = explain(account.code)
    tried = f" (last {account.canary})" if account.canary else ""
    goes_on = f"one job{tried} tries every {account.canary_s:g} s, and all go on when it succeeds"
    if known.kind in OUTAGE:
        heard = f"{account.code}: {account.message or lower_first(known.meaning)}"
        last = f"; {account.worker} was the last to see it" if account.worker else ""
        return Halt(f"{halted}, as the API is out ({heard}{last})", _wait(account.code, goes_on))
    whom = f"to {account.worker}" if account.worker else "of the API"
    if account.job:
        whom += f" about job {account.job}"
    why = f"{halted} by an answer {whom}: {account.code} ({lower_first(known.meaning)})"
    if concerned_by(account.code):
        why += "; no worker is left that it does not refuse"
    remedy = lower_first(known.remedy)
    return Halt(why, f"{remedy}; {goes_on}")


def _wait(code: str, goes_on: str) -> str:
    """Say what to do while the API is out: where we got no answer, our side may be to blame."""
    told = f"wait; {goes_on}"
    if is_own(code):
        told += "; if it stays, check network, firewall, any proxy and SENDCODE_ENDPOINT"
        told += f"; after a change of settings {RESTART}"
    return told


def _clock(ms: int) -> str:
    """Give a time as this machine's clock shows it, with the day unless that is today."""
    then = time.localtime(ms / 1000)
    is_today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", then)


LEDGER_DISPUTED = "a worker remembers another ledger in this place, and sends nothing"


def ledger_in_words(ledger: LedgerState) -> str:
    """Say how old a ledger is and when it was last alive, without a full stop."""
    if ledger.born_ms is None or ledger.alive_ms is None:
        return "new: nothing was submitted or sent here yet"
    age_s = max(0, ledger.now_ms - ledger.born_ms) // 1000
    days, hours, minutes = age_s // 86_400, age_s // 3_600, age_s // 60
    age = f"{days} days" if days > 1 else f"{hours} hours" if hours > 1 else f"{minutes} minutes"
    silent_s = max(0, ledger.now_ms - ledger.alive_ms) / 1000
    told = f"{age} old (since {_clock(ledger.born_ms)}), last alive {silent_s:,.0f} s ago"
    if ledger.accepted_ms:
        told += f"; accepted as it was at {_clock(ledger.accepted_ms)}"
    return told


def halt_in_words(account: AccountState) -> str:
    """Say it as one sentence without a full stop."""
    return ": ".join(halt_explained(account))


def lower_first(text: str) -> str:
    """For the middle of a sentence: "Ask …" becomes "ask …"; names such as SENDCODE_… stay."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
