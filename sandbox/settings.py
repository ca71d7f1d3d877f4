"""The sandbox's settings, at its start and while it runs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from random import Random
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    ValidationError,
    model_validator,
)

from sandbox.numbers import behaviour_named


class SettingsError(ValueError):
    """A setting is unknown or its value is wrong; the message names it and the reason."""


def _known_behaviour(name: str) -> str:
    behaviour_named(name)
    return name


_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_UNIFORM: Final = re.compile(f"{_NUMBER}-{_NUMBER}")
_LOGNORMAL: Final = re.compile(f"lognormal:{_NUMBER}:{_NUMBER}")

Duration = float | str
"""Milliseconds: a number, `60-160` (uniform) or `lognormal:300:0.6` (median and sigma)."""


def draw_ms(duration: Duration, random: Random) -> float:
    """Return the milliseconds of a duration, drawn at random if it is a distribution."""
    if not isinstance(duration, str):
        return duration
    if found := _UNIFORM.fullmatch(duration):
        return random.uniform(*map(float, found.groups()))
    if found := _LOGNORMAL.fullmatch(duration):
        median, sigma = map(float, found.groups())
        return median * math.exp(random.gauss(0, sigma))
    raise ValueError("must be milliseconds, MIN-MAX or lognormal:MEDIAN:SIGMA")


def _known_duration(value: Duration) -> Duration:
    if isinstance(value, str) and re.fullmatch(_NUMBER, value):
        return float(value)
    if draw_ms(value, Random(0)) < 0:  # noqa: S311 - only tried out
        raise ValueError("it must not be negative")
    return value


_BehaviourName = Annotated[str, AfterValidator(_known_behaviour)]
_STRICT = ConfigDict(
    frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
)


class AccountState(BaseModel):
    """The behaviour for every request that passes signature and rate, whatever its number."""

    model_config = _STRICT

    behaviour: _BehaviourName
    """An API code, or the name of a behaviour (`sandbox.numbers`)."""
    requests: int | None = Field(default=None, ge=1)
    """For how many requests; None until it is cleared."""


def _from_name(value: object) -> object:
    return {"behaviour": value} if isinstance(value, str) else value


class Settings(BaseModel):
    """The sandbox's settings, immutable; `--help` shows the docstrings of the fields."""

    model_config = _STRICT

    rate_limit: NonNegativeFloat = 20.0
    """Requests per second for the account; 0 for no limit."""
    phone_interval: NonNegativeFloat = 60.0
    """Seconds between two codes for a number; 0 for none."""
    latency_ms: NonNegativeFloat = 0.0
    """Delay of a request on its way to the API, before its arrival is timestamped."""
    jitter_ms: NonNegativeFloat = 0.0
    """Mean of a random (exponential) delay added to it for each request: a queue before the
    counting, as the request has been read by then."""
    answer_ms: Annotated[Duration, AfterValidator(_known_duration)] = 0.0
    """How long the API takes from the decision to the answer, way back included: a number,
    MIN-MAX (uniform) or lognormal:MEDIAN:SIGMA."""
    counts_at_end: bool = False
    """Count and decide a request when `answer_ms` has passed, not before."""
    closes: bool = False
    """Close each connection after its answer."""
    slow_ms: NonNegativeFloat = 3000.0
    """How long the API takes for a request of behaviour `slow`."""
    drip_ms: NonNegativeFloat = 250.0
    """Pause between two bytes of a dripped answer."""
    clock_skew_s: float = 0.0
    """Seconds by which the API's clock is ahead of this machine's."""
    faults: dict[_BehaviourName, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Behaviour name → probability, for ordinary numbers; at most one per request."""
    account_state: Annotated[AccountState | None, BeforeValidator(_from_name)] = None
    """An `AccountState`, or its behaviour alone; None for a healthy account."""

    @model_validator(mode="after")
    def _probabilities_add_up(self) -> Self:
        if sum(self.faults.values()) > 1:
            raise ValueError("the probabilities of all faults add up to more than 1")
        return self

    def changed(self, document: Mapping[str, object]) -> Settings:
        """Return these settings with the changes of a JSON object (see `as_json`) applied.

        Raises:
            SettingsError: a name is unknown or a value wrong; nothing is changed.
        """
        try:
            return Settings.model_validate({**self.as_json(), **document})
        except ValidationError as exc:
            first = exc.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise SettingsError(f"{place}: {first['msg']}" if place else first["msg"]) from None
        except OverflowError as exc:
            raise SettingsError(f"{', '.join(document)}: {exc}") from None

    def as_json(self) -> dict[str, object]:
        """Return the settings as a JSON object that `changed` accepts."""
        return self.model_dump(mode="json")
