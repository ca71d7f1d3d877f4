"""What a run found: the promises that it broke, if any, and why jobs had to be flagged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.audit import Findings
from tests.faults.recovery import Recoveries

SIGKILLED = -9


@dataclass(slots=True)
class Result:
    """`seconds` from the first job to the last one's end."""

    faults: Counter[str]
    findings: Findings
    recoveries: Recoveries
    seconds: float
    deaths: Counter[int]
    """Workers' ends by exit code; -9 is SIGKILL."""
    stopped: int = 0
    """Workers that were told to stop, and did."""
    leftovers: dict[str, int] = field(default_factory=dict)
    above_limit: int = 0

    @property
    def kills(self) -> int:
        return self.deaths[SIGKILLED]

    @property
    def died_by_themselves(self) -> int:
        """Workers that ended though nobody killed or stopped them."""
        return sum(self.deaths.values()) - self.kills - self.stopped

    @property
    def unproved(self) -> list[Unproved]:
        """The jobs of which it could not be proved whether a code went out once."""
        found = self.findings
        return [
            Unproved.of(job_id, self.recoveries, is_unknown=job_id in found.unknown)
            for job_id in sorted({*found.unknown, *found.possible_duplicate})
        ]

    def broken(self) -> Iterator[str]:
        """Yield which promises were broken."""
        found = self.findings
        if found.lost:
            yield f"{len(found.lost)} jobs lost: {_some(found.lost)}"
        if found.doubled:
            yield f"{len(found.doubled)} numbers doubled: {_some(found.doubled)}"
        if found.wrongly_inferred:
            yield f"{len(found.wrongly_inferred)} wrongly inferred: {_some(found.wrongly_inferred)}"
        inside = [job.job_id for job in self.unproved if job.is_inside]
        if inside:
            yield f"{len(inside)} jobs unproved after a single short fault: {_some(inside)}"
        if self.above_limit:
            yield f"{self.above_limit} requests above the account's limit"
        if self.leftovers:
            yield f"the ledger is not at rest: {self.leftovers}"
        if self.died_by_themselves:
            yield f"{self.died_by_themselves} workers ended by themselves: {dict(self.deaths)}"
        if self.recoveries.open:
            yield f"{len(self.recoveries.open)} jobs never came back: {_some(self.recoveries.open)}"


@dataclass(frozen=True, slots=True)
class Unproved:
    """A job that ended as `unknown` or `possible_duplicate`, and what had befallen it."""

    job_id: str
    state: str
    idle_s: float
    """From its first attempt to the one that proved nothing, or to its end without another."""
    redis_away_s: float
    hits: int

    @classmethod
    def of(cls, job_id: str, recoveries: Recoveries, *, is_unknown: bool) -> Unproved:
        begun = recoveries.begun.get(job_id, [])
        resends = [at for at, kind in begun if kind in {"late", "resend"}]
        last = resends[0] if resends else recoveries.ended.get(job_id, 0.0)
        first = begun[0][0] if begun else last
        return cls(
            job_id,
            "unknown" if is_unknown else "possible_duplicate",
            last - first,
            recoveries.absent_s(first, last),
            recoveries.hits[job_id],
        )

    @property
    def is_inside(self) -> bool:
        """One fault befell it at most, and Redis was there: it should have been proved."""
        return self.hits <= 1 and self.redis_away_s == 0

    def __str__(self) -> str:
        away = f", Redis away for {self.redis_away_s:.1f} s of them" if self.redis_away_s else ""
        return (
            f"{self.job_id} {self.state}: {self.idle_s:.1f} s after its first attempt{away}, "
            f"{self.hits} workers killed or frozen with it in hand"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
