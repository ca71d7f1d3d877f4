"""Bounds on spending: how many codes a number, a range, a country, a token or all may have.

A backend's mistake, or an attacker who signs up with a thousand numbers of one range, costs money
for each code. The script that records a job counts it, so no interleaving of callers gets more than
a quota. A code counts for its whole span, to a sixtieth of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import redis

from config import SendcodeError
from config.quotas import Limit, read_limits
from config.settings import Settings
from jobs.keys import Keys
from jobs.phone import PhoneNumber, plan_of

Rule = Literal["number", "range", "country", "token", "budget"]
RANGE_DIGITS = 4
"""A range is all numbers that differ in the last so many digits."""
_OF_BATCHES: tuple[Rule, ...] = ("country", "budget")
_PACKED = re.compile(r"([a-z]+),(\d+),(\d+),(\d);")
"""One of `of_batches`, as the scripts read it (jobs/lua/shared/quotas.lua)."""
_SATELLITES = {"870", "881"}
_UNFIT = {"landline", "toll-free number", "premium-rate number", "shared-cost number"}
"""Of the kinds that `NumberingPlan.other_kind` returns."""


class QuotaExceededError(SendcodeError):
    """A rule refuses this code; nothing was queued. The message names the rule, not the number."""

    def __init__(self, rule: str, limit: str, retry_after_s: float) -> None:
        super().__init__(
            f"the quota {rule} ({limit}) is spent: nothing was sent; "
            f"try again in {max(1, round(retry_after_s)):,} s"
        )
        self.rule = rule
        self.retry_after_s = retry_after_s


class NumberNotAllowedError(SendcodeError, ValueError):
    """No code may be sent to this number; says why, without the number. `rule` for programs."""

    def __init__(self, rule: Literal["countries", "line_types"], message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit of a rule, for one number, range, country, token, or all."""

    rule: Rule
    whose: str
    """An index, a calling code, a token's name, or "all"."""
    limit: Limit

    def packed(self) -> tuple[str, str, int, int, int]:
        limit = self.limit
        return self.rule, self.whose, limit.count, limit.span_s * 1000, int(limit.is_watched)


class Quotas:
    """The rules that the settings set."""

    def __init__(self, settings: Settings) -> None:
        self.limits: Mapping[Rule, tuple[Limit, ...]] = {
            "number": read_limits(settings.sendcode_limit_number),
            "range": read_limits(settings.sendcode_limit_range),
            "country": read_limits(settings.sendcode_limit_country),
            "token": read_limits(settings.sendcode_limit_token),
            "budget": read_limits(settings.sendcode_budget),
        }
        self._trusted = tuple(settings.trusted)
        self._countries = settings.countries
        self._line_types = settings.sendcode_line_types

    def check(self, phone: PhoneNumber) -> str:
        """Return the rule that only watches this number; "" if there is none.

        Raises:
            NumberNotAllowedError: its country or its kind of line is not allowed.
        """
        if self.is_trusted(phone):
            return ""
        if not self.allows_country(phone):
            raise NumberNotAllowedError(
                "countries",
                f"country code {phone.country_code} is not among those that codes may be sent to "
                "(SENDCODE_COUNTRIES)",
            )
        kind = "" if self._line_types == "off" else unfit_line(phone)
        if kind and self._line_types == "refuse":
            raise NumberNotAllowedError(
                "line_types",
                f"it is a {kind} number: no code is sent to such (SENDCODE_LINE_TYPES)",
            )
        return "line_types" if kind else ""

    def allows_country(self, phone: PhoneNumber) -> bool:
        """Return whether codes may be sent to this number's country, or it is trusted."""
        is_named = not self._countries or phone.country_code in self._countries
        return is_named or self.is_trusted(phone)

    def is_trusted(self, phone: PhoneNumber) -> bool:
        """Return whether no bound holds for this number."""
        return f"{phone.country_code}{phone.phone_num}".startswith(self._trusted)

    def of(self, phone: PhoneNumber, token: str, index: Callable[[str, str], str]) -> list[Quota]:
        """Return the quotas that a code for this number, asked for with this token, counts in.

        `index` returns what stands for a country code and digits in keys.
        """
        if self.is_trusted(phone):
            return []
        whose: dict[Rule, str] = {
            "number": index(phone.country_code, phone.phone_num),
            "range": index(phone.country_code, phone.phone_num[:-RANGE_DIGITS] + "-range"),
            "country": phone.country_code,
            "token": token,
            "budget": "all",
        }
        return [
            Quota(rule, whose[rule], limit)
            for rule, limits in self.limits.items()
            for limit in limits
            if whose[rule]
        ]

    def of_batches(self) -> str:
        """Return what the scripts read of the rules that hold for batches, too."""
        return "".join(
            f"{rule},{limit.count},{limit.span_s * 1000},{limit.is_watched:d};"
            for rule in _OF_BATCHES
            for limit in self.limits[rule]
        )


def bounds_of_workers(
    client: redis.Redis, settings: Settings
) -> list[tuple[tuple[str, Limit], ...]]:
    """Return the different bounds for batches that workers are, or were a minute ago, set to.

    Rule and limit of each. Where there are several, for each rule and span the strictest holds.
    """
    stored: Any = client.hgetall(Keys(settings.sendcode_key_prefix).spending)
    return [
        tuple(
            (rule, Limit(int(count), int(span_ms) // 1000, watched == "1"))
            for rule, count, span_ms, watched in _PACKED.findall(each)
        )
        for each in sorted(stored)
    ]


def unfit_line(phone: PhoneNumber) -> str:
    """Return which kind of line a number is, if one that no code should go to; else ""."""
    if phone.country_code in _SATELLITES:
        return "satellite"
    plan = plan_of(phone.country_code)
    if plan is None or plan.is_mobile(phone.phone_num):
        return ""
    kind = plan.other_kind(phone.phone_num)
    return kind.removesuffix(" number") if kind in _UNFIT else ""


def count_refusal(client: redis.Redis, settings: Settings, rule: str, what: str) -> None:
    """Count a code that a rule refused (`refused`), or would have (`watched`)."""
    client.hincrby(Keys(settings.sendcode_key_prefix).quotas, f"{rule}:{what}", 1)


def quota_counts(client: redis.Redis, settings: Settings) -> dict[str, dict[str, int]]:
    """Return by rule how often each has `refused` a code, or would have (`watched`)."""
    found: Any = client.hgetall(Keys(settings.sendcode_key_prefix).quotas)
    counts: dict[str, dict[str, int]] = {}
    for name, count in found.items():
        rule, _, what = name.partition(":")
        counts.setdefault(rule, {})[what] = int(count)
    return counts
