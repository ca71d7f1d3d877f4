"""`python -m benchmarks NAME`: one measurement, one table. Nothing but loopback is used.

rate        how much of 20/s is used, and is it ever passed; beside five other limiters
events      how long an event waits while a batch saturates the limit; beside one queue
triggers    how many codes one HTTP API accepts; beside FastAPI with a plain apply_async
overhead    what a job costs; beside bare Celery, dramatiq, rq, huey, taskiq
submit      what importing rows costs; beside a loop of apply_async
recover     from a worker's SIGKILL to its job's next attempt; beside Celery's own recovery
scale       1 to 8 workers at 20, 100 and 400/s
durability  what it costs at 20/s that each write is on disk before it counts
replicas    what it costs that a replica must have an event before it counts
console     how quickly pages answer with a million rows, and what an upload takes
memory      what Redis keeps of an ended job
soak        what grows in a worker that sends for long while its connections are reset
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import sys
from collections.abc import Sequence

from benchmarks.report import Report
from demo.keeper import Interrupted, Interrupts
from demo.world import WorldError

NAMES = (
    "rate",
    "events",
    "triggers",
    "overhead",
    "submit",
    "recover",
    "scale",
    "durability",
    "memory",
    "soak",
    "replicas",
    "console",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line, or `arguments`, ask for."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    # an installed program has its bytecode; without, each start compiles all of our modules
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print one JSON document")
    output.add_argument("--save", action="store_true", help="put the result into docs/, too")
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    # the one that is asked for; all of them for the help
    for name in [name for name in NAMES if name in given[:1]] or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        about = (module.__doc__ or "").splitlines()[0]
        module.add_options(names.add_parser(name, help=about, description=about, parents=[output]))
    options = parser.parse_args(given)
    module = importlib.import_module(f"benchmarks.{options.name}")
    try:
        with Interrupts().raised():  # whatever was started ends with us, by SIGTERM too
            command = shlex.join(["python", "-m", "benchmarks", *given])
            report: Report = module.measure(options, command)
    except WorldError as exc:
        sys.stderr.write(f"benchmarks: {exc}\n")
        return 1
    except Interrupted as exc:
        sys.stderr.write("benchmarks: interrupted; nothing was left running\n")
        return 128 + exc.number
    sys.stdout.write(
        json.dumps(report.as_dict(), indent=1) + "\n" if options.json else report.text()
    )
    if options.save:
        report.save()
    return 0


if __name__ == "__main__":
    sys.exit(main())
