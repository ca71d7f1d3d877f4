"""How the job of a test token ends: by its number alone, without a call of anything. No I/O.

A number whose digits after the country code are 8 or more and begin as in `_ENDS` ends as it would
in the sandbox (sandbox/numbers.py); all others are sent. Tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.codes import OwnCode
from jobs.job import State
from jobs.phone import PhoneNumber

MIN_LENGTH, PREFIX_LENGTH = 8, 4
NOTE = "a test token asked for it: nothing was sent, and no API was called"


@dataclass(frozen=True, slots=True)
class TestEnd:
    """How a test job ends, with as many attempts as a real one would have had."""

    __test__ = False  # for pytest

    state: State
    code: str = ""
    attempts: int = 1
    possible_duplicate: bool = False


_SENT = TestEnd(State.SENT)
_ENDS = {
    TestEnd(State.SENT, attempts=2): "9903 9923 9924 9925 9930 9933 9935 9937 9941 9944 9946 9948 "
    "9953 9957 9990",
    TestEnd(State.SENT, attempts=3): "9920",
    TestEnd(State.SENT, attempts=5): "9921",
    TestEnd(State.SENT, attempts=2, possible_duplicate=True): "9905 9906",
    TestEnd(State.SENT_INFERRED, "FailedOperation.SendVerifyCodeLimit60", 2): "9931 9934 9936 9938 "
    "9942 9945 9947 9949 9950 9951 9952 9955 9956",
    TestEnd(State.UNKNOWN, "InternalError", 5): "9932",
    TestEnd(State.UNKNOWN, str(OwnCode.LOST), 5): "9939 9940",
    TestEnd(State.UNKNOWN, str(OwnCode.HTTP_STATUS), 5): "9943",
    TestEnd(State.UNKNOWN, str(OwnCode.REDIRECT), 5): "9954",
    TestEnd(State.DEAD, "FailedOperation.PhoneBindUpper"): "9901 9962",
    TestEnd(State.DEAD, "FailedOperation.SendVerifyCodeLimit", 3): "9902",
    TestEnd(State.DEAD, "FailedOperation.SendVerifyCodeLimit60", 5): "9904",
    TestEnd(State.DEAD, "InvalidParameterValue"): "9907",
    TestEnd(State.DEAD, "InvalidParameterValue.UnSupportArea"): "9908",
    TestEnd(State.DEAD, "InvalidParameter"): "9909",
    TestEnd(State.DEAD, "MissingParameter"): "9910",
    TestEnd(State.DEAD, "UnknownParameter"): "9911",
    TestEnd(State.DEAD, "ServiceUnavailable", 5): "9922",
    TestEnd(State.DEAD, "FailedOperation.NeverHeardOf", 2): "9991",
    # refused as the whole account is, which a test never halts
    TestEnd(State.DEAD, str(OwnCode.ALONE)): "9971 9972 9973 9974 9975 9976 9977 9978 9980 9981 "
    "9982 9983 9984 9985 9986 9987 9988 9989",
}
_BY_PREFIX = {prefix: end for end, prefixes in _ENDS.items() for prefix in prefixes.split()}


def end_of(phone: PhoneNumber) -> TestEnd:
    """Return how a test job for this number ends."""
    if len(phone.phone_num) < MIN_LENGTH:
        return _SENT
    return _BY_PREFIX.get(phone.phone_num[:PREFIX_LENGTH], _SENT)
