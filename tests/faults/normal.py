"""How long recovery takes at normal settings: nothing sped up, few kills, a real minute."""

from __future__ import annotations

import time
from dataclasses import dataclass

from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from tests.faults import doomed
from tests.faults.recovery import Recoveries
from tests.faults.workers import crew
from tests.faults.world import NORMAL, World

WORKERS = 3
JOBS_PER_S = 10
KILL_EVERY_S = 7.0
"""Not a divisor of the lease: a job that recovers is not killed again at that very moment."""
PROMISED_S = 20.0


@dataclass(frozen=True, slots=True)
class NormalRecovery:
    """What was measured; `kept` says whether every job was back within `PROMISED_S`."""

    kills: int
    recovered: int
    longest_s: float
    open: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return not self.open and 0 < self.longest_s <= PROMISED_S


def measure() -> NormalRecovery:
    """Kill a worker at each point of a job's life, one every few seconds."""
    with World(NORMAL) as world:
        recoveries = Recoveries()
        names = {f"n{number}": world.settings for number in range(1, WORKERS + 1)}
        with crew(names, world.folder, recoveries.listen) as workers:
            workers.wait_ready()
            count = round(JOBS_PER_S * KILL_EVERY_S * (len(doomed.POINTS) + 1) + 100)
            phones = [PhoneNumber("852", f"5{row:07d}") for row in range(count)]
            rows = [BatchRow(row + 2, ["852"], phone) for row, phone in enumerate(phones)]
            batches = Batches(world.redis, world.settings)
            batches.open("normal", "digest", ["country_code"], max_rate=JOBS_PER_S)
            batches.append("normal", 0, rows, last=True)
            for number, point in enumerate(doomed.POINTS):
                time.sleep(KILL_EVERY_S)
                workers.workers[f"n{number % WORKERS + 1}"].arm(point)
            give_up_at = time.monotonic() + 2 * PROMISED_S
            while time.monotonic() < give_up_at and (
                workers.deaths.total() < len(doomed.POINTS) or recoveries.open
            ):
                time.sleep(0.2)
            recoveries.settle_by(Ledger(world.redis, world.settings))
            return NormalRecovery(
                workers.deaths[-9],
                recoveries.recovered,
                recoveries.longest_s,
                tuple(recoveries.open),
            )
