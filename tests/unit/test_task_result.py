"""What Flower is shown of a job that ended."""

from __future__ import annotations

import pytest
from celery.utils.serialization import get_pickleable_exception

from jobs.job import JobRecord, Lane, State
from jobs.phone import PhoneNumber
from worker.tasks import NotSent, result_of

PHONE = PhoneNumber("852", "18888888888")


def record(state: State, code: str = "") -> JobRecord:
    return JobRecord(
        "ev-1", state, PHONE, Lane.EVENT, code=code, message="Too many.", request_id="r-1"
    )


def test_a_sent_job_shows_its_request_id_and_a_masked_number() -> None:
    result = result_of(record(State.SENT))

    assert result["request_id"] == "r-1"
    assert result["phone"] == "+852 ******88"


@pytest.mark.parametrize("state", [State.DEAD, State.UNKNOWN])
def test_a_job_that_was_not_sent_fails_by_the_name_of_its_code(state: State) -> None:
    with pytest.raises(NotSent, match="RequestId r-1") as caught:
        result_of(record(state, "FailedOperation.PhoneBindUpper"))

    assert repr(caught.value).startswith("FailedOperation.PhoneBindUpper('Too many.")


def test_celery_shows_that_name_because_the_exception_can_be_pickled() -> None:
    with pytest.raises(NotSent) as caught:
        result_of(record(State.DEAD, "FailedOperation.PhoneBindUpper"))

    assert get_pickleable_exception(caught.value) is caught.value
