"""`sendcode quota`: the bounds on spending, and what they would have refused."""

from __future__ import annotations

import csv
from collections import Counter, deque
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs.phone import PhoneError, PhoneNumber
from jobs.quotas import NumberNotAllowedError, Quotas, quota_counts
from producer.cli.console import MisusedError, say, show_json
from producer.cli.display import show_table
from producer.cli.options import JsonOption, ledger_connection, settings_here


def quota_status(as_json: JsonOption = False) -> None:
    """Show each rule with its limits, and how often it refused a code or would have."""
    with ledger_connection() as (settings, client):
        counts = quota_counts(client, settings)
        rules: dict[str, str] = {
            rule: ",".join(map(str, limits)) for rule, limits in Quotas(settings).limits.items()
        }
    rules["countries"] = settings.sendcode_countries
    rules["line_types"] = settings.sendcode_line_types
    rows = [
        {
            "rule": rule,
            "limits": text or "off",
            "refused": counts.get(rule, {}).get("refused", 0),
            "watched": counts.get(rule, {}).get("watched", 0),
        }
        for rule, text in rules.items()
    ]
    if as_json:
        show_json(rows)
        return
    cells = [tuple(str(value) for value in row.values()) for row in rows]
    show_table(("rule", "limits", "refused", "only counted"), cells, right="refused,only counted")


def quota_simulate(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV of past triggers: at (ISO 8601), phone (+852…) and, optionally, token."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show how many past triggers the rules of the settings would have refused.

    Nothing is sent, and Redis is not asked. The rows must be in the order of their times.
    """
    settings = settings_here(required=())
    quotas = Quotas(settings)
    accepted: dict[tuple[str, str, int], deque[float]] = {}
    refused: Counter[str] = Counter()
    triggers = _triggers(file)
    for at, phone, token in triggers:
        try:
            quotas.check(phone)
        except NumberNotAllowedError as exc:
            refused[exc.rule] += 1
            continue
        counted = []
        for quota in quotas.of(phone, token, lambda code, digits: f"{code}-{digits}"):
            times = accepted.setdefault((quota.rule, quota.whose, quota.limit.span_s), deque())
            while times and times[0] <= at - quota.limit.span_s:
                times.popleft()
            if len(times) >= quota.limit.count:
                refused[quota.rule] += 1
                if not quota.limit.is_watched:
                    break
            counted.append(times)
        else:
            for times in counted:
                times.append(at)
    if as_json:
        show_json({"rows": len(triggers), "refused": dict(refused)})
        return
    say(f"{len(triggers):,} triggers; refused, or only counted where a rule is watched:")
    show_table(("rule", "codes"), [(r, f"{n:,}") for r, n in refused.most_common()], right="codes")


def _triggers(file: Path) -> list[tuple[float, PhoneNumber, str]]:
    triggers: list[tuple[float, PhoneNumber, str]] = []
    with file.open(encoding="utf-8-sig", newline="") as text:
        table = csv.DictReader(text)
        if not {"at", "phone"} <= set(table.fieldnames or ()):
            raise MisusedError(f"{file}: must have the columns at and phone")
        for line, row in enumerate(table, 2):
            try:
                at = datetime.fromisoformat(row["at"]).timestamp()
                phone = PhoneNumber.from_international(row["phone"])
            except PhoneError as exc:
                raise MisusedError(f"{file}, line {line}: {exc}") from None
            except ValueError:
                raise MisusedError(f"{file}, line {line}: at is no time in ISO 8601") from None
            if triggers and at < triggers[-1][0]:
                raise MisusedError(f"{file}, line {line}: is earlier than the line before")
            triggers.append((at, phone, row.get("token") or ""))
    return triggers
