"""What a run found, and the one table that says so."""

from __future__ import annotations

from collections import Counter
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
    exit_codes: list[int] = field(default_factory=list)
    leftovers: dict[str, int] = field(default_factory=dict)
    above_limit: int = 0
    api: Counter[str] = field(default_factory=Counter)

    @property
    def kills(self) -> int:
        return self.deaths[SIGKILLED]
