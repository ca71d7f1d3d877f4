"""The home page: is it sending, how late is it, when is it done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from html import unescape

import pytest
from redis import Redis

from config.settings import Settings
from jobs.account import Account
from jobs.job import State
from jobs.keys import Keys
from jobs.ledger import Ending, Ledger
from jobs.scripts import time_ms
from producer.sending import MINUTES, read_sent
from producer.web.console.texts import Texts
from tests.console import Browser
from tests.ended_jobs import PERMANENT, SENT, UNKNOWN, end_event
from tests.ledger_acts import Acts
from tests.web_server import WebServer

HTML = "<b>&bold</b>"
SHOWN = "&lt;b&gt;&amp;bold&lt;/b&gt;"
CODELESS = Ending(State.DEAD, "", "", "")
INFERRED = Ending(State.SENT_INFERRED, "", "", "", "closed")
HOUR_MS, MINUTE_MS = 3_600_000, 60_000


@pytest.fixture
def browser(settings: Settings, redis: Redis) -> Iterator[Browser]:
    with WebServer(settings) as web:
        yield Browser.of(web, redis, settings, "operator")


@pytest.fixture
def worker(redis: Redis, keys: Keys) -> None:
    """The sign of life of one, a good while ahead."""
    redis.hset(keys.workers, "w1/1.abc", time_ms(redis.time()) + HOUR_MS)


def title_of(text: str) -> str:
    found = re.search(r"<title>(.*?) · sendcode</title>", text)
    return found[1] if found else ""


def figures_of(text: str) -> list[str]:
    return re.findall(r"<dd>([\d,]+)", text)


def test_without_a_worker_it_says_that_nothing_is_lost_and_what_to_do(
    browser: Browser, acts: Acts
) -> None:
    acts.batch(3)

    page = browser.get("/").text

    assert title_of(page) == "Nothing runs, 3 waiting"
    assert "no worker is running" in page
    assert "Nothing is lost meanwhile" in page


@pytest.mark.usefixtures("worker")
def test_it_says_how_many_codes_are_to_go_and_when_all_is_done(
    browser: Browser, acts: Acts
) -> None:
    idle = browser.get("/").text
    acts.batch(30, name=HTML)
    acts.event(100)
    sending = browser.get("/").text

    assert title_of(idle) == "Nothing to send"
    assert title_of(sending) == "Sending, 31 to go"
    assert "All done at about" in sending
    assert figures_of(sending) == ["0", "31", "0"]
    assert 'max="30" value="0"' in sending
    assert HTML not in sending
    assert SHOWN in sending


def test_batches_that_are_over_are_not_read_for_it(
    browser: Browser, acts: Acts, redis: Redis
) -> None:
    for n in range(100):
        acts.batches.open(f"old{n}", f"digest {n}", ["name"])
        acts.batches.steer(f"old{n}", "cancel")
    acts.batch(3, name="August")
    (job_id, *_) = acts.sweep()
    acts.batch(3, "b2", first=50, name="September")
    acts.begun(job_id)
    acts.batches.steer("b1", "cancel")  # a job of it is in work still
    browser.get("/")
    before = redis.info("commandstats")["cmdstat_hgetall"]["calls"]

    page = browser.get("/").text

    # the check that all fits together reads the counts of each, and nothing else does
    assert redis.info("commandstats")["cmdstat_hgetall"]["calls"] - before < 100 + 50
    assert page.index("September") < page.index("August")


@pytest.mark.usefixtures("worker")
def test_a_halt_by_a_person_has_since_whom_and_why_and_the_way_on(
    browser: Browser, acts: Acts, account: Account
) -> None:
    acts.batch(2)
    account.halt("person", "Halted", HTML)

    page = browser.get("/").text

    assert title_of(page) == "Stopped, 2 waiting"
    assert re.search(r"Since <time[^>]*>[\d: -]+</time>, by \S+@", page)
    assert f"Reason: {SHOWN}" in page
    assert "What to do: let sending go on" in page
    assert '<span class="small">stopped</span>' in page
    assert "Let sending go on" in page
    assert HTML not in page


@pytest.mark.usefixtures("worker")
def test_a_halt_by_what_the_service_answers_says_what_to_do(
    browser: Browser, account: Account
) -> None:
    account.halt("api", "AuthFailure.SignatureFailure", HTML)

    english = browser.get("/").text
    chinese = browser.get("/", headers={"Accept-Language": "zh-CN"}).text

    assert "The secret key does not fit the secret id" in english
    assert "restart the workers" in english
    assert Texts("zh").meaning("AuthFailure.SignatureFailure") in chinese
    assert HTML not in english


@pytest.mark.usefixtures("worker")
def test_paused_batches_alone_are_no_sending(browser: Browser, acts: Acts) -> None:
    acts.batch(2)
    acts.batches.steer("b1", "pause")

    page = browser.get("/").text

    assert title_of(page) == "Paused, 2 waiting"


def test_failures_that_want_somebody_are_counted_by_reason(
    browser: Browser, ledger: Ledger
) -> None:
    for n in range(3):
        end_event(ledger, n, PERMANENT)
    end_event(ledger, 3, UNKNOWN)
    end_event(ledger, 4, CODELESS)

    page = browser.get("/").text
    links = re.findall(r'class="count">(\d+)</span> <a id="failed-\d" href="([^"]+)"', page)
    listed = [len(re.findall(r'name="job"', browser.get(unescape(url)).text)) for _, url in links]

    assert "This number already has the most accounts allowed" in page
    assert "Look at all 5" in page
    assert [int(count) for count, _ in links] == [3, 1, 1]
    assert listed == [3, 1, 1]


def test_the_failures_that_are_listed_and_the_others_make_up_the_sum(
    browser: Browser, ledger: Ledger
) -> None:
    codes = [f"FailedOperation.Reason{n}" for n in range(7)]
    for n, code in enumerate(codes):
        end_event(ledger, n, Ending(State.DEAD, code, "", ""))

    page = browser.get("/").text

    listed = [int(n) for n in re.findall(r'<li><span class="count">(\d+)</span>', page)]
    assert "for other reasons" in page
    assert sum(listed) == 7


@pytest.mark.usefixtures("worker")
def test_a_batch_of_later_says_when_it_starts_and_the_page_says_in_which_zone(
    browser: Browser, acts: Acts, redis: Redis
) -> None:
    starts_ms = time_ms(redis.time()) + 20 * 60_000
    acts.batch(2, starts_ms=starts_ms)
    at = datetime.fromtimestamp(starts_ms / 1000).astimezone()

    page = browser.get("/").text

    assert re.search(rf"starts at <time [^>]*>(\d{{4}}-\d\d-\d\d )?{at:%H:%M}</time>", page)
    zone = str(timezone(at.utcoffset() or timedelta()))
    assert f"Times are those of the server, {zone}." in page
    assert "0 of 2 done, 0 of them sent" in page


def test_codes_are_counted_by_the_minute_they_were_sent_in(
    browser: Browser, ledger: Ledger, redis: Redis, settings: Settings, keys: Keys
) -> None:
    for n, ending in enumerate((SENT, SENT, INFERRED)):
        end_event(ledger, n, ending)
    end_event(ledger, 3, PERMANENT)
    now_ms = time_ms(redis.time())

    sent = read_sent(redis, settings, now_ms)
    kept_s = [redis.ttl(key) for key in redis.scan_iter(keys.sent("*"))]
    hour = now_ms // HOUR_MS
    redis.hincrby(keys.sent(str(hour - 30)), "0", 7)  # of another day
    redis.expire(keys.sent(str(hour - 30)), 60)
    page = browser.get("/").text

    assert len(sent.minutes) == MINUTES
    assert sum(sent.minutes) == 3
    assert min(kept_s) > 24 * 3_600
    assert "3 in all" in page
    assert page.count("<rect ") == sum(1 for count in sent.minutes if count)


def test_a_minute_of_an_hour_ago_is_in_the_plot_no_more(
    redis: Redis, settings: Settings, keys: Keys
) -> None:
    now_ms = 500_000 * HOUR_MS + 30 * MINUTE_MS
    for minutes_ago, count in ((0, 1), (59, 2), (60, 4)):
        minute = now_ms // MINUTE_MS - minutes_ago
        redis.hincrby(keys.sent(str(minute // 60)), str(minute % 60), count)
        redis.expire(keys.sent(str(minute // 60)), 60)

    sent = read_sent(redis, settings, now_ms)

    assert (sent.minutes[-1], sent.minutes[0], sum(sent.minutes)) == (1, 2, 3)


def test_htmx_gets_the_title_and_the_part_that_lives(browser: Browser, acts: Acts) -> None:
    acts.batch(3)

    part = browser.live("/").text

    assert title_of(part) == "Nothing runs, 3 waiting"
    assert "<html" not in part
    assert "no worker is running" in part
