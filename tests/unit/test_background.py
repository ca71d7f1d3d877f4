"""How often a worker's threads do their rounds."""

from __future__ import annotations

import pytest

from worker.background import pause_s


@pytest.mark.parametrize(("took_s", "pause"), [(0.0, 1.0), (0.4, 0.6), (0.5, 0.5), (30.0, 0.5)])
def test_rounds_come_evenly_however_long_they_take_but_leave_a_pause(
    took_s: float, pause: float
) -> None:
    assert pause_s(1.0, took_s) == pytest.approx(pause)
