"""The API's error codes, in one place, with a plain message for each.

Sources: the vendor's reference page of SendVerifyCode (section 6) and its page of common error
codes. The messages are ours: the vendor says to decide by code, never by message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PHONE_BIND_UPPER: Final = "FailedOperation.PhoneBindUpper"
SEND_LIMIT: Final = "FailedOperation.SendVerifyCodeLimit"
SEND_LIMIT_60: Final = "FailedOperation.SendVerifyCodeLimit60"
INTERNAL_ERROR: Final = "InternalError"
INVALID_ACTION: Final = "InvalidAction"
INVALID_AUTHORIZATION: Final = "AuthFailure.InvalidAuthorization"
INVALID_PARAMETER: Final = "InvalidParameter"
INVALID_REQUEST: Final = "InvalidRequest"
INVALID_VALUE: Final = "InvalidParameterValue"
MISSING_PARAMETER: Final = "MissingParameter"
NO_SUCH_VERSION: Final = "NoSuchVersion"
RATE_EXCEEDED: Final = "RequestLimitExceeded"
SECRET_ID_NOT_FOUND: Final = "AuthFailure.SecretIdNotFound"  # noqa: S105 - a code
SIGNATURE_EXPIRED: Final = "AuthFailure.SignatureExpire"
SIGNATURE_FAILURE: Final = "AuthFailure.SignatureFailure"
SIZE_EXCEEDED: Final = "RequestSizeLimitExceeded"
UNKNOWN_PARAMETER: Final = "UnknownParameter"
UNSUPPORTED_AREA: Final = "InvalidParameterValue.UnSupportArea"
UNSUPPORTED_PROTOCOL: Final = "UnsupportedProtocol"

MESSAGES: Final[Mapping[str, str]] = {
    "ActionOffline": "This action is no longer offered.",
    "AuthFailure.InvalidSecretId": "The SecretId is not a key of this API.",
    "AuthFailure.MFAFailure": "Multi-factor authentication failed.",
    SECRET_ID_NOT_FOUND: "The SecretId does not exist.",
    SIGNATURE_EXPIRED: "The time stamp is more than five minutes off the server's clock.",
    SIGNATURE_FAILURE: "The signature does not match the request.",
    "AuthFailure.TokenFailure": "The token is not valid.",
    "AuthFailure.UnauthorizedOperation": "The account may not call this action.",
    PHONE_BIND_UPPER: "This number already has the most accounts allowed.",
    SEND_LIMIT: "Codes were sent to this number too often.",
    SEND_LIMIT_60: "A code was sent to this number less than one interval ago.",
    INTERNAL_ERROR: "Internal error.",
    INVALID_ACTION: "There is no such action.",
    INVALID_VALUE: "A parameter has a wrong value.",
    UNSUPPORTED_AREA: "Accounts cannot be registered from this country or region.",
    INVALID_REQUEST: "The body is not of the kind that this action takes.",
    "IpInBlacklist": "The caller's address is on the blacklist.",
    "IpNotInWhitelist": "The caller's address is not on the whitelist.",
    "LimitExceeded": "A quota of the account is used up.",
    "NoSuchProduct": "There is no such product.",
    NO_SUCH_VERSION: "There is no such version of the API.",
    "OperationDenied.ServiceBusy": "The service is busy.",
    RATE_EXCEEDED: "Too many requests in a second.",
    "RequestLimitExceeded.UinLimitExceeded": "Too many requests in a second for this account.",
    SIZE_EXCEEDED: "The request is too large.",
    "ResourceInsufficient": "Not enough resources.",
    "ResourceUnavailable": "A resource is not available.",
    "ServiceUnavailable": "The service is not available now.",
    "UnauthorizedOperation": "The account may not do this.",
    UNSUPPORTED_PROTOCOL: "Only POST is answered.",
}


class Refused(Exception):  # noqa: N818 - an expected answer of the API, not a fault of ours
    """The API answers this request with an error.

    Attributes:
        code: the API's error code.
        message: what the answer says beside it.
    """

    def __init__(self, code: str, message: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.message = message_for(code) if message is None else message


def message_for(code: str) -> str:
    """The message that goes with `code`; a code unknown here gets a general one."""
    return MESSAGES.get(code, "The request was refused.")
