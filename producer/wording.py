"""What became of a job, in words for a person who is no programmer, and what that person can do."""

from __future__ import annotations

import re
from typing import Literal

from jobs.codes import OwnCode, explain, explain_end
from jobs.job import JobRecord, State, iso

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
    """Return a failed job's code in words, meaning and remedy, without a full stop."""
    found = explain_end(code)
    return f"{found.meaning}: {lower_first(found.remedy)}"


def outcome_in_words(record: JobRecord, waits_for: WaitsFor = "its time") -> str:
    """Return what became of a job, without a full stop; never with its number.

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
        return f"{why}; {_WAITS[waits_for]}"
    when = f" at {iso(record.due_ms)}" if record.due_ms else ""
    return f"{why}; it {'is tried again' if record.code else 'goes on'} by itself{when}"


def lower_first(text: str) -> str:
    """For the middle of a sentence: "Ask …" becomes "ask …"; names such as SENDCODE_… stay."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


_SHOWN_DIGITS = 2
_NUMBER = re.compile(r"\+?\d(?:[\s\-\u2010-\u2015\u2212().\[\]/]{0,3}\d){6,}")
"""Seven digits or more, with what people write between them. A long ticket number is one, too."""
_DATE = re.compile(r"(?:19|20)\d\d-[01]\d-[0-3]\d")


def without_numbers(text: str) -> str:
    """Mask whatever may be a phone number, as "******88"; a date such as 2026-11-23 stays."""
    return _NUMBER.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    number = found[0]
    return number if _DATE.fullmatch(number) else f"******{number[-_SHOWN_DIGITS:]}"
