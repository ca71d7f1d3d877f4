"""Progress as it is told where there is no terminal."""

from __future__ import annotations

import pytest

from producer.cli import display


@pytest.fixture(autouse=True)
def _each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "LINE_EVERY_S", 0)


def test_of_a_known_total_the_time_left_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with display.progress_of("submitting", 1_000) as done:
        done(0)
        done(500)

    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("submitting: 500 of 1,000 rows, ")
    assert last.endswith("left")


def test_where_only_the_share_is_known_the_time_left_is_told_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    share = 0.0
    with display.progress_of("reading", share=lambda: share) as done:
        done(0)
        share = 0.5
        done(500)

    first, last = capsys.readouterr().err.splitlines()
    assert "left" not in first
    assert last.startswith("reading: 500 rows, ")
    assert last.endswith("left")


def test_without_an_end_no_time_left_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with display.progress_of("reading") as done:
        done(0)
        done(500)

    assert "left" not in capsys.readouterr().err
