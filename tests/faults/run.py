"""The random run: thousands of jobs, hundreds of faults, one reckoning."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

from jobs.batches import Batches
from jobs.ledger import Ledger
from tests.faults import doomed
from tests.faults.audit import Findings, leftovers, records
from tests.faults.injector import DETOUR, IMPORTER, Injector, plan
from tests.faults.recovery import Recoveries
from tests.faults.result import Result
from tests.faults.work import Work
from tests.faults.workers import crew
from tests.faults.world import World

WORKERS = 5
"""One of them reaches Redis and the API through the proxies, where networks fail."""
KILLS_PER_S = 1.6
"""Jobs are fed at the pace at which so many kills a second would keep up with them."""
LEAD = 0.05
"""How far the faults are ahead of the jobs."""
STUCK_S = 60.0
"""Without any job's end for so long, the rest counts as lost."""
API_FAULTS = {
    "hang-up-before": 0.01,
    "hang-up-after": 0.01,
    "silence-after": 0.005,
    "internal-error-after": 0.01,
    "InternalError": 0.01,
    "ServiceUnavailable": 0.01,
    "bad-gateway-after": 0.005,
}
"""What the API does to every number now and then, on top of everything else."""


def run(*, jobs: int, kills: int, seed: int, **changes: Any) -> Result:
    """Send `jobs` jobs while `kills` workers are killed, and everything else goes wrong too."""
    chance = random.Random(seed)
    options = [f"--fault={name}={share}" for name, share in API_FAULTS.items()]
    with World(sandbox_options=("--seed", str(seed), *options), **changes) as world:
        recoveries = Recoveries()
        names = {f"w{number}": world.settings for number in range(1, WORKERS)}
        names[DETOUR] = world.detour
        with crew(names, world.folder, recoveries.listen) as workers:
            workers.wait_ready()
            faults = plan(kills, doomed.POINTS, chance, plain=False)
            inject = Injector(world, workers, recoveries, faults, chance)
            work = Work(world, jobs, jobs / max(kills, 10) * KILLS_PER_S, chance)
            started = time.monotonic()
            drive(work, inject)
            seconds = time.monotonic() - started
            inject.stop()
            workers.wait_ready()
            workers.stop()
        result = reckon(world, work, recoveries)
        result.faults = inject.done
        result.faults[IMPORTER] = work.importers_killed
        result.deaths, result.stopped = workers.deaths, workers.stopped
        result.seconds = seconds
        return result


def drive(work: Work, inject: Injector) -> None:
    """Let work and faults go on, each pacing the other, until both are over."""
    last, last_at = 0, time.monotonic()
    with work:
        while time.monotonic() - last_at < STUCK_S:
            if work.ended != last or not inject.is_over:
                last, last_at = work.ended, time.monotonic()
            inject.turn(work.ended / work.total + LEAD)
            work.faults_done = inject.progress
            if work.is_submitted and inject.is_over and work.ended >= work.total:
                return
            time.sleep(0.02)


def reckon(world: World, work: Work, recoveries: Recoveries) -> Result:
    """Compare the ledger with the sandbox's counts."""
    ledger, batches = Ledger(world.redis, world.settings), Batches(world.redis, world.settings)
    findings = Findings()
    stats = world.sandbox.stats()
    found = records(work.asked, work.batch_ids, batches, ledger)
    findings.add(found, stats["accepted_per_number"])
    recoveries.settle_by(ledger, {*findings.unknown, *findings.possible_duplicate})
    return Result(
        Counter(),
        findings,
        recoveries,
        0.0,
        Counter(),
        leftovers=leftovers(ledger),
        above_limit=stats["over_limit"],
    )
