"""`python -P -m worker …` is `celery -A worker …`, whatever modules lie in the current folder."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run Celery's command line with our app."""
    # What is loaded stays: collecting garbage in it would take a fifth of the start-up time.
    gc.disable()
    from celery.__main__ import main as celery_main  # noqa: PLC0415
    from celery.bin import celery  # noqa: F401, PLC0415 (what that loads when it runs)

    import worker.app  # noqa: F401, PLC0415 (Celery puts the current folder on the path: ours first)

    gc.freeze()
    gc.enable()
    sys.argv[1:1] = ["-A", "worker"]
    celery_main()


if __name__ == "__main__":
    main()
