"""Publishes a peer's jobs, one call each: `python -m benchmarks.peers.publish MODULE JOBS`.

Writes one line of JSON: seconds, CPU seconds, largest memory in bytes.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time

from benchmarks.world import COUNTRY, number

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    module, jobs = sys.argv[1], int(sys.argv[2])
    publish = importlib.import_module(f"benchmarks.peers.{module}").publish
    publish(COUNTRY, number(0))  # connects
    started, cpu_s = time.monotonic(), time.process_time()
    for n in range(1, jobs):
        publish(COUNTRY, number(n))
    took = {
        "seconds": time.monotonic() - started,
        "cpu_s": time.process_time() - cpu_s,
        "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT,
    }
    sys.stdout.write(json.dumps(took) + "\n")


if __name__ == "__main__":
    main()
