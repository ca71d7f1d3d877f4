"""Celery's own `rate_limit`, which counts for each worker: a quarter of the limit for each of 4."""

from __future__ import annotations

import os

from benchmarks.peers.bare_celery import app
from benchmarks.peers.call import call_api


@app.task(name="bare.send_slowly", rate_limit=os.environ.get("RATE_EACH", "5/s"))
def send_slowly(country_code: str, phone_num: str) -> str:
    return call_api(country_code, phone_num)


publish = send_slowly.delay
