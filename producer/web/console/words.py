"""What the services answer, in the words of the console's language."""

from __future__ import annotations

from markupsafe import Markup

from jobs.batch import Batch
from jobs.codes import CODES, explain, explain_end, is_for_operations
from jobs.codes import find as find_code
from jobs.job import EVENT, JobRecord, State
from producer.deadletters import Reason, Why
from producer.stories import WaitsFor, reason_left
from producer.web.console.texts import Texts

_KEYS = {key: key for key in CODES}


def meaning_of(texts: Texts, code: str) -> Markup:
    """Return what a code means, without a full stop."""
    return texts.get(f"code.{_key(code)}", explain(code).meaning)


def remedy_of(texts: Texts, code: str) -> Markup:
    """Return what a person can do about a job that ended with a code, without a full stop."""
    return texts("job.tell_operations") if is_for_operations(code) else _remedy(texts, code)


def technical_of(texts: Texts, code: str) -> Markup | None:
    """Return what those who run sendcode can do, without a full stop, where only they can."""
    return _remedy(texts, code) if is_for_operations(code) else None


def _remedy(texts: Texts, code: str) -> Markup:
    return texts.get(f"remedy.{_key(code)}", explain_end(code).remedy)


def _key(code: str) -> str:
    """Return the code under which a table has its entry: "InternalError*"."""
    return find_code(code, _KEYS) or "undocumented"


def reason_in_words(texts: Texts, code: str) -> Markup:
    """Return a failure's reason as a person's choice: its meaning, or that there is none."""
    return meaning_of(texts, code) if code else texts("dead.no_code")


def left_alone_in_words(texts: Texts, reason: Reason) -> Markup:
    """Return why a job is left alone, and what helps."""
    if reason.why is Why.PERMANENT:
        why = "why.permanent_technical" if is_for_operations(reason.about) else "why.permanent"
        return texts(why, meaning=meaning_of(texts, reason.about))
    if reason.why is Why.WAITS_ELSEWHERE:
        if reason.about in {EVENT, ""}:
            return texts("why.waits_as_event")
        return texts("why.waits_elsewhere", batch=reason.about)
    return texts(f"why.{reason.why.name.lower()}")


def ending_in_words(
    texts: Texts,
    record: JobRecord,
    waits_for: WaitsFor = "its time",
    batch: Batch | None = None,
) -> Markup:
    """Return what became of a job of a batch, or where it is, as a sentence; never its number."""
    if batch is not None and batch.is_undone and record.state is State.CANCELLED:
        return texts("job.undone")
    text = _ending(texts, record, waits_for)
    return texts("job.test") + " " + text if record.is_test else text


def _ending(texts: Texts, record: JobRecord, waits_for: WaitsFor) -> Markup:
    state = record.state
    if state is State.PARKED:
        words = {"its time": "due", "its turn": "turn", "sending": "halted"}[waits_for]
        if not record.code:
            return texts(f"job.waiting_{words}")
        why = meaning_of(texts, record.code)
        return texts(f"job.parked_{words}", why=why)
    if state.is_for_a_person and record.dropped_ms:
        text = texts("job.left_perhaps" if state is State.UNKNOWN else "job.left")
        reason = reason_left(record)
        return text + " " + texts("decision.reason", reason=texts.said(reason)) if reason else text
    if state.is_for_a_person:
        name = "perhaps" if state is State.UNKNOWN else "dead"
        return texts(f"job.{name}", why=reason_in_words(texts, record.code))
    text = texts(f"job.{state}")
    if state.is_sent and record.replaces:
        text += " " + texts("job.to_corrected", number=record.phone.masked)
    if state.is_sent and record.possible_duplicate:
        text += " " + texts("job.twice")
    return text
