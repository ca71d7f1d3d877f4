"""Job ids, and a job's record as it is read and shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.job import (
    MAX_KEY_LENGTH,
    JobRecord,
    Lane,
    SendCodeJob,
    State,
    StoryEntry,
    UnfitNameError,
    batch_job_id,
    iso,
)
from jobs.phone import PhoneNumber

PHONE = PhoneNumber("852", "18888888888")
HASH = {"state": "queued", "cc": "852", "num": "18888888888", "lane": "event"}


def test_the_same_key_gives_the_same_job_for_whatever_number() -> None:
    one = SendCodeJob.for_event(PHONE, "order-1")
    other = SendCodeJob.for_event(PhoneNumber("852", "51230000"), "order-1")

    assert one.job_id == other.job_id
    assert re.fullmatch(r"ev-[0-9a-f]{20}", one.job_id)


def test_other_keys_give_other_jobs() -> None:
    ids = {SendCodeJob.for_event(PHONE, key).job_id for key in ("a", "b", "a ", "A", "\u0430")}

    assert len(ids) == 5


def test_no_key_gives_a_new_job_each_time() -> None:
    ids = {SendCodeJob.for_event(PHONE).job_id for _ in range(100)}

    assert len(ids) == 100
    assert all(re.fullmatch(r"ev-[0-9a-f]{20}", job_id) for job_id in ids)


@pytest.mark.parametrize("key", ["", " ", "\n\t", "x" * (MAX_KEY_LENGTH + 1)])
def test_a_key_that_is_empty_or_too_long_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="idempotency key"):
        SendCodeJob.for_event(PHONE, key)


@pytest.mark.parametrize("key", ["a\x01b", "a\nb", "a\x7f", "a\0"])
def test_a_key_with_control_characters_is_refused_in_those_words(key: str) -> None:
    with pytest.raises(UnfitNameError, match=r"idempotency key: .*control characters"):
        SendCodeJob.for_event(PHONE, key)


def test_a_reference_with_a_nul_is_refused_in_those_words_and_may_have_lines() -> None:
    with pytest.raises(UnfitNameError, match="reference: must not hold NUL"):
        SendCodeJob.for_event(PHONE, reference="a\0b")

    assert SendCodeJob.for_event(PHONE, reference="a\nb").reference == "a\nb"


def test_a_few_digits_of_a_number_are_no_number_in_a_key() -> None:
    job = SendCodeJob.for_event(PhoneNumber("852", "1"), "short-1", reference="c 1")

    assert (job.key, job.reference) == ("short-1", "c 1")


@pytest.mark.parametrize(
    ("reference", "kept"),
    [
        ("call +852 6123 4567", "call ******67"),
        ("+(852) 6123-4567.", "******67."),
        ("order 20261126093015", "order 20261126093015"),
        ("3f1c2a90-1234-4567-8901-123456789012", "3f1c2a90-1234-4567-8901-123456789012"),
        ("2026-11-26T09:30:15+08:00", "2026-11-26T09:30:15+08:00"),
    ],
)
def test_numbers_with_a_plus_are_masked_in_references_and_ids_are_not(
    reference: str, kept: str
) -> None:
    assert SendCodeJob.for_event(PHONE, reference=reference).reference == kept


def test_the_longest_key_is_accepted() -> None:
    assert SendCodeJob.for_event(PHONE, "x" * MAX_KEY_LENGTH).phone == PHONE


def test_a_batch_s_job_is_named_by_its_row() -> None:
    assert batch_job_id("customers-2024", 17) == "customers-2024-17"


def test_a_job_shows_no_full_number() -> None:
    assert PHONE.phone_num not in repr(SendCodeJob.for_event(PHONE, "order-1"))


def test_a_record_of_the_least_that_a_hash_holds() -> None:
    record = JobRecord.decode("ev-1", HASH)

    assert record == JobRecord("ev-1", State.QUEUED, PHONE, Lane.EVENT)


def test_a_record_of_all_that_a_hash_holds() -> None:
    values = {
        **HASH,
        "state": "unknown",
        "lane": "batch",
        "batch": "b1",
        "created": "1700000000000",
        "attempts": "3",
        "tries": "5",
        "waits": "1",
        "doubt": "1700000001000",
        "dup": "1",
        "code": "InternalError",
        "message": "try later",
        "request_id": "r-1",
        "finished": "1700000002000",
        "due": "1700000003000",
        "not_after": "1700000004000",
        "story:10": StoryEntry(3, "resend").encode(),
        "story:2": StoryEntry(2, "probe").encode(),
        "story:1": StoryEntry(1, "attempt", "InternalError", "r-0", 12, "note").encode(),
    }

    record = JobRecord.decode("b1-1", values)

    assert record.batch_id == "b1"
    assert (record.attempts, record.tries, record.waits) == (3, 5, 1)
    assert record.in_doubt
    assert record.possible_duplicate
    assert (record.code, record.message) == ("InternalError", "try later")
    assert record.request_id == "r-1"
    assert record.created_ms == 1700000000000
    assert record.finished_ms == 1700000002000
    assert record.due_ms == 1700000003000
    assert record.not_after_ms == 1700000004000
    assert [entry.what for entry in record.story] == ["attempt", "probe", "resend"]
    assert record.story[0] == StoryEntry(1, "attempt", "InternalError", "r-0", 12, "note")


def test_what_a_person_sees_of_a_record_is_masked_and_in_utc() -> None:
    record = JobRecord.decode("ev-1", {**HASH, "state": "sent", "finished": "1700000002000"})

    shown = record.as_dict()

    assert shown["finished_at"] == "2023-11-14T22:13:22.000Z"
    assert shown["state"] == "sent"
    assert shown["code"] is None
    assert shown["possible_duplicate"] is False
    assert PHONE.phone_num not in str(shown)
    assert shown["phone"] == PHONE.masked


def test_times_are_written_to_the_millisecond() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000Z"
    assert iso(1700000000123) == "2023-11-14T22:13:20.123Z"


@given(
    st.builds(
        StoryEntry,
        at_ms=st.integers(0, 2**42),
        what=st.text(),
        code=st.text(),
        request_id=st.text(),
        took_ms=st.none() | st.integers(0, 10**6),
        note=st.text(),
    )
)
def test_a_story_entry_comes_back_as_it_was(entry: StoryEntry) -> None:
    assert StoryEntry.decode(entry.encode()) == entry


def test_a_state_is_final_or_work_is_to_be_done() -> None:
    assert {state for state in State if not state.is_final} == {
        State.QUEUED,
        State.LEASED,
        State.SENDING,
        State.PARKED,
    }
    assert {state for state in State if state.is_sent and state.is_final} == {
        State.SENT,
        State.SENT_INFERRED,
    }
