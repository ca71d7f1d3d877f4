"""Jobs brought to an end in the ledger, as workers would do it, without workers or an API."""

from __future__ import annotations

from collections.abc import Callable

from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import JobRecord, SendCodeJob, State, StoryEntry
from jobs.ledger import Aftermath, Ending, Ledger, Tried
from jobs.phone import PhoneNumber

BIND_UPPER = "FailedOperation.PhoneBindUpper"
BUSY = "OperationDenied.ServiceBusy"

DEAD = Ending(State.DEAD, BUSY, "busy", "req-1")
SENT = Ending(State.SENT, "", "", "req-2", "closed")
PERMANENT = Ending(State.DEAD, BIND_UPPER, "too many accounts", "req-3")
UNKNOWN = Ending(State.UNKNOWN, "InternalError", "inside", "req-4", "keep")

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
    token = f"lease of {job_id}"
    claim = ledger.claim(job_id, token)
    assert claim.verdict == "granted"
    assert claim.record is not None
    begun = ledger.begin(job_id, token, claim.record.tries + 1, 3000, Tried())
    assert begun.kind in {"first", "probe", "resend"}
    story = StoryEntry(1_000, "attempt", ending.code, ending.request_id, 5).encode()
    left = Aftermath(in_doubt=ending.state is State.UNKNOWN)
    assert ledger.finish(job_id, token, ending, Tried(left, story))
    record = ledger.job(job_id)
    assert record is not None
    return record


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
        for _, job_id in ledger.sweep():
            end(ledger, job_id, verdict(int(job_id.rpartition("-")[2])))
