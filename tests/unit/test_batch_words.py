"""The pure parts behind `sendcode batch`: words, counts, estimates, ids, rows that come back."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.account import AccountState
from jobs.codes import CODES
from jobs.job import JobRecord, Lane, State, batch_job_id, corrected_job_id, split_job_id
from jobs.phone import PhoneNumber
from producer.bounds import start_ms
from producer.cli.wording import error_in_words, halt_in_words
from producer.importing import ImportRefusedError, check_batch_id
from producer.overview import seconds_for
from producer.results import RESULT_COLUMNS
from producer.second_codes import rows_to_send
from producer.sheet import Choice, SheetError, open_sheet
from producer.stories import lower_first, outcome_in_words
from producer.tally import LINES_KEPT, MOST_KINDS, NumberUse, Places, Tally
from tests.files import write_csv

BATCH_IDS = st.text("abcXYZ019._-", min_size=1, max_size=20).filter(lambda text: text != "ev")
ROWS = st.integers(min_value=1, max_value=10**7)
PHONE = PhoneNumber("852", "51000001")


@pytest.mark.parametrize(
    ("asked", "starts"),
    [
        ("10:00", "2026-03-14 10:00"),
        ("9:31", "2026-03-14 09:31"),
        ("09:30", "2026-03-15 09:30"),  # past, today
        ("2026-03-14 23:59", "2026-03-14 23:59"),
        ("2026-12-01T08:00", "2026-12-01 08:00"),
    ],
)
def test_a_time_to_start_at_is_the_next_of_this_machine_s_wall_clock(
    asked: str, starts: str
) -> None:
    now = datetime(2026, 3, 14, 9, 30, 12).timestamp()

    found = start_ms(asked, round(now * 1000))

    assert datetime.fromtimestamp(found / 1000) == datetime.fromisoformat(starts)


@pytest.mark.parametrize(
    "wrong",
    ["", "10", "24:00", "9:60", "soon", "2026-03-14 09:30", "2026-02-30 10:00", "2031-01-01 1:00"],
)
def test_what_is_no_time_to_come_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"must be|no such|past"):
        start_ms(wrong, round(datetime(2026, 3, 14, 9, 30, 12).timestamp() * 1000))


@given(batch_id=BATCH_IDS, row=ROWS)
def test_a_batch_job_s_id_is_read_in_one_way_only(batch_id: str, row: int) -> None:
    check_batch_id(batch_id)
    assert split_job_id(batch_job_id(batch_id, row)) == (batch_id, row)


@given(batch_id=BATCH_IDS, row=ROWS, times=st.integers(1, 3))
def test_jobs_in_another_s_place_lead_back_to_the_row(batch_id: str, row: int, times: int) -> None:
    job_id = batch_job_id(batch_id, row)
    ids = {job_id}
    for _ in range(times):
        job_id = corrected_job_id(job_id)
        ids.add(job_id)

    assert split_job_id(job_id) == (batch_id, row)
    assert len(ids) == times + 1


@given(first=st.tuples(BATCH_IDS, ROWS), second=st.tuples(BATCH_IDS, ROWS))
def test_no_two_batches_share_a_job_id(first: tuple[str, int], second: tuple[str, int]) -> None:
    assert (batch_job_id(*first) == batch_job_id(*second)) == (first == second)


@pytest.mark.parametrize("choice", get_args(Choice))
def test_what_a_person_may_choose_about_a_file_is_an_option_of_a_command(choice: Choice) -> None:
    error = SheetError("code", "it is odd", "choose", choices=(choice,), file="may.csv")

    [line], _ = error_in_words(error)

    option = re.fullmatch(r"may\.csv: it is odd; choose \((--[a-z-]+)[A-Za-z ]*\)", line)
    assert option is not None
    assert f"| `{option[1]}` |" in Path("docs/commands.md").read_text()


def test_an_event_s_id_belongs_to_no_batch() -> None:
    with pytest.raises(ImportRefusedError):
        check_batch_id("ev")
    for digits in ("0123456789abcdef0123", "12345678901234567890", "1"):
        assert split_job_id(f"ev-{digits}") == ("", 0)
        assert split_job_id(f"ev-{digits}.r1") == ("", 0)


def test_a_number_that_no_row_can_have_is_no_row() -> None:
    assert split_job_id("b1-12345678901234567890") == ("", 0)


def record(state: State, **more: object) -> JobRecord:
    values: dict[str, object] = {"job_id": "b1-1", "phone": PHONE, "lane": Lane.BATCH, **more}
    return JobRecord(state=state, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [each for each in State if each is not State.REJECTED])
def test_every_state_has_words_without_the_number(state: State) -> None:
    told = outcome_in_words(record(state, code="InternalError", due_ms=1_000))

    assert told
    assert PHONE.phone_num not in told


def test_a_code_that_may_have_been_sent_twice_says_so() -> None:
    told = outcome_in_words(record(State.SENT, possible_duplicate=True))

    assert "perhaps twice" in told


def test_a_second_code_that_nobody_can_prove_is_told_as_well() -> None:
    told = outcome_in_words(record(State.UNKNOWN, code="Unproved", possible_duplicate=True))

    assert told.startswith("Perhaps sent, perhaps twice")


def test_a_parked_job_says_why_and_until_when() -> None:
    told = outcome_in_words(
        record(State.PARKED, code="FailedOperation.SendVerifyCodeLimit", due_ms=1_700_000_000_000)
    )

    assert told.startswith("Codes were sent to this number too often; it is tried again by itself")
    assert "2023-11-14T22:13:20" in told


@pytest.mark.parametrize(
    ("text", "lowered"),
    [("Ask them", "ask them"), ("SENDCODE_X is", "SENDCODE_X is"), ("", ""), ("A", "A")],
)
def test_names_keep_their_capitals_in_a_sentence(text: str, lowered: str) -> None:
    assert lower_first(text) == lowered


def test_alone_a_batch_takes_its_rows_at_the_rate() -> None:
    assert seconds_for(200, 20, []) == 10


def test_a_small_batch_does_not_wait_for_a_big_one() -> None:
    assert seconds_for(200, 20, [100_000]) == 20


def test_a_big_batch_waits_for_all_of_a_small_one() -> None:
    assert seconds_for(100_000, 20, [200]) == (100_000 + 200) / 20


def test_events_go_before_everything() -> None:
    assert seconds_for(100, 20, [], events=100) == 10


@given(
    rows=st.integers(0, 10**6),
    waiting=st.lists(st.integers(0, 10**6), max_size=4),
    max_rate=st.none() | st.floats(0.1, 100),
)
def test_an_estimate_is_never_below_the_rows_at_the_rate(
    rows: int, waiting: list[int], max_rate: float | None
) -> None:
    seconds = seconds_for(rows, 20, waiting, max_rate=max_rate)

    assert rows / 20 <= seconds
    if max_rate is None:
        assert seconds <= (rows + sum(waiting)) / 20


@given(st.lists(st.integers(0, 6), max_size=40))
def test_doubles_are_what_a_count_in_memory_finds(numbers: list[int]) -> None:
    phones = [PhoneNumber("852", f"5100000{n}") for n in numbers]
    lines: dict[int, list[int]] = {}
    for line, n in enumerate(numbers, 2):
        lines.setdefault(n, []).append(line)
    expected = sorted(each for each in lines.values() if len(each) > 1)

    with NumberUse() as use:
        for line, phone in enumerate(phones, 2):
            use.add(phone, line, 0)
        found = use.doubles()
        often = use.used_more_than(3)

    assert found.numbers == len(expected)
    assert found.rows == sum(len(each) - 1 for each in expected)
    assert found.examples == tuple(Places(len(each), each[:20]) for each in expected)
    first_lines = sorted(each[0] for each in lines.values() if len(each) > 3)
    assert often == Places(len(first_lines), first_lines)


def tally_of(file: Path) -> Tally:
    tally = Tally()
    with open_sheet(file) as sheet:
        for row in sheet:
            tally.count(row)
    return tally


def test_a_tally_keeps_the_first_lines_and_counts_all(tmp_path: Path) -> None:
    rows = [["a", "86", "13800000000", ""] for _ in range(50)]

    tally = tally_of(write_csv(tmp_path / "barred.csv", rows))

    (places,) = tally.rejected.values()
    assert (places.count, len(places.lines)) == (50, LINES_KEPT)
    assert places.where("line") == "lines 2, 3, 4, 5, 6 and 45 more"
    assert (tally.rows, tally.valid, tally.invalid) == (50, 0, 50)


def test_each_reason_is_told_of_its_own_lines_only(tmp_path: Path) -> None:
    rows = [["a", code, "501234567", ""] for code in ("86", "380", "7", "380")]

    tally = tally_of(write_csv(tmp_path / "barred.csv", rows))

    told = [
        (fault.message.partition(" to ")[2], rows.lines) for fault, rows in tally.rejected.items()
    ]
    assert told == [
        ("country code 86 (mainland China)", [2]),
        ("country code 380 (Ukraine)", [3, 5]),
        ("country code 7 (Russia and Kazakhstan)", [4]),
    ]


def test_a_file_with_a_thousand_reasons_is_counted_in_little_memory(tmp_path: Path) -> None:
    rows = [["a", str(code), "501234567", ""] for code in range(1000, 9999)]

    tally = tally_of(write_csv(tmp_path / "codes.csv", rows))

    assert len(tally.rejected) == MOST_KINDS + 1
    assert sum(each.count for each in tally.rejected.values()) == tally.invalid > 8_000
    assert list(tally.rejected)[-1].message == "of other kinds"


RESULTS_HEADER = (
    *("country_code", "phone_num", "status", "code"),
    *("message", "request_id", "attempts", "finished_at"),
)


@pytest.mark.parametrize(
    ("status", "code", "kept_back"),
    [
        ("sent", "", "already_sent"),
        ("SENT", "", "already_sent"),
        (" sent_inferred ", "", "already_sent"),
        ("queued", "", "under_way"),
        ("parked", "", "under_way"),
        ("unknown", "InternalError", "perhaps_sent"),
        ("forgotten", "", "perhaps_sent"),
        ("rejected", "already_sent", "already_sent"),
        ("rejected", "perhaps_sent", "perhaps_sent"),
        ("rejected", "left_out", "left_out"),
        ("rejected", "not_digits", None),
        ("dead", "FailedOperation.PhoneBindUpper", None),
        ("cancelled", "", None),
        ("expired", "", None),
        ("", "", None),
        ("to do", "", None),
    ],
)
def test_a_row_that_comes_back_is_sent_unless_it_was_or_will_be(
    tmp_path: Path, status: str, code: str, kept_back: str | None
) -> None:
    row = ["852", "51000001", status, code, "", "", "", ""]
    file = write_csv(tmp_path / "results.csv", [row], RESULTS_HEADER)

    with open_sheet(file) as sheet:
        ((found, _),) = rows_to_send(sheet)

    assert (found.problem.code if found.problem else None) == kept_back
    assert (found.phone is None) == (kept_back is not None)


def kept_back(file: Path) -> list[str | None]:
    with open_sheet(file) as sheet:
        return [row.problem.code if row.problem else None for row, _ in rows_to_send(sheet)]


@pytest.mark.parametrize("gone", RESULT_COLUMNS[1:])
def test_results_are_known_as_such_without_any_one_of_our_columns(
    tmp_path: Path, gone: str
) -> None:
    header = [name for name in RESULTS_HEADER if name != gone]
    row = ["852", "51000001", "sent", *[""] * (len(header) - 3)]

    assert kept_back(write_csv(tmp_path / "results.csv", [row], header)) == ["already_sent"]


@pytest.mark.parametrize("name", ["Status", " STATUS ", "status"])
@pytest.mark.parametrize("others", [(), ("Request_ID",), ("code", "message")])
def test_results_are_known_by_their_column_status_however_it_is_written(
    tmp_path: Path, name: str, others: tuple[str, ...]
) -> None:
    rows = [
        ["852", "51000001", "sent"],
        ["852", "51000002", "dead"],
        ["852", "51000003", ""],
        ["852", "51000004", "corrected"],
    ]
    header = ["country_code", "phone_num", name, *others]
    file = write_csv(tmp_path / "r.csv", [[*row, *[""] * len(others)] for row in rows], header)

    assert kept_back(file) == ["already_sent", None, None, None]


def test_a_customer_s_own_column_status_keeps_nothing_back(tmp_path: Path) -> None:
    rows = [["852", f"5100000{n}", value] for n, value in enumerate(["VIP", "new", "unknown", ""])]
    file = write_csv(tmp_path / "own.csv", rows, ["country_code", "phone_num", "status"])

    assert kept_back(file) == [None] * 4


def test_results_without_their_column_status_are_refused(tmp_path: Path) -> None:
    header = [name for name in RESULTS_HEADER if name != "status"]
    file = write_csv(tmp_path / "results.csv", [["852", "51000001", *[""] * 5]], header)

    with pytest.raises(SheetError, match="without its column status"):
        kept_back(file)


# why nothing is sent


def halted(code: str, message: str = "", worker: str = "w1@vm") -> str:
    since_ms = round(time.time() * 1000)
    return halt_in_words(AccountState("halted", "api", code, message, worker, since_ms, 30.0))


@pytest.mark.parametrize(
    "code", [code for code, known in CODES.items() if known.kind in {"transient", "ambiguous"}]
)
def test_an_outage_tells_nobody_to_ask_customers_or_to_requeue(code: str) -> None:
    told = halted(code.removesuffix("*"), "out")

    assert "the API is out" in told
    assert "wait; one job tries every 30 s" in told
    assert "customer" not in told
    assert "requeue" not in told


def test_an_outage_without_a_message_says_what_its_code_means() -> None:
    assert "(ServiceUnavailable: the service is unavailable for the moment" in halted(
        "ServiceUnavailable"
    )


def test_network_is_looked_at_only_where_the_api_said_nothing() -> None:
    assert "check network" in halted("Network.Dns", "gaierror")
    assert "check network" not in halted("InternalError", "An internal error.")


@pytest.mark.parametrize(
    ("code", "is_said"),
    [
        ("AuthFailure.SecretIdNotFound", True),
        ("IpNotInWhitelist", True),
        ("NoSuchProduct", True),
        ("LimitExceeded", False),
        ("ActionOffline", False),
    ],
)
def test_what_one_worker_alone_may_be_told_halts_when_none_is_left(
    code: str, is_said: bool
) -> None:
    told = halted(code)

    assert ("no worker is left" in told) == is_said
    assert "by an answer to w1@vm" in told
    assert "by an answer of the API" in halted(code, worker="")


def test_a_halt_of_another_day_is_told_with_its_day() -> None:
    account = AccountState("halted", "person", "Halted", "moving house", since_ms=1_700_000_000_000)

    assert "halted since 2023-11-1" in halt_in_words(account)
