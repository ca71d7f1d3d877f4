"""What only a worker can measure, for Prometheus: how long it waits, and for what.

The ledger's own figures are at `/metrics` of `sendcode web` (`producer/web/metrics.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, Histogram

_API_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SHORT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_LONG_S = (0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800)


class Meter:
    """The figures of one worker process. Thread-safe; an observation costs a few microseconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(
                f"sendcode_{name}_seconds", text, labels, registry=self.registry, buckets=buckets
            )

        self.api = histogram("api", "A call of the API, by what its answer means.", _API_S, "kind")
        # a batch's job is accepted when its row is fed
        self.acceptance_to_api = histogram(
            "acceptance_to_api", "From a job's acceptance to its first call.", _LONG_S, "lane"
        )
        self.limiter_wait = histogram(
            "limiter_wait", "From asking for a slot until it opens.", _LONG_S
        )
        self.claim = histogram("claim", "Taking a job from the ledger.", _SHORT_S)
        self.redis = histogram("redis", "The round trip of a sign of life.", _SHORT_S)

    def count_threads(self, used: Callable[[], int], most: int) -> None:
        """Show the threads that work on jobs, and how many there are."""
        for name, text, read in (
            ("threads_used", "Jobs in this worker's hands.", used),
            ("threads", "Threads of this worker.", lambda: most),
        ):
            Gauge(f"sendcode_{name}", text, registry=self.registry).set_function(read)

    def show_ready(self, is_ready: Callable[[], bool]) -> None:
        """Show whether the worker could send."""
        text = "1 if this worker could send at its last sign of life."
        Gauge("sendcode_worker_ready", text, registry=self.registry).set_function(is_ready)
