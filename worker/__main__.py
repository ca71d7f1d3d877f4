"""`python -P -m worker …` is `celery -A worker …`, whatever modules lie in the current folder."""

from __future__ import annotations

import sys

from celery.__main__ import main

import worker.app  # noqa: F401 (Celery puts the current folder on the path; ours is loaded by then)

if __name__ == "__main__":
    sys.argv[1:1] = ["-A", "worker"]
    main()
