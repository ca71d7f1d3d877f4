"""What becomes of a job for each of the sandbox's magic numbers (sandbox/numbers.py)."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.job import State

SENT, INFERRED, DEAD, UNKNOWN = State.SENT, State.SENT_INFERRED, State.DEAD, State.UNKNOWN


@dataclass(frozen=True)
class End:
    """How a magic number's job ends."""

    state: State
    attempts: int = 1
    code: str = ""
    sent: int = 0
    """Codes that went out."""
    story: str = "attempt"
    """What each call was, one after the other."""
    perhaps_twice: bool = False


def sent(attempts: int = 1, story: str = "attempt") -> End:
    return End(SENT, attempts, sent=1, story=story)


def dead(code: str, attempts: int = 1) -> End:
    return End(DEAD, attempts, code, story="attempt " * attempts)


PROBED = sent(2, "attempt probe")
PROVED = End(INFERRED, 2, "FailedOperation.SendVerifyCodeLimit60", sent=1, story="attempt probe")
TOO_EARLY = End(SENT, 2, sent=1, story="attempt attempt", perhaps_twice=True)
FIVE = "attempt probe probe probe probe"

ENDS: dict[str, End] = {
    "9900": sent(),
    "9901": dead("FailedOperation.PhoneBindUpper"),
    "9902": dead("FailedOperation.SendVerifyCodeLimit", 3),
    "9903": sent(2, "attempt attempt"),
    "9904": dead("FailedOperation.SendVerifyCodeLimit60", 5),
    "9905": TOO_EARLY,
    "9906": TOO_EARLY,
    "9907": dead("InvalidParameterValue"),
    "9908": dead("InvalidParameterValue.UnSupportArea"),
    "9909": dead("InvalidParameter"),
    "9910": dead("MissingParameter"),
    "9911": dead("UnknownParameter"),
    "9920": sent(3, "attempt " * 3),
    "9921": sent(5, "attempt " * 5),
    "9922": dead("ServiceUnavailable", 5),
    "9923": sent(2, "attempt attempt"),
    "9924": sent(2, "attempt attempt"),
    "9925": sent(2, "attempt attempt"),
    "9926": sent(1, "attempt attempt"),
    "9927": sent(1, "attempt attempt"),
    "9930": PROBED,
    "9931": PROVED,
    "9932": End(UNKNOWN, 5, "InternalError", story=FIVE),
    "9933": PROBED,
    "9934": PROVED,
    "9935": PROBED,
    "9936": PROVED,
    "9937": PROBED,
    "9938": PROVED,
    "9939": End(UNKNOWN, 5, "Network.Lost", story=FIVE),
    "9940": End(UNKNOWN, 5, "Network.Lost", sent=1, story=FIVE),
    "9941": PROBED,
    "9942": PROVED,
    "9943": End(UNKNOWN, 5, "Answer.HttpStatus", story=FIVE),
    "9944": PROBED,
    "9945": PROVED,
    "9946": PROBED,
    "9947": PROVED,
    "9948": PROBED,
    "9949": PROVED,
    "9950": PROVED,
    "9951": PROVED,
    "9952": PROVED,
    "9953": PROBED,
    "9954": End(UNKNOWN, 5, "Answer.Redirect", story=FIVE),
    "9955": PROVED,
    "9956": PROVED,
    "9957": PROBED,
    "9960": sent(),
    "9961": sent(),
    "9962": dead("FailedOperation.PhoneBindUpper"),
    "9970": sent(1, "attempt attempt"),
    "9979": sent(1, "attempt attempt"),
    "9990": PROBED,
    "9991": End(DEAD, 2, "FailedOperation.NeverHeardOf", story="attempt probe"),
}
ACCOUNT_WIDE = {"9971", *(f"99{n}" for n in range(72, 90) if n != 79)}
