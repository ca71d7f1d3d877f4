"""What failed, in the console: choose, look first, confirm; find a customer, and its story."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html import unescape
from typing import Any
from unittest.mock import ANY

import pytest
import requests
from redis import Redis

from config.settings import Settings
from jobs.actions import recent_actions
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.deadletters import WINDOW, DeadLetters, Decision
from jobs.job import SendCodeJob, State
from jobs.keys import Keys
from jobs.ledger import Ending, Ledger
from producer.deadletters import Choice, chosen_parts
from tests.console import Browser, csrf_of
from tests.ended_jobs import (
    BIND_UPPER,
    BUSY,
    DEAD,
    PERMANENT,
    SENT,
    UNKNOWN,
    customers,
    end,
    end_event,
    number,
    run_batch,
)
from tests.waiting import wait_until
from tests.web_server import WebServer

EVIL = "<script>alert('x')</script>"
HEADER = ("name", "country_code", "phone_num")
FILTERED = ("left", "failed", "unknown")
SHOWN_EVIL = "&lt;script&gt;"


@pytest.fixture
def web(settings: Settings) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        yield server


@pytest.fixture
def anna(web: WebServer, redis: Redis, settings: Settings) -> Browser:
    return Browser.of(web, redis, settings, "operator", "anna")


@pytest.fixture
def mixed(ledger: Ledger, batches: Batches) -> None:
    """Of batch b1 rows 1 to 3 busy, 4 and 5 permanent, 6 unknown, 7 sent; of b2 row 1 busy."""
    endings = {4: PERMANENT, 5: PERMANENT, 6: UNKNOWN, 7: SENT}
    run_batch(ledger, batches, "b1", customers(7), lambda row: endings.get(row, DEAD))
    run_batch(ledger, batches, "b2", customers(1, first=50))


def ticks(page: requests.Response) -> list[str]:
    return re.findall(r'name="job" value="([^"]+)"', page.text)


def decided(browser: Browser, page: requests.Response) -> requests.Response:
    """Return the decision's page once it is known what it would do, or it is done."""
    path = page.url.removeprefix(browser._url)

    def shown() -> requests.Response | None:
        again = browser.get(path)
        return None if "<progress" in again.text else again

    found = wait_until(shown, "the decision")
    assert found is not None
    return found


def confirm(browser: Browser, page: requests.Response) -> requests.Response:
    run = re.search(r'/do"><input[^>]*><input type="hidden" name="run" value="(\d+)"', page.text)
    assert run is not None, page.text
    done = browser.post(page.url.removeprefix(browser._url) + "/do", run=run[1])
    return decided(browser, done)


def test_where_nothing_failed_the_page_says_so(anna: Browser) -> None:
    assert "Nothing failed that waits for you." in anna.get("/dead").text


@pytest.mark.usefixtures("mixed")
def test_the_page_shows_reasons_in_words_and_customers_by_name(anna: Browser) -> None:
    page = anna.get("/dead")

    assert "7 customers wait for your decision: their codes could not be sent" in page.text
    assert "This number already has the most accounts allowed" in page.text
    assert "Ask the customer for another number" in page.text
    assert "Customer 6" in page.text
    assert "+852 ******06" in page.text
    assert number(6).phone_num not in page.text
    assert ticks(page) == ["b2-1", *(f"b1-{n}" for n in range(6, 0, -1))]


@pytest.mark.usefixtures("mixed")
def test_customers_whom_a_file_corrected_are_gone_and_their_stories_lead_to_what_became_of_them(
    anna: Browser, ledger: Ledger, batches: Batches
) -> None:
    batches.note_corrections([("b1-1", "fixed-1"), ("b1-2", "fixed-2")])
    run_batch(ledger, batches, "fixed", customers(2, 20), lambda row: SENT if row == 1 else DEAD)

    page, home = anna.get("/dead"), anna.get("/")
    story = anna.get("/jobs/b1-1").text
    asked = anna.post("/dead/decide", verb="requeue", job="b1-1")

    assert "6 customers wait for your decision" in page.text
    assert ticks(page) == ["fixed-2", "b2-1", *(f"b1-{n}" for n in range(6, 2, -1))]
    assert "Look at all 6" in home.text
    assert "The customer was corrected by a file:" in story
    assert "The code was sent." in story
    assert 'href="/jobs/fixed-1"' in story
    assert "Try again" not in story
    assert (
        "A corrected file that you submitted took this customer over" in decided(anna, asked).text
    )


@pytest.mark.usefixtures("mixed")
def test_a_batch_s_figures_and_reasons_hold_nobody_whom_a_file_corrected(
    anna: Browser, ledger: Ledger, batches: Batches
) -> None:
    batches.open("fixed", "digest of fixed", HEADER, corrects="b1")
    batches.note_corrections([(f"b1-{n}", f"fixed-{n}") for n in (1, 4, 6)])
    batches.append("fixed", 0, customers(3, 20), last=True)
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT)

    text = anna.get("/batches/b1").text

    figures = dict(re.findall(r"<dt>([^<]+)</dt><dd>(\d+)</dd>", text))
    assert figures == {"Sent": "1", "Could not be sent": "3", "Corrected by a file": "3"}
    reasons = re.findall(r'<span class="small">([^<]*)</span></td><td class="count">(\d+)<', text)
    assert sorted(count for _, count in reasons) == ["1", "2"]
    assert "7 customers: 4 done, 3 open" in text
    assert 'Who is still open, and why: <a href="/dead?batch=b1">' in text


@pytest.mark.usefixtures("mixed")
def test_a_row_that_a_person_left_and_a_file_corrected_is_marked_as_left(
    anna: Browser, batches: Batches
) -> None:
    batches.open("fixed", "digest of fixed", HEADER, corrects="b1")
    looked = decided(anna, anna.post("/dead/decide", verb="drop", job="b1-4", why="told"))
    confirm(anna, looked)
    batches.note_corrections([("b1-4", "fixed-1")])
    batches.append("fixed", 0, customers(1, 20), last=True)

    page = anna.get("/batches/b1?only=left")

    assert re.findall(r'<span class="mark ?[^"]*">([^<]*)</span>', page.text) == [
        "Left, with a reason"
    ]


def test_of_very_many_corrected_rows_those_of_an_undone_file_are_open_again(
    anna: Browser, batches: Batches
) -> None:
    numbers = range(1, 2002)
    batches.open("b1", "digest of b1", HEADER)
    rows = [BatchRow(n + 1, [f"Customer {n}"], None, "phone_invalid", "no number") for n in numbers]
    rows.append(BatchRow(2003, ["Customer 2002", *customers(1)[0].cells[1:]], number(1)))
    batches.append("b1", 0, rows, last=True)
    batches.open("fixed", "digest of fixed", HEADER, corrects="b1")
    batches.note_corrections([(f"b1-{n}", f"fixed-{n}") for n in numbers])
    corrected = anna.get("/batches/b1").text

    batches.steer("fixed", "cancel")

    figures = [
        dict(re.findall(r"<dt>([^<]+)</dt><dd>([\d,]+)</dd>", each))
        for each in (corrected, anna.get("/batches/b1").text)
    ]
    assert figures[0] == {"Waiting or under way": "1", "Corrected by a file": "2,001"}
    assert figures[1] == {"Waiting or under way": "1", "Left out before sending": "2,001"}


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        (f"reason={BIND_UPPER}", ["b1-5", "b1-4"]),
        ("batch=b2", ["b2-1"]),
        (f"reason={BUSY}&batch=b1", ["b1-3", "b1-2", "b1-1"]),
        ("country=65", []),
        ("age=older", []),
        ("age=hour&batch=b2", ["b2-1"]),
        ("age=nonsense&batch=b2", ["b2-1"]),
        ("batch=nowhere", []),
        ("page=2", []),
    ],
)
def test_the_page_is_narrowed_by_its_filters(query: str, chosen: list[str], anna: Browser) -> None:
    assert ticks(anna.get(f"/dead?{query}")) == chosen


@pytest.mark.usefixtures("mixed")
def test_what_is_ticked_is_previewed_first_and_then_tried_again(
    anna: Browser, ledger: Ledger, dead: DeadLetters, redis: Redis, settings: Settings
) -> None:
    looked = anna.post("/dead/decide", verb="requeue", job=["b1-1", "b1-4", "b1-6"])
    looked = decided(anna, looked)

    assert "1 customer would be tried again." in looked.text
    assert "2 are left alone" in looked.text
    assert "Unchanged it would only be refused again" in looked.text
    assert "Ask the customer whether one has come" in looked.text
    assert dead.count() == 7

    done = confirm(anna, looked)

    assert "1 customer is being tried again." in done.text
    assert dead.count() == 6
    record = ledger.job("b1-1")
    assert record is not None
    assert record.state is State.PARKED
    [action] = [each for each in recent_actions(redis, settings, 9) if each.what == "dead requeue"]
    assert (action.by, action.jobs) == ("anna", 1)


def test_a_decision_names_its_customers_and_follows_what_becomes_of_each(
    anna: Browser, ledger: Ledger, batches: Batches
) -> None:
    run_batch(ledger, batches, "b1", customers(30))
    looked = decided(anna, anna.post("/dead/decide", verb="requeue", scope="all", batch="b1"))
    path = looked.url.removeprefix(anna._url)
    named = ", ".join(f"Customer {n}" for n in range(1, 9))

    assert f"{named} and 22 more" in text_of(looked)
    done = confirm(anna, looked)
    assert "Customer 20 It is on its way: it" in text_of(done)
    assert "and 10 more" in text_of(done)
    assert anna.live(path).status_code == 200

    def over() -> requests.Response | None:
        for _, job_id in ledger.sweep():  # they become due one after another
            end(ledger, job_id, PERMANENT if job_id == "b1-2" else SENT)
        live = anna.live(path)
        return live if live.status_code == 286 else None  # there is nothing to follow any more

    live = wait_until(over, "the end of all that is followed")
    assert live is not None
    assert "Customer 1 The code was sent. Customer 2 The code could not be sent." in text_of(live)


@pytest.mark.usefixtures("mixed")
def test_what_is_left_alone_is_named_by_its_customers(anna: Browser) -> None:
    looked = decided(anna, anna.post("/dead/decide", verb="requeue", job=["b1-4", "b1-5"]))

    assert "Customer 4, Customer 5" in text_of(looked)


def text_of(page: requests.Response) -> str:
    """Return a page's words, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.text)).split()).replace(" ,", ",")


def test_who_did_what_speaks_of_batches_and_customers_by_name(
    anna: Browser, ledger: Ledger, batches: Batches
) -> None:
    batches.open("b1", "digest", ["name", "country_code", "phone_num"], name="July")
    batches.append("b1", 0, customers(9), last=True)
    for order in ("pause", "resume"):
        anna.post(f"/batches/b1/{order}")
    for _, job_id in ledger.sweep():
        end(ledger, job_id, DEAD)
    every = [f"b1-{n}" for n in range(1, 8)]
    for form in ({"job": every}, {"scope": "all", "reason": BUSY, "batch": "b1", "country": "852"}):
        confirm(anna, decided(anna, anna.post("/dead/decide", verb="drop", why="told", **form)))

    page = anna.get("/actions")

    shown = text_of(page)
    assert "Customer 1</a>, <a" in page.text
    named = ", ".join(f"Customer {n}" for n in range(1, 6))
    assert f"left what failed {named} and 2 more 7 told" in shown
    assert "left what failed The service is busy, July, +852 2 told" in shown
    assert "paused a batch July" in shown
    assert 'href="/batches/b1"' in page.text
    assert 'href="/jobs/b1-1"' in page.text


@pytest.mark.parametrize(
    ("chosen", "parts"),
    [
        (Choice(), []),
        (Choice(job_ids=("b1-1",)), [("job", "b1-1")]),
        (
            Choice(job_ids=tuple(f"b1-{n}" for n in range(8)), until_ms=1),
            [*(("job", f"b1-{n}") for n in range(5)), ("more", "3"), ("failed by", ANY)],
        ),
        (
            Choice("InternalError", "b1", "65", since_ms=1),
            [("code", "InternalError"), ("batch", "b1"), ("country", "+65"), ("failed since", ANY)],
        ),
        ("what another release wrote", [("text", "what another release wrote")]),
    ],
)
def test_what_a_decision_was_about_is_read_as_it_was_written(
    chosen: Choice | str, parts: list[tuple[str, str]]
) -> None:
    assert chosen_parts(str(chosen)) == parts


@pytest.mark.usefixtures("mixed")
def test_everything_that_matches_is_more_than_what_is_ticked(
    anna: Browser, dead: DeadLetters
) -> None:
    looked = anna.post("/dead/decide", verb="requeue", scope="all", reason=BUSY, job="b1-4")

    done = confirm(anna, decided(anna, looked))

    assert "4 customers are being tried again." in done.text
    assert dead.by_code() == {BIND_UPPER: 2, "InternalError": 1}


@pytest.mark.usefixtures("mixed")
def test_a_decision_s_form_that_is_sent_again_does_nothing_twice(
    anna: Browser, ledger: Ledger, redis: Redis, settings: Settings
) -> None:
    looked = decided(anna, anna.post("/dead/decide", verb="requeue", job="b1-1"))
    path = looked.url.removeprefix(anna._url)
    confirm(anna, looked)
    ledger.sweep()
    end(ledger, "b1-1", DEAD)

    again = anna.post(path + "/do", run="0")

    assert "1 customer is being tried again." in again.text
    record = ledger.job("b1-1")
    assert record is not None
    assert record.state is State.DEAD
    assert len([a for a in recent_actions(redis, settings, 9) if a.what == "dead requeue"]) == 1


def test_a_long_decision_is_stopped_and_continued(
    anna: Browser, ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    count = WINDOW + 10
    run_batch(ledger, batches, "b1", customers(count))
    looked = decided(anna, anna.post("/dead/decide", verb="requeue", scope="all", batch="b1"))
    path = looked.url.removeprefix(anna._url)
    anna.post(path + "/stop", run="0")  # before it has reached its first window

    stopped = confirm(anna, looked)

    assert f"Stopped. {WINDOW} customers are being tried again" in stopped.text
    assert dead.count() == count - WINDOW
    assert f"{count} customers are being tried again." in confirm(anna, stopped).text
    assert dead.count() == 0


@pytest.mark.usefixtures("mixed")
def test_who_knows_that_no_code_came_may_send_what_was_perhaps_sent(
    anna: Browser, ledger: Ledger
) -> None:
    looked = decided(anna, anna.post("/dead/decide", verb="requeue", job="b1-6"))
    assert "0 customers would be tried again." in looked.text

    insisted = anna.post(looked.url.removeprefix(anna._url) + "/insist")
    insisted = decided(anna, insisted)
    assert "they may get a second one" in insisted.text
    confirm(anna, insisted)

    record = ledger.job("b1-6")
    assert record is not None
    assert record.possible_duplicate


@pytest.mark.usefixtures("mixed")
def test_leaving_needs_a_reason_in_which_no_number_stays(anna: Browser, ledger: Ledger) -> None:
    refused = anna.post("/dead/decide", verb="drop", job="b1-4")
    assert "Write a reason first" in refused.text

    looked = anna.post("/dead/decide", verb="drop", job="b1-4", why="told at +852 5100 0004")
    done = confirm(anna, decided(anna, looked))

    assert "1 customer was left as it is." in done.text
    assert lead_of(anna.get("/jobs/b1-4")) == (
        "It was left as it is, without a code. Reason: told at ******04"
    )
    record = ledger.job("b1-4")
    assert record is not None
    assert record.dropped_ms
    assert "told at ******04" in record.story[-1].note


@pytest.mark.usefixtures("mixed")
def test_who_was_left_is_counted_and_shown_apart_from_what_failed(anna: Browser) -> None:
    looked = anna.post("/dead/decide", verb="drop", job=["b1-4", "b1-6"], why="told by phone")
    confirm(anna, decided(anna, looked))

    page = anna.get("/batches/b1")
    figures = dict(re.findall(r"<dt>([^<]+)</dt><dd>(\d+)</dd>", page.text))
    left, failed, unknown = (anna.get(f"/batches/b1?only={each}").text for each in FILTERED)

    assert figures == {"Sent": "1", "Could not be sent": "4", "Left, with a reason": "2"}
    assert re.findall(r'href="/jobs/(b1-\d)"', left) == ["b1-4", "b1-6"]
    assert re.findall(r'href="/jobs/(b1-\d)"', failed) == [f"b1-{n}" for n in (1, 2, 3, 5)]
    assert re.findall(r'href="/jobs/(b1-\d)"', unknown) == []
    taken = {each: anna.get(f"/batches/b1/results?only={each}&form=plain") for each in FILTERED[:2]}
    assert [len(each.text.splitlines()) - 1 for each in taken.values()] == [2, 4]


@pytest.mark.usefixtures("mixed")
def test_without_a_tick_nothing_is_decided(anna: Browser) -> None:
    refused = anna.post("/dead/decide", verb="requeue", scope="ticked", why="the network is back")

    assert refused.status_code == 422
    assert "Nothing was ticked" in refused.text
    assert 'value="the network is back"' in refused.text


@pytest.mark.usefixtures("mixed")
def test_a_form_without_its_reason_comes_back_with_what_was_ticked(anna: Browser) -> None:
    chosen = {"reason": "FailedOperation.PhoneBindUpper", "job": ["b1-4", "b1-5"]}

    refused = anna.post("/dead/decide", verb="drop", **chosen)

    assert refused.status_code == 422
    ticked = re.findall(r'value="(b1-\d)" checked', refused.text)
    shown = re.findall(r'name="job" value="(b1-\d)"', refused.text)
    assert set(ticked) == {"b1-4", "b1-5"} & set(shown) != set()
    field = refused.text.index('id="why"')
    assert refused.text.index("Write a reason first") in range(field - 300, field)
    assert refused.text.index('name="job"') < field


@pytest.mark.usefixtures("mixed")
def test_a_viewer_sees_and_decides_nothing(
    web: WebServer, redis: Redis, settings: Settings, dead: DeadLetters
) -> None:
    viewer = Browser.of(web, redis, settings, "viewer")

    page, story = viewer.get("/dead"), viewer.get("/jobs/b1-4")

    assert ticks(page) == []
    assert 'name="verb"' not in page.text + story.text
    assert viewer.post("/dead/decide", verb="requeue", job="b1-1").status_code == 403
    assert dead.count() == 7


@pytest.mark.usefixtures("mixed")
def test_a_job_s_page_tells_its_story_for_a_ticket(anna: Browser) -> None:
    page = anna.get("/jobs/b1-4")

    assert "The code could not be sent. This number already has the most" in page.text
    assert "line 5 of its file" in page.text
    ticket = unescape(page.text.partition("<textarea")[2])
    for line in ("Job: b1-4", "Number: +852 ******04", f"Code: {BIND_UPPER}", "RequestId: req-3"):
        assert line in ticket
    assert number(4).phone_num not in page.text
    assert "Unchanged it would only be refused again." in page.text
    live = anna.live("/jobs/b1-4")
    assert live.status_code == 286  # nothing of it changes by itself
    assert "The code could not be sent" in live.text
    assert "<textarea" not in live.text


def test_the_page_of_a_test_job_says_that_nothing_was_sent(anna: Browser, ledger: Ledger) -> None:
    job = SendCodeJob.for_event(number(4), "signup-1", is_test=True)
    job_id = ledger.submit(job).record.job_id

    page = anna.get(f"/jobs/{job_id}")

    assert "This was a test, and nothing was sent." in page.text
    assert number(4).phone_num not in page.text


def test_a_number_is_corrected_from_the_job_s_page(anna: Browser, ledger: Ledger) -> None:
    record = end_event(ledger, ending=PERMANENT)
    path = f"/jobs/{record.job_id}"

    wrong = anna.post(path + "/correct", country_code="852", number="51-A")
    assert wrong.status_code == 422
    assert "the phone number holds something other than digits" in wrong.text
    assert 'name="number" value="51-A"' in wrong.text
    assert "The number now is +852 ******01." in wrong.text
    looked = anna.post(path + "/correct", country_code="852", number="5100 0077")
    looked = decided(anna, looked)
    assert "A code would be sent to the corrected number." in looked.text
    assert "The old number is +852 ******01. The new number is +852 5100 0077." in looked.text
    assert "Doubtful" not in looked.text
    assert "51000077" not in looked.text
    done = confirm(anna, looked)

    assert f'href="/jobs/{record.job_id}.r1"' in done.text
    new = ledger.job(f"{record.job_id}.r1")
    assert new is not None
    assert new.phone == number(77)
    assert f"/jobs/{record.job_id}.r1" in anna.get(path).text
    # the form again
    again = decided(anna, anna.post(path + "/correct", country_code="852", number="5100 0077"))
    assert "No code would be sent." in again.text


def test_a_doubtful_correction_is_doubted_and_shown_in_full_to_who_typed_it_alone(
    anna: Browser, web: WebServer, redis: Redis, settings: Settings, ledger: Ledger
) -> None:
    record = end_event(ledger, ending=PERMANENT)
    form = {"country_code": "852", "number": "5130 89"}

    looked = decided(anna, anna.post(f"/jobs/{record.job_id}/correct", **form))
    ben = Browser.of(web, redis, settings, "operator", "ben")
    seen_by_ben = ben.get(looked.url.removeprefix(anna._url)).text

    assert "The new number is +852 51 3089." in looked.text
    assert "The new number is +852 ******89." in seen_by_ben
    assert "51 3089" not in seen_by_ben
    for page in (looked.text, seen_by_ben):
        assert re.search(r"Doubtful: [^<]*6 digits", page)


def test_a_corrected_customer_s_page_begins_with_what_became_of_it_in_the_end(
    anna: Browser, ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    run_batch(ledger, batches, "b1", customers(1), lambda _: PERMANENT)
    letter = dead.find("b1-1")
    assert letter is not None
    dead.replace(Decision("replace", "a test's", "typed wrong"), letter, number(77))

    under_way = anna.get("/jobs/b1-1")
    assert anna.live("/jobs/b1-1").status_code == 200  # it is followed still
    ledger.sweep()
    end(ledger, "b1-1.r1", SENT)
    old, new = anna.get("/jobs/b1-1"), anna.get("/jobs/b1-1.r1")
    found = anna.post("/search", text="customer 1")

    assert lead_of(under_way) == "It is on its way: it waits for its turn."
    in_the_end = "The code was sent. It went to the corrected number +852 ******77."
    assert lead_of(old) == lead_of(new) == in_the_end
    assert in_the_end in found.text
    assert "The number was +852 ******01 and was corrected." in old.text
    assert "tried: This number already has the most accounts allowed" in old.text
    assert "a person corrected the number: typed wrong" in old.text
    assert old.text.index("Customer 1") < old.text.index("Technical details")
    assert "req-3" in old.text.partition("Technical details")[2]
    assert "req-3" not in old.text.partition("Technical details")[0]


def lead_of(page: requests.Response) -> str:
    found = re.search(r'<p class="lead">(.*?)</p>', page.text)
    return unescape(found[1]) if found else ""


def test_what_an_id_names_instead_of_a_job_is_shown(anna: Browser, batches: Batches) -> None:
    rejected = BatchRow(2, ["Mr. Wrong", "999", "99000000"], None, "unknown_country_code", "none")
    batches.open("b1", "digest", ["name", "country_code", "phone_num"])
    batches.append("b1", 0, [rejected, *customers(1)], last=True)

    row, waiting, nothing = (anna.get(f"/jobs/{each}") for each in ("b1-1", "b1-2", "b1-9"))

    assert "It was left out before sending" in row.text
    assert "Mr. Wrong" in row.text
    assert "99000000" not in row.text
    assert "It waits for its turn." in waiting.text
    assert nothing.status_code == 404


@pytest.mark.usefixtures("mixed")
def test_a_customer_is_found_by_number_which_is_shown_nowhere(anna: Browser) -> None:
    page = anna.post("/search", text="+852 5100 0004")

    assert page.url.endswith("/search")
    assert "1 found" in page.text
    assert 'href="/jobs/b1-4"' in page.text
    assert "Customer 4" in page.text
    assert "That is all there is." in page.text
    assert "5100 0004" not in page.text
    assert "51000004" not in page.text


@pytest.mark.usefixtures("mixed")
def test_a_customer_is_found_by_name_in_a_batch_and_by_a_request_id(anna: Browser) -> None:
    by_name = anna.post("/search", text="customer 4", batch="b1")
    by_request = anna.post("/search", text="req-3")

    assert re.findall(r'href="/jobs/([^"]+)"', by_name.text) == ["b1-4"]
    assert set(re.findall(r'href="/jobs/([^"]+)"', by_request.text)) == {"b1-4", "b1-5"}
    assert "Nothing was found" in anna.post("/search", text="nobody at all").text
    assert "Nothing was found" in anna.post("/search", text="").text


@pytest.mark.usefixtures("mixed")
def test_a_customer_is_found_by_name_in_whatever_batch(anna: Browser) -> None:
    page = anna.post("/search", text="customer 50")

    assert re.findall(r'href="/jobs/([^"]+)"', page.text) == ["b2-1"]
    assert "That is all there is." in page.text


def test_a_customer_is_called_by_name_and_the_cell_that_was_found_is_shown(
    anna: Browser, batches: Batches
) -> None:
    rows = [
        BatchRow(2, ["27", "Lotus Traders", number(1).phone_num, "Pier 4, 莲花"], number(1)),
        BatchRow(3, ["28", "Maple Foods", number(2).phone_num, "Pier 5"], number(2)),
    ]
    batches.open("b1", "digest b1", ["No.", "Partner name", "phone_num", "Address"])
    batches.append("b1", 0, rows, last=True)

    page = anna.post("/search", text="莲花")

    assert ">Lotus Traders</a>" in page.text
    assert "Address: Pier 4, 莲花" in page.text
    assert "Maple" not in page.text
    assert "<h1>Lotus Traders</h1>" in anna.get("/jobs/b1-1").text
    assert "Partner name: " not in anna.post("/search", text="lotus").text


def test_a_search_for_a_name_offers_to_go_on(anna: Browser, batches: Batches) -> None:
    for batch_id, first in (("b1", 1), ("b2", 31)):
        batches.open(batch_id, f"digest {batch_id}", ["name", "country_code", "phone_num"])
        batches.append(batch_id, 0, customers(30, first), last=True)

    page = anna.post("/search", text="customer")
    hidden = dict(re.findall(r'name="(since|first|sought)" value="([^"]*)"', page.text))
    rest = anna.post("/search", **hidden)

    found = [re.findall(r'href="/jobs/([^"]+)"', each.text) for each in (page, rest)]
    assert "There is more that has not been searched yet." in page.text
    assert [len(each) for each in found] == [50, 10]
    assert len({*found[0], *found[1]}) == 60
    assert "All customers of all batches were looked through." in rest.text


def test_a_search_for_a_number_goes_on_with_what_was_typed_which_no_page_holds(
    anna: Browser, batches: Batches, web: WebServer, redis: Redis, settings: Settings
) -> None:
    one = number(1)
    cells = [[f"Customer {n}", one.country_code, one.phone_num] for n in range(1, 62)]
    batches.open("b1", "digest b1", HEADER)
    rows = [BatchRow(n, each, one) for n, each in enumerate(cells, 2)]
    batches.append("b1", 0, rows, last=True)
    bob = Browser.of(web, redis, settings, "viewer", "bob")

    page = anna.post("/search", text=one.phone_num, batch="b1")
    hidden = dict(re.findall(r'name="(batch|since|first|sought)" value="([^"]*)"', page.text))
    rest = anna.post("/search", **hidden)
    of_batch = anna.post("/batches/b1", text=one.phone_num)
    sought = re.findall(r'name="(sought|after|only)" value="([^"]*)"', of_batch.text)
    rest_of_batch = anna.post("/batches/b1", **dict(sought))
    of_another_session = bob.post("/search", **hidden)

    assert [page.text.count('href="/jobs/b1-'), rest.text.count('href="/jobs/b1-')] == [50, 11]
    assert 'href="/jobs/b1-61"' in rest_of_batch.text
    assert 'href="/jobs/b1-1"' not in rest_of_batch.text
    assert "Nothing was found" in of_another_session.text
    for each in (page, rest, of_batch, rest_of_batch):
        assert one.phone_num not in each.text + each.url


def test_a_batch_s_search_of_another_session_shows_no_rows_but_is_to_be_typed_again(
    anna: Browser, batches: Batches, web: WebServer, redis: Redis, settings: Settings
) -> None:
    batches.open("b1", "digest b1", HEADER)
    batches.append("b1", 0, customers(120), last=True)
    bob = Browser.of(web, redis, settings, "viewer", "bob")
    page = anna.post("/batches/b1", text="customer", only="waiting")
    hidden = dict(re.findall(r'name="(sought|after|only)" value="([^"]*)"', page.text))

    of_another_session = bob.post("/batches/b1", **hidden)

    assert hidden["after"] == "50"
    assert "The search is no longer kept: type it again." in of_another_session.text
    assert 'aria-current="true">All<' in of_another_session.text
    assert 'href="/jobs/b1-51"' not in of_another_session.text


def test_html_of_a_file_or_a_reference_is_only_text(
    anna: Browser, ledger: Ledger, batches: Batches
) -> None:
    row = BatchRow(2, [EVIL, "852", number(1).phone_num], number(1))
    run_batch(ledger, batches, "b1", [row])
    job = SendCodeJob.for_event(number(2), key=EVIL, reference=EVIL)
    ledger.submit(job)
    end(ledger, job.job_id, DEAD)
    looked = anna.post("/dead/decide", verb="drop", job="b1-1", why=EVIL)

    pages = [anna.get("/dead"), anna.get("/jobs/b1-1"), anna.get(f"/jobs/{job.job_id}")]
    pages += [decided(anna, looked), anna.post("/search", text=EVIL)]
    for page in pages:
        assert SHOWN_EVIL in page.text, page.url
        assert "<script>" not in page.text, page.url
    assert anna.get(f"/dead?batch={EVIL}&reason={EVIL}").status_code == 200


def test_the_pages_speak_chinese(
    web: WebServer, redis: Redis, settings: Settings, ledger: Ledger
) -> None:
    record = end_event(ledger, ending=PERMANENT)
    browser = Browser.of(web, redis, settings, "operator")
    browser.session.headers["Accept-Language"] = "zh-CN"

    assert "该号码绑定的账号数已达上限" in browser.get("/dead").text
    assert (
        "验证码未能发送。该号码绑定的账号数已达上限。" in browser.get(f"/jobs/{record.job_id}").text
    )
    assert "查找客户" in browser.get("/search").text
    looked = browser.post("/dead/decide", verb="requeue", job=record.job_id)
    assert "请更正号码" in decided(browser, looked).text


def test_three_thousand_failures_are_a_small_page_quickly(
    anna: Browser, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    count = 3_000
    pipe = redis.pipeline(transaction=False)
    now_ms = round(time.time() * 1000)
    for n in range(count):
        values: dict[Any, Any] = {"state": "dead", "lane": "event", "cc": "852"}
        num = ledger.records.seal(number(n), f"ev-{n}", "event", "")
        values |= {"num": num, "finished": now_ms - n}
        values |= {"code": f"Code.{n % 10}", "reference": "x" * 200}
        pipe.hset(keys.job(f"ev-{n}"), mapping=values)
    pipe.rpush(keys.dead, *(f"ev-{n}" for n in range(count)))
    pipe.execute()

    page = anna.get("/dead?country=852")
    deep = anna.get("/dead?reason=Code.1&page=5")

    assert "3,000 customers, the latest first" in page.text
    assert len(ticks(page)) == len(ticks(deep)) == 50
    assert len(page.content) < 150_000
    calls = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    anna.get("/dead")
    # the work is bounded: two short scripts, and the records of one page
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] - calls <= 9


def test_a_form_s_csrf_token_is_needed(anna: Browser) -> None:
    assert csrf_of(anna.get("/dead"))
    answer = anna._send("POST", "/search", "wrong", text="b1-1")
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/dead/decide", {"verb": "drop", "job": "b1-4", "why": "y" * 301}),
        ("/jobs/b1-4/correct", {"country_code": "852", "number": "51000077", "why": "y" * 301}),
        ("/settings/sending/halt", {"reason": "y" * 301}),
    ],
)
@pytest.mark.usefixtures("mixed")
def test_a_reason_that_is_too_long_is_refused_in_words(
    path: str, form: dict[str, str], anna: Browser, redis: Redis, keys: Keys
) -> None:
    page = anna.post(path, **form)

    assert page.status_code == 422
    assert "The reason is too long." in page.text
    assert not list(redis.scan_iter(keys.decision("*")))


def test_what_is_copied_into_a_ticket_is_plain_text(anna: Browser, ledger: Ledger) -> None:
    record = end_event(ledger, ending=Ending(State.SENT_INFERRED, "", "", "req-5", "closed"))

    page = anna.get(f"/jobs/{record.job_id}")

    ticket = unescape(page.text.partition("<textarea")[2].partition("</textarea")[0])
    assert "the service's refusal" in ticket


def test_what_only_operations_can_mend_is_told_so_with_the_detail_in_small(
    anna: Browser, ledger: Ledger, batches: Batches
) -> None:
    endings = {
        1: Ending(State.DEAD, "MissingParameter", "lacks", "req-8"),
        2: Ending(State.DEAD, "Network.Dns", "", ""),
        3: Ending(
            State.SENT_INFERRED, "FailedOperation.SendVerifyCodeLimit60", "", "req-9", "closed"
        ),
    }
    run_batch(ledger, batches, "b8", customers(3), endings.__getitem__)

    pages = [anna.get(path) for path in ("/jobs/b8-1", "/dead?batch=b8", "/batches/b8")]

    for page in pages:
        told = "Tell whoever runs sendcode: the customer can do nothing about it"
        assert told in text_of(page)
        assert '<span class="small">Report it to the developers' in page.text
    assert "Whoever runs sendcode has to fix the cause first." in pages[0].text
    assert "Correct the number instead" not in pages[0].text
    assert '<span class="small">Check network, firewall and SENDCODE_ENDPOINT' in pages[1].text
    assert "within the last 60 seconds" not in text_of(pages[-1])
    assert "Customer 3" in text_of(pages[-1])
