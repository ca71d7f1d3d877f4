"""A producer as a process of its own: `python -m tests.ha.producer TRIAL FIRST ROWS FILE`.

Sends five events a second for half a minute, each asked for with its key until it is accepted, and
appends `ROWS` rows to the batch `TRIAL` meanwhile, starting anew where the ledger has forgotten
some. Writes to FILE, one JSON document a line, which events were accepted, and when they were asked
for and accepted (seconds of the machine's monotonic clock, which all hosts share).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import redis

from config.redis import connect
from config.settings import Settings, load_settings
from jobs.batch import BatchRow
from jobs.batches import Batches, BatchGoneError
from jobs.identity import LedgerRefusedError
from jobs.job import JobRecord
from jobs.phone import PhoneNumber
from producer import RedisUnavailableError, send_code

EVENTS_S = 30.0
EVENTS_PER_S = 5
CHUNK = 64
ASK_AGAIN_S = 1.0
"""A hundred threads that asked more often would keep the hosts' own processes from the CPU."""
GIVE_UP_S = 90.0

T = TypeVar("T")


def number(index: int) -> PhoneNumber:
    return PhoneNumber("852", f"9{index:07d}")


def main(trial: str, first: int, rows: int, file: Path) -> None:
    settings = load_settings(env_file=None)
    work = [threading.Thread(target=append, args=(settings, trial, first, rows))]
    work[0].start()
    with file.open("w", buffering=1) as accepted:

        def ask(index: int) -> None:
            phone, asked_s = number(index), time.monotonic()

            def once() -> JobRecord:
                return send_code(
                    phone.country_code, phone.phone_num, key=f"{trial}-{index}", settings=settings
                )

            if (job := until_done(once)) is not None:
                line = {"job_id": job.job_id, "index": index, "asked_s": asked_s}
                line["accepted_s"] = time.monotonic()
                accepted.write(json.dumps(line) + "\n")

        for index in range(first + rows, first + rows + round(EVENTS_S * EVENTS_PER_S)):
            work.append(threading.Thread(target=ask, args=(index,)))
            work[-1].start()
            time.sleep(1 / EVENTS_PER_S)
        for each in work:
            each.join()


def append(settings: Settings, batch_id: str, first: int, rows: int) -> None:
    """Append rows to a batch, from the first one on again where some are forgotten."""
    all_rows = [BatchRow(n, ["x"], number(first + n)) for n in range(rows)]
    with connect(settings) as client:
        batches = Batches(client, settings)
        done = 0
        while done < rows:
            chunk, is_last = all_rows[done : done + CHUNK], done + CHUNK >= rows

            def once(
                at: int = done, chunk: list[BatchRow] = chunk, is_last: bool = is_last
            ) -> bool:
                try:
                    if not at:
                        batches.open(batch_id, batch_id, ["phone"])
                    batches.append(batch_id, at, chunk, last=is_last)
                except BatchGoneError:
                    return False
                return True

            done = done + CHUNK if until_done(once) else 0


def until_done(act: Callable[[], T]) -> T | None:
    """Try until Redis takes it, and return what it returned; None if it never does."""
    give_up_at = time.monotonic() + GIVE_UP_S
    while time.monotonic() < give_up_at:
        with suppress(RedisUnavailableError, redis.RedisError, LedgerRefusedError):
            return act()
        time.sleep(ASK_AGAIN_S)
    return None


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
