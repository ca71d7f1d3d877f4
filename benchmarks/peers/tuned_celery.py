"""The bare app with Celery's own recovery made as quick as a job's longest time allows."""

from __future__ import annotations

from benchmarks.peers.bare_celery import app

VISIBILITY_S = 60

app.conf.broker_transport_options = {
    "visibility_timeout": VISIBILITY_S,
    "unacked_restore_throttle": 1,  # look each 10 s, not each 100 s
}
