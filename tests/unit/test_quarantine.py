"""What is a message of ours, and what of it is passed on to Celery."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import BATCH_QUEUE, EVENT_QUEUE, SEND_CODE_TASK
from config.celery import make_celery
from config.settings import Settings
from worker.transport import MAX_BODY_CHARACTERS, NotAJobError, job_id_of, message_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
A_MESSAGE = message_of("b1-1", BATCH_QUEUE)


def body_of(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def changed(*path: str, to: Any) -> dict[str, Any]:
    message = copy.deepcopy(A_MESSAGE)
    place = message
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = to
    return message


def test_the_job_id_is_read_out_of_a_message() -> None:
    assert job_id_of(A_MESSAGE) == "b1-1"


def test_what_a_producer_publishes_is_a_message_of_ours() -> None:
    app = make_celery(Settings())
    made = app.amqp.create_task_message("ev-1", SEND_CODE_TASK, args=("ev-1",), kwargs={})

    message = {
        "headers": made.headers,
        "properties": {"body_encoding": "base64", **made.properties},
        "content-type": "application/json",
        "body": body_of(made.body),
    }

    assert job_id_of(message) == "ev-1"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (None, "not a message"),
        ([], "not a message"),
        ("send_code", "not a message"),
        ({}, "not a Celery message"),
        (changed("headers", to=None), "not a Celery message"),
        (changed("properties", to=[]), "not a Celery message"),
        (changed("headers", "task", to="os.system"), "unknown task"),
        (changed("headers", "task", to=None), "unknown task"),
        (changed("content-type", to="application/x-python-serialize"), "not JSON"),
        (changed("body", to=None), "body too large or missing"),
        (changed("body", to="x" * (MAX_BODY_CHARACTERS + 1)), "body too large or missing"),
        (changed("body", to="%%%"), "body unreadable"),
        (changed("body", to="\u00e9"), "body unreadable"),
        (changed("body", to=body_of("no list")), "body unreadable"),
        (changed("body", to=body_of({"1": None, "": None, "0": None})), "body unreadable"),
        (changed("body", to=body_of([[], {}, {}])), "body unreadable"),
        (changed("body", to=body_of([["b1-1", "b1-2"], {}, {}])), "body unreadable"),
        (changed("body", to=body_of([[7], {}, {}])), "not one job id"),
        (changed("body", to=body_of([[""], {}, {}])), "not one job id"),
        (changed("body", to=body_of([["x" * 201], {}, {}])), "not one job id"),
        (changed("body", to=body_of([["b1-1"], {"a": 1}, {}])), "not one job id"),
        (changed("properties", "body_encoding", to="rot13"), "body unreadable"),
        (changed("body", to=base64.b64encode(b"[" * 6000).decode()), "body unreadable"),
    ],
)
def test_anything_else_is_refused_with_a_reason(message: Any, reason: str) -> None:
    with pytest.raises(NotAJobError, match=f"^{reason}$"):
        job_id_of(message)


@given(JSON)
def test_no_json_whatever_is_more_than_refused(message: Any) -> None:
    with pytest.raises(NotAJobError):
        job_id_of(message)


@given(JSON)
def test_a_body_whatever_is_refused_or_holds_one_job_id(document: Any) -> None:
    try:
        job_id = job_id_of(changed("body", to=body_of(document)))
    except NotAJobError:
        return

    assert len(document) == 3  # a job's own form can come out by chance
    assert isinstance(job_id, str)
    assert job_id in document[0]


def test_celery_sees_nothing_of_a_message_but_its_job_id() -> None:
    odd = changed("headers", "timelimit", to=["soon"])
    odd["headers"] |= {"eta": "2999-01-01", "stamped_headers": 1, "compression": "zlib", "id": []}
    odd["properties"]["delivery_info"] = None

    seen = message_of(job_id_of(odd), EVENT_QUEUE)

    assert seen["headers"].keys() == A_MESSAGE["headers"].keys()
    assert seen["headers"]["id"] == seen["headers"]["root_id"] == "b1-1"
    assert seen["headers"]["timelimit"] == [None, None]
    assert seen["properties"]["delivery_info"]["routing_key"] == EVENT_QUEUE


def test_the_same_message_twice_is_two_deliveries() -> None:
    tags = {message_of("b1-1", EVENT_QUEUE)["properties"]["delivery_tag"] for _ in range(2)}

    assert len(tags) == 2
