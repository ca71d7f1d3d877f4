"""A number that a person typed, read and flagged as in the check of a file."""

from __future__ import annotations

from jobs.phone import Fault, PhoneError, PhoneNumber
from producer.sheet import FAULTS
from producer.sheet.columns import Columns
from producer.sheet.number import NumberReader

_TYPED = Columns(number=1, country=0, country_may_be_residence=True)
_GROUP = 4


def read_typed(country_code: str, number: str) -> PhoneNumber:
    """Return the number that was typed; one with + or 00 needs no country code.

    Raises:
        PhoneError: Nothing can be sent to it, or it cannot be read for certain.
    """
    reading = NumberReader(_TYPED).read([country_code, number])
    if reading.phone is None:
        raise PhoneError(reading.fault or FAULTS["no_country_code"])
    return reading.phone


def doubts_of(phone: PhoneNumber) -> tuple[Fault, ...]:
    """Return why a code may not arrive there."""
    return NumberReader(_TYPED).read([phone.country_code, phone.phone_num]).warnings


def grouped(phone: PhoneNumber) -> str:
    """Return the full number in groups that are easy to check: "+852 5100 0077".

    Only for the person who typed it; never for a log or a place where it is kept.
    """
    digits = phone.phone_num
    first = len(digits) % _GROUP
    groups = [digits[:first], *(digits[i : i + _GROUP] for i in range(first, len(digits), _GROUP))]
    return f"+{phone.country_code} {' '.join(filter(None, groups))}"
