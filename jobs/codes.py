"""What each code means, in plain words, and what a person can do about it. Pure data.

Codes come from the API, or are our own for calls that brought no answer of the API.
Producers show these texts; the worker's verdict on a code is in `worker/verdict.py`.
Sources: the vendor's reference page and its list of common error codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


class OwnCode(StrEnum):
    """Our codes, for calls that brought no answer of the API and for jobs that end without one."""

    DNS = "Network.Dns"
    CONNECT = "Network.Connect"
    CONNECT_TIMEOUT = "Network.ConnectTimeout"
    TLS = "Network.Tls"
    STALE = "Network.Stale"
    """The caller's time was over before anything was written."""
    READ_TIMEOUT = "Network.ReadTimeout"
    LOST = "Network.Lost"

    UNPROVED = "Unproved"
    """`begin.lua`: the number's interval is over, and no probe can tell any more."""

    HTTP_STATUS = "Answer.HttpStatus"
    REDIRECT = "Answer.Redirect"
    TOO_LARGE = "Answer.TooLarge"
    NOT_JSON = "Answer.NotJson"
    WRONG_SHAPE = "Answer.WrongShape"


class CodeTable(Generic[T]):
    """Values by code: the exact code first, then the longest prefix that fits."""

    def __init__(self, exact: Mapping[str, T], prefix: Mapping[str, T]) -> None:
        self.exact = exact
        self.prefix = dict(sorted(prefix.items(), key=lambda item: -len(item[0])))

    def find(self, code: str) -> T | None:
        """The value for a code, or None when the table does not know it."""
        if code in self.exact:
            return self.exact[code]
        return next((value for start, value in self.prefix.items() if code.startswith(start)), None)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Two short texts without final stops, fit for a table cell or joined by a colon."""

    meaning: str
    remedy: str


_WAIT = "Nothing: it is tried again by itself"
_REQUEUE = "Its attempts are spent; requeue it once the service is well again"
_OUR_BUG = "Report it to the developers: the request is built by this program"
_TICKET = "Open a ticket with the vendor and give the request id"
_FIX_CREDENTIALS = "Check secret id, key and token in the settings"
_FIX_NUMBER = "Correct the country code or number and submit it again"
_ASK_CUSTOMER = "Check with the customer whether a code has come before you requeue it"
_CHECK_NETWORK = "Check network, firewall and SENDCODE_ENDPOINT, then requeue it"
_OTHER_SERVER = "Check SENDCODE_ENDPOINT and any proxy on the way"

EXPLANATIONS = CodeTable(
    exact={
        "FailedOperation.PhoneBindUpper": Explanation(
            "This number already has the most accounts allowed",
            "Ask the customer for another number",
        ),
        "FailedOperation.SendVerifyCodeLimit": Explanation(
            "Codes were sent to this number too often", "Wait some hours, then requeue it"
        ),
        "FailedOperation.SendVerifyCodeLimit60": Explanation(
            "This number was sent a code within the last 60 seconds",
            "Wait a minute; if it stays, find out what else sends codes with this account",
        ),
        "InvalidParameterValue.UnSupportArea": Explanation(
            "Accounts cannot be created with numbers of this country or region",
            "Ask the customer for a number of another country or region",
        ),
        "OperationDenied.ServiceBusy": Explanation("The service is busy", _WAIT),
        "AuthFailure.SignatureExpire": Explanation(
            "This machine's clock is more than 5 minutes off",
            "Set the clock right (NTP) on every worker",
        ),
        "AuthFailure.SignatureFailure": Explanation(
            "The secret key does not fit the secret id", _FIX_CREDENTIALS
        ),
        "AuthFailure.SecretIdNotFound": Explanation(
            "The secret id does not exist or was deleted", _FIX_CREDENTIALS
        ),
        "AuthFailure.InvalidSecretId": Explanation(
            "The secret id is not one for this API", _FIX_CREDENTIALS
        ),
        "AuthFailure.TokenFailure": Explanation(
            "The temporary credentials are wrong or have expired",
            "Renew secret id, key and token together",
        ),
        "AuthFailure.MFAFailure": Explanation(
            "The account asks for a second factor, which a program cannot give",
            "Use credentials that need none",
        ),
        "AuthFailure.UnauthorizedOperation": Explanation(
            "These credentials may not send codes",
            "Have the account's owner allow SendVerifyCode for them",
        ),
        "IpInBlacklist": Explanation(
            "The workers' IP address is barred from this account",
            "Have the account's owner take it off the list",
        ),
        "IpNotInWhitelist": Explanation(
            "The workers' IP address is not on this account's list",
            "Have the account's owner add it",
        ),
        "ActionOffline": Explanation("The vendor has taken SendVerifyCode offline", _TICKET),
        "InvalidAction": Explanation(
            "The endpoint does not know SendVerifyCode", "Check SENDCODE_ENDPOINT"
        ),
        "NoSuchProduct": Explanation(
            "The endpoint does not know this product", "Check SENDCODE_ENDPOINT"
        ),
        "NoSuchVersion": Explanation(
            "The endpoint does not know this version of the API", "Check SENDCODE_ENDPOINT"
        ),
        "InvalidRequest": Explanation("The service could not read our request", _OUR_BUG),
        "RequestSizeLimitExceeded": Explanation("Our request was too large", _OUR_BUG),
        OwnCode.DNS: Explanation("The service's host name was not found", _CHECK_NETWORK),
        OwnCode.CONNECT: Explanation("The service could not be reached", _CHECK_NETWORK),
        OwnCode.CONNECT_TIMEOUT: Explanation(
            "The service could not be reached in time", _CHECK_NETWORK
        ),
        OwnCode.TLS: Explanation(
            "No secure connection: the server's certificate could not be verified, or TLS failed",
            "Check the machine's clock and any proxy on the way; never turn verification off",
        ),
        OwnCode.STALE: Explanation(
            "The worker was held up so long that it did not send any more", _WAIT
        ),
        OwnCode.READ_TIMEOUT: Explanation(
            "The request went out and no answer came in time: the code may have been sent",
            _ASK_CUSTOMER,
        ),
        OwnCode.LOST: Explanation(
            "The connection broke after the request went out: the code may have been sent",
            _ASK_CUSTOMER,
        ),
        OwnCode.UNPROVED: Explanation(
            "An attempt had no clear answer, and nobody can prove any more what became of it",
            _ASK_CUSTOMER,
        ),
        OwnCode.HTTP_STATUS: Explanation(
            "The answer had another HTTP status than 200: the code may have been sent",
            _ASK_CUSTOMER,
        ),
        OwnCode.REDIRECT: Explanation(
            "The answer pointed to another address, which is never followed", _OTHER_SERVER
        ),
        OwnCode.TOO_LARGE: Explanation(
            "The answer was far too large to be one of this API", _OTHER_SERVER
        ),
        OwnCode.NOT_JSON: Explanation(
            "The answer was cut short or not one of this API", _OTHER_SERVER
        ),
        OwnCode.WRONG_SHAPE: Explanation("The answer was not one of this API", _OTHER_SERVER),
    },
    prefix={
        "ServiceUnavailable": Explanation("The service is unavailable for the moment", _WAIT),
        "ResourceUnavailable": Explanation("The service lacks a resource for the moment", _WAIT),
        "ResourceInsufficient": Explanation("The service lacks capacity for the moment", _WAIT),
        "InternalError": Explanation(
            "The service failed inside: the code may have been sent", _ASK_CUSTOMER
        ),
        "RequestLimitExceeded": Explanation(
            "The account has sent more requests than the service allows per second",
            "Find out what else uses the account, or lower SENDCODE_RATE_LIMIT",
        ),
        "InvalidParameterValue": Explanation(
            "The service does not accept this country code or number", _FIX_NUMBER
        ),
        "InvalidParameter": Explanation(
            "The service does not accept this country code or number", _FIX_NUMBER
        ),
        "MissingParameter": Explanation("Our request lacked a field", _OUR_BUG),
        "UnknownParameter": Explanation("Our request had a field too many", _OUR_BUG),
        "AuthFailure": Explanation("The service does not accept our credentials", _FIX_CREDENTIALS),
        "UnauthorizedOperation": Explanation(
            "These credentials may not send codes",
            "Have the account's owner allow SendVerifyCode for them",
        ),
        "Unsupported": Explanation(
            "The service does not support this call for the account", _TICKET
        ),
        "LimitExceeded": Explanation(
            "The account's quota is used up", "Have the account's owner raise the quota"
        ),
    },
)

_UNDOCUMENTED = Explanation("The service gave a code that its documentation does not list", _TICKET)


def explain(code: str) -> Explanation:
    """The texts for a code; for one that nobody documented, what to do with such a one."""
    return EXPLANATIONS.find(code) or _UNDOCUMENTED


def explain_end(code: str) -> Explanation:
    """The texts for the code of a job that has failed for good: nothing is tried by itself now."""
    known = explain(code)
    return Explanation(known.meaning, _REQUEUE) if known.remedy == _WAIT else known
