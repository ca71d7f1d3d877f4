"""Log records: one line each, the message constant, the data in fields."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from celery.worker.consumer.consumer import CANCEL_TASKS_BY_DEFAULT

from config.logging import fields, set_up_logging

log = logging.getLogger("sendcode.test")


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: capsys.readouterr().err
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_text_line_has_time_level_logger_message_and_fields(stderr: Callable[[], str]) -> None:
    set_up_logging("text")

    log.info("job finished", extra=fields(job_id="b1-1", state="sent", attempts=2))

    when, rest = stderr().split(" ", 1)
    assert when.endswith("+00:00")
    assert rest == "INFO    sendcode.test: job finished job_id=b1-1 state=sent attempts=2\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [("a b", 'note="a b"'), ("", 'note=""'), (None, "note=None"), ("a\nb", "note=a\\nb")],
)
def test_odd_values_stay_one_field_on_one_line(
    value: object, shown: str, stderr: Callable[[], str]
) -> None:
    set_up_logging("text")

    log.info("told", extra=fields(note=value))

    written = stderr()
    assert written.endswith(f"told {shown}\n")
    assert written.count("\n") == 1


def test_a_message_with_line_breaks_cannot_forge_a_record(stderr: Callable[[], str]) -> None:
    set_up_logging("text")

    log.warning("%s", "first\r\n2026-01-01 ERROR second")

    written = stderr()
    assert written.count("\n") == 1
    assert "first\\r\\n2026" in written


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("steering", ["\x1b[2J", "\x9b31m", "\u202e", "\u2066", "\x7f", "\u2028"])
def test_no_line_steers_a_terminal(
    form: Literal["text", "json"], steering: str, stderr: Callable[[], str]
) -> None:
    set_up_logging(form)
    try:
        int(f"why {steering}")
    except ValueError:
        log.exception("told %s", steering, extra=fields(note=f"a {steering}", odd=steering))

    written = stderr()
    assert steering[0] not in written
    assert f"\\u{ord(steering[0]):04x}" in written
    if form == "json":
        assert json.loads(written)["odd"] == steering


def test_a_json_line_is_one_document(stderr: Callable[[], str]) -> None:
    set_up_logging("json")

    log.error("dead \u00e9\n", extra=fields(job_id="b1-1", attempts=2, odd={1}))

    (line,) = stderr().splitlines()
    document = json.loads(line)
    assert document.pop("time")
    assert document == {
        "level": "ERROR",
        "logger": "sendcode.test",
        "message": "dead \u00e9\n",
        "job_id": "b1-1",
        "attempts": 2,
        "odd": "{1}",
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_shown_with_its_traceback(form: str, stderr: Callable[[], str]) -> None:
    set_up_logging("json" if form == "json" else "text")

    try:
        raise LookupError("nothing there")  # noqa: TRY301
    except LookupError:
        log.exception("failed")

    written = stderr()
    assert "LookupError: nothing there" in written
    assert "Traceback" in written


def test_libraries_that_show_what_they_were_given_are_quiet(stderr: Callable[[], str]) -> None:
    set_up_logging()

    logging.getLogger("celery.worker.strategy").info("Task send_code received")
    logging.getLogger("celery.app.trace").info("Task succeeded: {...}")

    assert stderr() == ""


def test_what_celery_warns_of_at_every_reconnect_is_left_out(stderr: Callable[[], str]) -> None:
    set_up_logging()
    warnings = logging.getLogger("py.warnings")

    warnings.warning("CPendingDeprecationWarning: %s", CANCEL_TASKS_BY_DEFAULT)
    warnings.warning("another")

    assert stderr().count("\n") == 1


def test_setting_up_twice_writes_once(stderr: Callable[[], str]) -> None:
    set_up_logging()
    set_up_logging()

    log.info("once")

    assert stderr().count("once") == 1
