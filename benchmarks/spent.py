"""Runs Python with the given arguments and says what that took, by the kernel's own account.

A process of its own that imports next to nothing: the peak memory that the kernel tells of a child
begins with that of the process which started it.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(arguments: list[str]) -> int:
    """Write {exit_code, seconds, cpu_s, peak_bytes} as the last line."""
    began = time.monotonic()
    child = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ)
    _, status, usage = os.wait4(child, 0)
    took = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    print("\n" + json.dumps(took))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
