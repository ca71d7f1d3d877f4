"""What can be set, at the start and while the sandbox runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Final

from sandbox.numbers import behaviour_named


class SettingsError(ValueError):
    """A setting is unknown or its value makes no sense; says which and why."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """Every request that passes signature and rate is treated so, whatever its number.

    Attributes:
        behaviour: an API code, or the name of a behaviour (`sandbox.numbers`).
        requests: how many; None until it is cleared.
    """

    behaviour: str
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The sandbox's settings; every change makes a new one.

    Attributes:
        rate_limit: requests per second for the account; 0 is no limit.
        phone_interval: seconds between two codes for a number; 0 is none.
        latency_ms: way of a request to the API, before its arrival is stamped.
        jitter_ms: mean of a random (exponential) addition to it, drawn per request.
        answer_ms: from the decision to the answer: work of the API and way back.
        slow_ms: the same for behaviour `slow`.
        drip_ms: between two bytes of a dripped answer.
        clock_skew_s: by how much the API's clock is ahead of this machine's.
        faults: behaviour name → probability, for ordinary numbers; at most one per request.
        account_state: see `AccountState`; None is a healthy account.
    """

    rate_limit: float = 20.0
    phone_interval: float = 60.0
    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    answer_ms: float = 0.0
    slow_ms: float = 3000.0
    drip_ms: float = 250.0
    clock_skew_s: float = 0.0
    faults: Mapping[str, float] = field(default_factory=dict)
    account_state: AccountState | None = None

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if math.isnan(value) or math.isinf(value):
                raise SettingsError(f"{name} is not a finite number")
            if value < 0 and name != "clock_skew_s":
                raise SettingsError(f"{name} is negative")
        for name, probability in self.faults.items():
            _check_behaviour(name)
            if not 0 <= probability <= 1:
                raise SettingsError(f"the probability of fault {name} is not between 0 and 1")
        if sum(self.faults.values()) > 1:
            raise SettingsError("the probabilities of all faults add up to more than 1")
        if self.account_state is not None:
            _check_behaviour(self.account_state.behaviour)

    def changed(self, document: Mapping[str, object]) -> Settings:
        """These settings with the changes of a JSON object (see `as_json`) applied.

        Raises:
            SettingsError: a name is unknown or a value of the wrong kind; nothing is changed.
        """
        changes: dict[str, object] = {}
        for name, value in document.items():
            if name in _NUMBERS:
                changes[name] = _number(name, value)
            elif name == "faults":
                changes[name] = _faults(value)
            elif name == "account_state":
                changes[name] = _account_state(value)
            else:
                raise SettingsError(f"there is no setting {name!r}")
        return replace(self, **changes)  # type: ignore[arg-type]  # checked one by one above

    def as_json(self) -> dict[str, object]:
        """A JSON object that `changed` understands."""
        state = self.account_state
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            "faults": dict(self.faults),
            "account_state": (state and {"behaviour": state.behaviour, "requests": state.requests}),
        }


_NUMBERS: Final = tuple(each.name for each in fields(Settings) if each.type == "float")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(f"{name} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise SettingsError(f"{name} is too large a number") from None


def _faults(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise SettingsError("faults is not an object of name: probability")
    return {str(name): _number(f"fault {name}", each) for name, each in value.items()}


def _account_state(value: object) -> AccountState | None:
    if value is None:
        return None
    if isinstance(value, str):
        return AccountState(value)
    if not isinstance(value, dict) or not value.keys() <= {"behaviour", "requests"}:
        raise SettingsError("account_state is not null, a name, or {behaviour, requests}")
    behaviour, requests = value.get("behaviour"), value.get("requests")
    if not isinstance(behaviour, str):
        raise SettingsError("account_state.behaviour is not a name")
    if requests is not None and (
        isinstance(requests, bool) or not isinstance(requests, int) or requests < 1
    ):
        raise SettingsError("account_state.requests is not null or a whole number from 1 on")
    return AccountState(behaviour, requests)


def _check_behaviour(name: str) -> None:
    try:
        behaviour_named(name)
    except ValueError as exc:
        raise SettingsError(str(exc)) from None
