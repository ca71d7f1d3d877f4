"""Jobs brought to an end in the ledger, as workers would do it, without workers or an API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import JobRecord, SendCodeJob, State, StoryEntry, split_job_id
from jobs.ledger import Aftermath, Ending, Ledger, Tried
from jobs.phone import PhoneNumber
from jobs.scripts import LedgerPart

BIND_UPPER = "FailedOperation.PhoneBindUpper"
BUSY = "OperationDenied.ServiceBusy"

DEAD = Ending(State.DEAD, BUSY, "busy", "req-1")
SENT = Ending(State.SENT, "", "", "req-2", "closed")
PERMANENT = Ending(State.DEAD, BIND_UPPER, "too many accounts", "req-3")
UNKNOWN = Ending(State.UNKNOWN, "InternalError", "inside", "req-4", "keep")

MARGIN_MS = 3_000

Verdicts = Callable[[int], Ending]


def number(n: int) -> PhoneNumber:
    """A fictional number, another for each `n` below 10,000."""
    return PhoneNumber("852", f"5100{n:04d}")


def customers(count: int, first: int = 1) -> list[BatchRow]:
    """Rows of a file with the columns name, country_code, phone_num."""
    return [
        BatchRow(n + 1, [f"Customer {n}", "852", number(n).phone_num], number(n))
        for n in range(first, first + count)
    ]


def end_event(ledger: Ledger, n: int = 1, ending: Ending = DEAD) -> JobRecord:
    """Submit an event job and end it."""
    job = SendCodeJob.for_event(number(n), key=f"event {n}")
    ledger.submit(job)
    return end(ledger, job.job_id, ending)


def end(ledger: Ledger, job_id: str, ending: Ending) -> JobRecord:
    """Do to a published job what a worker does that gets the answer of `ending`."""
    token = lease_of(job_id)
    claim = ledger.claim(job_id, token)
    assert claim.verdict == "granted"
    assert claim.record is not None
    begun = ledger.begin(job_id, token, claim.record.tries + 1, MARGIN_MS, Tried())
    assert begun.kind in {"first", "probe", "resend"}
    record = ledger.finish(job_id, token, ending, answered(ending))
    assert record is not None
    return record


def end_new(ledger: Ledger, endings: Sequence[tuple[str, Ending]]) -> None:
    """End published jobs that no worker had before, as `end` does: the scripts of all in a row."""
    (first, its_ending), *rest = endings
    end(ledger, first, its_ending)  # also loads the scripts
    pipe = ledger.client.pipeline(transaction=False)
    scripts = LedgerPart(pipe, ledger.settings)
    identity, no_try = ledger.identity, Tried().arguments()
    begin: dict[str, Any] = {"tries": 1, "margin_ms": MARGIN_MS, "slot_ms": 0, "held": ""}
    for job_id, ending in rest:
        each = {"id": job_id, "token": lease_of(job_id)}
        scripts.run_script("claim", **each, known=identity.known)
        scripts.run_script("begin", **each, **begin, process=identity.process, **no_try)
        scripts.run_script("finish", **each, **asdict(ending), **answered(ending).arguments())
    replies = [reply[0] for reply in pipe.execute()]
    assert replies == ["granted", "first", "ok"] * len(rest)


def lease_of(job_id: str) -> str:
    return f"lease of {job_id}"


def answered(ending: Ending) -> Tried:
    """Return what a call leaves that was answered so."""
    story = StoryEntry(1_000, "attempt", ending.code, ending.request_id, 5).encode()
    return Tried(Aftermath(in_doubt=ending.state is State.UNKNOWN), story)


def run_batch(
    ledger: Ledger,
    batches: Batches,
    batch_id: str,
    rows: list[BatchRow],
    verdict: Verdicts = lambda _: DEAD,
) -> None:
    """Import a batch and end all its jobs; `verdict` says how, by the row's number."""
    batches.open(batch_id, "digest of " + batch_id, ["name", "country_code", "phone_num"])
    batches.append(batch_id, 0, rows, last=True)
    end_batch(ledger, batches, batch_id, verdict)


def end_batch(
    ledger: Ledger, batches: Batches, batch_id: str, verdict: Verdicts = lambda _: DEAD
) -> None:
    """End all jobs of a batch that was imported."""
    while batch := batches.get(batch_id):
        if batch.is_over:
            return
        due = [job_id for _, job_id in ledger.sweep()]
        if due:
            end_new(ledger, [(each, verdict(split_job_id(each)[1])) for each in due])
