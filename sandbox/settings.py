"""What can be set, at the start and while the sandbox runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

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
    """A setting is unknown or its value makes no sense; the message names it and the reason."""


def _known_behaviour(name: str) -> str:
    behaviour_named(name)
    return name


_BehaviourName = Annotated[str, AfterValidator(_known_behaviour)]
_STRICT = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class AccountState(BaseModel):
    """Every request that passes signature and rate is treated so, whatever its number.

    Attributes:
        behaviour: an API code, or the name of a behaviour (`sandbox.numbers`).
        requests: how many; None until it is cleared.
    """

    model_config = _STRICT

    behaviour: _BehaviourName
    requests: int | None = Field(default=None, ge=1)


def _from_name(value: object) -> object:
    return {"behaviour": value} if isinstance(value, str) else value


class Settings(BaseModel):
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
        account_state: see `AccountState`, or its behaviour alone; None is a healthy account.
    """

    model_config = _STRICT

    rate_limit: NonNegativeFloat = 20.0
    phone_interval: NonNegativeFloat = 60.0
    latency_ms: NonNegativeFloat = 0.0
    jitter_ms: NonNegativeFloat = 0.0
    answer_ms: NonNegativeFloat = 0.0
    slow_ms: NonNegativeFloat = 3000.0
    drip_ms: NonNegativeFloat = 250.0
    clock_skew_s: float = 0.0
    faults: dict[_BehaviourName, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    account_state: Annotated[AccountState | None, BeforeValidator(_from_name)] = None

    @model_validator(mode="after")
    def _at_most_one_fault_each(self) -> Self:
        if sum(self.faults.values()) > 1:
            raise ValueError("the probabilities of all faults add up to more than 1")
        return self

    def changed(self, document: Mapping[str, object]) -> Settings:
        """Return these settings with the changes of a JSON object (see `as_json`) applied.

        Raises:
            SettingsError: a name is unknown or a value of the wrong kind; nothing is changed.
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
        """Return a JSON object that `changed` understands."""
        return self.model_dump(mode="json")
