"""`make leaks`: canaries go through every ending and fault, and then are looked for everywhere.

Prints a line for each place. The exit code is 1 if one was found, or if one that was planted was
not.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.leaks.needles import canaries
from tests.leaks.places import PLACES, planted, search
from tests.leaks.scene import Scene
from tests.leaks.story import kinds, tell

WORKERS = 4


@dataclass
class Report:
    """What was found by place; `unfound`: where a planted one was not."""

    found: dict[str, Counter[str]] = field(default_factory=dict)
    unfound: list[str] = field(default_factory=list)
    seconds: float = 0.0


def look_for(
    count: int,
    kills: int,
    *,
    workers: int = WORKERS,
    has_flower: bool = True,
    forked: bool = False,
) -> Report:
    """Send so many canaries through the story, then search all places, plant, and search again.

    `forked`: all programs but the one that reads a file start from the tests' template.
    """
    report, began = Report(), time.monotonic()
    # of this run alone: the process list shows what others plant meanwhile
    flock = canaries(kinds(count + 2), f"{secrets.randbelow(100_000):05d}")
    places = [each for each in PLACES if has_flower or each.name != "Flower"]
    with Scene(flock, workers, has_flower=has_flower, forked=forked) as scene:
        tell(scene, flock[:-2], kills)
        for place in places:
            report.found[place.name] = search(scene, place)
        for number, place in enumerate(places):
            place.plant(scene, planted(number, scene.planted.phone.phone_num))
            if sum(search(scene, place).values()) <= sum(report.found[place.name].values()):
                report.unfound.append(place.name)
    report.seconds = time.monotonic() - began
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.leaks", description=__doc__)
    parser.add_argument("--canaries", type=int, default=500)
    parser.add_argument("--kills", type=int, default=20, help="of workers; all other faults, too")
    options = parser.parse_args()
    report = look_for(options.canaries, options.kills)
    for name, found in report.found.items():
        print(f"{name:28} {sum(found.values()):6} found")
        for what, times in found.most_common(8):
            print(f"    {times:6} {what}")
    for name in report.unfound:
        print(f"NOT FOUND where it was planted: {name}")
    total = sum(sum(found.values()) for found in report.found.values())
    print(f"{options.canaries} canaries in {report.seconds:.0f} s: {total} found")
    return int(bool(total or report.unfound))


if __name__ == "__main__":
    sys.exit(main())
