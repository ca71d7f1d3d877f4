"""The demo's file of customers, and its report."""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from demo.accounting import Report, make_report, whole_numbers
from demo.receiver import Receiver
from demo.story import EVENT_NUMBERS, HEADER, make_customers, write_csv
from demo.world import free_port
from jobs.job import JobRecord, Lane, State
from jobs.phone import PhoneError, PhoneNumber
from producer.sheet import open_sheet
from sandbox.numbers import MAGIC_NUMBERS, magic_for

HALTING = {str(prefix) for prefix in range(9971, 9990)}


@pytest.mark.parametrize("rows", [1, 5, 40, 200, 1000])
def test_the_file_has_as_many_rows_as_asked_for(rows: int) -> None:
    assert len(make_customers(rows)) == rows


def test_every_kind_of_ending_is_in_the_file_but_those_that_halt_the_account() -> None:
    customers = make_customers(200)

    seen = {magic.prefix for each in customers if (magic := magic_for(each.phone_num))}
    assert seen == {row.prefix for row in MAGIC_NUMBERS} - HALTING


def test_no_number_is_in_the_file_twice_and_none_is_an_events() -> None:
    customers = make_customers(1000)

    numbers = [
        each.country_code + each.phone_num for each in customers if each.phone_num.startswith("99")
    ]
    assert len(set(numbers)) == len(numbers)
    assert not {cc + number for cc, number in EVENT_NUMBERS} & set(numbers)


def test_some_rows_cannot_be_sent_and_the_reader_finds_just_those(tmp_path: Path) -> None:
    customers = make_customers(200)
    write_csv(tmp_path / "customers.csv", customers)

    with open_sheet(tmp_path / "customers.csv") as sheet:
        refused = [row.cells[0] for row in sheet if row.problem is not None]

    assert refused == [each.name for each in customers if "is not asked" in each.behaviour]
    assert len(refused) == 8


def test_the_same_file_is_made_again() -> None:
    assert make_customers(200) == make_customers(200)


def test_the_columns_are_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "customers.csv", make_customers(3))

    with (tmp_path / "customers.csv").open(encoding="utf-8-sig", newline="") as file:
        assert tuple(next(csv.reader(file))) == HEADER


def job(number: str, state: State, row: int, code: str = "") -> JobRecord:
    phone = PhoneNumber("852", number)
    return JobRecord(
        f"b-{row}", state, phone, Lane.BATCH, code=code, tries=1, created_ms=1, finished_ms=201
    )


SENT = job("99000001", State.SENT, 1)
DEAD = job("99010001", State.DEAD, 2, "FailedOperation.PhoneBindUpper")
UNKNOWN = job("99320001", State.UNKNOWN, 3)
EVENT = job("99009000", State.SENT, 4)
API: dict[str, Any] = {
    "requests": 30,
    "accepted": 2,
    "accepted_numbers": 2,
    "accepted_per_number": {"85299000001": 1, "85299009000": 1},
    "doubled": 0,
    "most_in_any_second": 20,
    "worst_lag_ms": 2.0,
}


def report_of(
    jobs: list[JobRecord] | None = None,
    api: dict[str, Any] | None = None,
    events: list[JobRecord] | None = None,
    leaks: tuple[str, ...] = (),
    reported_states: dict[str, str] | None = None,
) -> Report:
    return make_report(
        4,
        [SENT, DEAD, UNKNOWN] if jobs is None else jobs,
        [EVENT] if events is None else events,
        1,
        {**API, **(api or {})},
        rate_limit=20,
        reported_states={EVENT.job_id: "sent"} if reported_states is None else reported_states,
        leaks=leaks,
    )


def broken(report: Report) -> list[str]:
    return [promise.text for promise in report.promises if not promise.kept]


def test_a_report_without_faults_has_every_promise_kept() -> None:
    report = report_of()

    assert report.all_kept
    assert report.states == {"sent": 1, "dead": 1, "unknown": 1, "rejected": 1}
    assert report.dead_by_code == {"FailedOperation.PhoneBindUpper": 1}
    assert report.event_ms == (200,)


def test_a_stand_in_that_was_short_of_cpu_accuses_nobody_of_what_it_counted_late() -> None:
    report = report_of(api={"most_in_any_second": 21, "worst_lag_ms": 60.0})

    assert report.all_kept
    shown = next(each.shown for each in report.promises if "any second" in each.text)
    assert shown.startswith("21 at most, of 30 in all, counted up to 60 ms late")


@pytest.mark.parametrize(
    ("report", "promise"),
    [
        (report_of(jobs=[SENT, DEAD]), "Every row has exactly one final state"),
        (report_of(jobs=[SENT, DEAD, DEAD]), "Every row has exactly one final state"),
        (
            report_of(jobs=[SENT, DEAD, job("99000003", State.PARKED, 3)]),
            "Every row has exactly one final state",
        ),
        (report_of(api={"doubled": 1}), "No number got two codes"),
        (
            report_of(api={"accepted_per_number": {"85299009000": 1}}),
            "All that is reported as sent was sent, and nothing else",
        ),
        (
            report_of(
                api={"accepted_per_number": {**API["accepted_per_number"], "85299010001": 1}}
            ),
            "All that is reported as sent was sent, and nothing else",
        ),
        (report_of(api={"most_in_any_second": 21}), "Never more than 20 requests in any second"),
        (report_of(events=[job("99009000", State.PARKED, 4)]), "Events overtook the batch"),
        (
            report_of(jobs=[SENT] * 20, events=[replace(EVENT, finished_ms=1_500)]),
            "Events overtook the batch",
        ),
        (report_of(reported_states={}), "Every event's outcome reached the webhook, signed"),
        (
            report_of(reported_states={EVENT.job_id: "dead"}),
            "Every event's outcome reached the webhook, signed",
        ),
        (
            report_of(leaks=("worker-1.log",)),
            "No full number in a log, in Flower or in a webhook",
        ),
    ],
)
def test_a_broken_promise_is_named(report: Report, promise: str) -> None:
    assert promise in broken(report)
    assert not report.all_kept


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sent to 85299000001", False),
        ("sent to 99000001.", True),
        ('{"phone": "99000001"}', True),
        ("id 199000001f", False),
        ("id f99000001", False),
    ],
)
def test_a_number_is_found_where_it_stands_for_itself(text: str, found: bool) -> None:
    assert ("99000001" in whole_numbers(text)) is found


def test_the_demos_numbers_are_fit_to_be_sent_to() -> None:
    for each in make_customers(200):
        if "is not asked" in each.behaviour:
            with pytest.raises(PhoneError):
                PhoneNumber.parse(each.country_code, each.phone_num)
        else:
            PhoneNumber.parse(each.country_code, each.phone_num)


def test_the_demos_backend_believes_no_webhook_that_another_secret_signs() -> None:
    body = b'{"data": {"job_id": "ev-1", "state": "sent"}}'
    with Receiver() as receiver:
        receiver.set_secret("whsec_" + base64.b64encode(b"its own").decode())
        answers = {
            name: post(receiver.url, body, secret)
            for name, secret in (("forged", b"another"), ("right", b"its own"))
        }

    assert answers == {"forged": 401, "right": 204}
    assert (receiver.reported_states, receiver.refused) == ({"ev-1": "sent"}, 1)


def post(url: str, body: bytes, secret: bytes) -> int:
    digest = hmac.new(secret, b"ev-1_1.1700000000." + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    headers = {
        "webhook-id": "ev-1_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": signature,
    }
    return requests.post(url, body, headers=headers, timeout=30).status_code


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [free_port(), free_port()]
    offered = iter(port - 10_000 for port in given)
    monkeypatch.setattr(secrets, "randbelow", lambda _: next(offered))

    with pytest.raises(StopIteration):
        free_port()
