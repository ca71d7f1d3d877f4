"""Settings: environment variables, `.env`, or for any of them a file named by `<VARIABLE>_FILE`.

`load_settings()` reports every wrong setting at once, by name and never by value.
"""

from __future__ import annotations

import os
import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from config import SendcodeError
from config.address import RedisAddress, is_file, is_loopback
from config.data_key import DATA_KEY_BYTES, KEY_ID
from config.files import UnfitFileError, is_exposed, read_env_file, read_text
from config.flower import LOOPBACK, NO_AUTH
from config.quotas import read_limits
from config.rereading import Rereading

_VENDOR_DOMAIN = ".tencentcloudapi.com"
_HOSTS = re.compile(r"[A-Za-z0-9.-]+( *, *[A-Za-z0-9.-]+)*", re.ASCII)
_CREDENTIAL = re.compile(r"[!#-&(-_a-~]+")
"""ASCII without spaces and quotes."""

_LEASE_LIMITS = {"sendcode_sweep_interval", "sendcode_http_timeout", "sendcode_phone_interval"}
"""The settings that limit the lease."""
_LIKE_OURS = re.compile("SEND_?CO|TENCENT")
_NEAR = 0.87
"""For `difflib`: a letter or two of the name are wrong, missing or too many."""
_READ_ELSEWHERE = frozenset(
    {
        "SENDCODE_IMAGE",
        "SENDCODE_PYTHON_IMAGE",
        "SENDCODE_REDIS_IMAGE",
        "SENDCODE_REDIS_MEMORY",
        "SENDCODE_REDIS_PORT",
        "SENDCODE_TRACEBACK",
        NO_AUTH,
    }
)
"""Read by the command line, Flower and docker-compose.yml, not here."""
_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_\d|$)")
"""Variables that Kubernetes sets for a service whose name begins with sendcode."""
_OUR_SETTING_FOR = {
    "SENDCODE_PROXY": ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
    "SENDCODE_CA_BUNDLE": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
}
CREDENTIALS = ("tencentcloud_secret_id", "tencentcloud_secret_key")
DATA_KEYS = "sendcode_data_keys"
"""Every program that reads or writes the ledger needs them."""

ENV_FILE = ".env"
_LAST_PORT = 65_535
PROBE_SLACK_S = 1.0
"""Seconds added wherever two clocks or a process switch come between a plan and the wire."""


class SettingsError(SendcodeError):
    """Some settings are missing or wrong; the message has one line for each, without values."""


def _endpoint(value: str) -> str:
    url = _split_url(value)
    if not value.isascii():
        raise ValueError("must be plain ASCII: an invisible character may have been copied with it")
    if url.scheme not in {"https", "http"} or not url.hostname:
        raise ValueError("must be a base URL such as https://intlpartnersmgt.tencentcloudapi.com")
    _check_port(url)
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError("plain http is accepted for loopback only; use https")
    if url.path not in {"", "/"} or url.query or url.username:
        raise ValueError("must have no path, query or user; the API is called at /")
    return f"{url.scheme}://{url.netloc}"


def _proxy(value: object) -> object:
    url = _split_url(_plain(value))
    if url.scheme != "http" or not url.hostname:
        raise ValueError("must be an HTTP proxy that tunnels (CONNECT): http://host:3128")
    if url.path not in {"", "/"} or url.query or url.fragment:
        raise ValueError(
            "must end after the port; in a password write %2F for a slash, %3F for a question "
            "mark, %23 for a hash"
        )
    _check_port(url)
    return value


def _ca_bundle(value: object) -> object:
    if not is_file(str(value)):
        raise ValueError("names a file that does not exist or cannot be read")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(str(value))
    except (OSError, UnicodeError):
        raise ValueError("names a file without certificates (PEM)") from None
    return value


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _as_written(read: Callable[[str], object]) -> Callable[[Any], Any]:
    """Return a validator that refuses what `read` refuses, and keeps the setting as written."""

    def check(value: Any) -> Any:
        read(_plain(value))
        return value

    return check


def _read_listening(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not port.isdecimal() or not 0 < int(port) <= _LAST_PORT or (colon and not host):
        raise ValueError("must be a port such as 9200, or an address and a port: 0.0.0.0:9200")
    return host or LOOPBACK, int(port)


def _split_url(text: str) -> SplitResult:
    """Split a URL; the library's own errors show what they refuse, even passwords."""
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError("is not a URL") from None


def _check_port(url: SplitResult) -> None:
    try:
        _ = url.port
    except ValueError:
        raise ValueError("has a port that is not a number up to 65535") from None


def _no_blank(value: object) -> object:
    text = _plain(value)
    if not text or text != text.strip():
        raise ValueError("must not be empty or have spaces around it")
    return value


def _credential(value: object) -> object:
    """Refuse what editing or copying adds to a credential; a file's byte-order mark is gone."""
    if not _CREDENTIAL.fullmatch(_plain(_no_blank(value))):
        raise ValueError(
            "has a character that no credential has (a quote, a space, a line break or one outside "
            "ASCII): copy it again, without quotes"
        )
    return value


def _none_if_empty(value: object) -> object:
    return None if value == "" else _credential(value)


def _hosts(value: str) -> str:
    if value and not _HOSTS.fullmatch(value):
        raise ValueError("must be host names without ports, comma-separated: api.example.com")
    return value


@cache
def _read_data_keys(text: str) -> tuple[tuple[str, bytes], ...]:
    found: dict[str, bytes] = {}
    for part in text.split(","):
        key_id, _, encoded = part.strip().partition(":")
        try:
            key = b64decode(encoded, validate=True)
        except ValueError:
            key = b""
        if not KEY_ID.fullmatch(key_id) or len(key) != DATA_KEY_BYTES:
            raise ValueError(
                "must be keys from `sendcode keys new` (id:base64 of 32 bytes), comma-separated"
            )
        if key_id in found:
            raise ValueError("has two keys with the same id: each needs its own")
        found[key_id] = key
    return tuple(found.items())


def _read_networks(text: str) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(part) for part in map(str.strip, text.split(",")) if part]
    except ValueError:
        raise ValueError(
            "must be addresses or networks such as 10.0.0.5 or 10.0.0.0/24, comma-separated"
        ) from None


def _read_digits(text: str) -> list[str]:
    parts = _parts(text)
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError("must be digits, comma-separated, such as 852,65")
    return parts


def _parts(text: str) -> list[str]:
    return [part.strip().lstrip("+") for part in text.split(",") if part.strip()]


Secret = Annotated[SecretStr, BeforeValidator(_no_blank)]
Credential = Annotated[SecretStr, BeforeValidator(_credential)]
RedisUrl = Annotated[
    SecretStr, BeforeValidator(_as_written(RedisAddress.parse)), BeforeValidator(_no_blank)
]
DataKeys = Annotated[SecretStr, BeforeValidator(_as_written(_read_data_keys))]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Digits = Annotated[str, AfterValidator(_as_written(_read_digits))]
Limits = Annotated[str, AfterValidator(_as_written(read_limits))]


class Settings(BaseModel):
    """Everything that can be set. Field names are the variables' names in lower case.

    Build it with `load_settings`, whose errors are written for people.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    tencentcloud_secret_id: Credential | None = None
    tencentcloud_secret_key: Credential | None = None
    tencentcloud_token: Annotated[SecretStr | None, BeforeValidator(_none_if_empty)] = None
    """For temporary credentials; permanent ones have none, so its file may be empty."""
    sendcode_endpoint_allowed: Annotated[str, AfterValidator(_hosts)] = ""
    """Hosts that `sendcode_endpoint` may name besides the vendor's, comma-separated."""
    sendcode_endpoint: Annotated[str, BeforeValidator(_endpoint)] = (
        "https://intlpartnersmgt.tencentcloudapi.com"
    )
    sendcode_redis_url: RedisUrl = SecretStr("redis://127.0.0.1:6379/0")
    sendcode_redis_plain: bool = False
    """Whether a Redis on another host may be used without TLS: over a private network."""
    sendcode_proxy: Annotated[SecretStr, BeforeValidator(_proxy)] | None = None
    """An HTTP proxy on the way to the API, used as a tunnel (CONNECT); it may have a login."""
    sendcode_ca_bundle: Annotated[str, BeforeValidator(_ca_bundle)] | None = None
    """File of certificates to check the API's against, instead of the usual ones."""
    sendcode_rate_limit: float = Field(20, gt=0, le=10_000)
    """Requests per second for the account."""
    sendcode_phone_interval: float = Field(60, gt=0, le=60)
    """Seconds between two codes for a number: the API's guard against doubles.

    A lower value is for a sandbox: what it proves is not true of the API. So is what a higher one
    proves, which is refused.
    """
    sendcode_http_timeout: Seconds = 5
    """Total seconds for one API call, until its answer is read in full."""
    sendcode_max_attempts: int = Field(5, ge=1, le=100)
    sendcode_data_keys: DataKeys | None = None
    """Keys for what the ledger holds of persons, `id:base64`, comma-separated; the first seals."""
    sendcode_key_prefix: str = Field(
        "sendcode", pattern=r"^([A-Za-z0-9._-]{1,64}|\{[A-Za-z0-9._-]{1,62}\})$"
    )
    """Prefix of every ledger key; if in braces, of Celery's keys, too (`celery_prefix`)."""
    sendcode_wait_replicas: int = Field(0, ge=0, le=5)
    """Replicas that must have an event or rows before they count as accepted.

    As many must have an attempt before its request leaves.
    """
    sendcode_ambiguous: Literal["resend-once", "hold"] = "resend-once"
    """What to do about an attempt whose outcome can no longer be proved."""
    sendcode_concurrency: int = Field(48, ge=1, le=1_000)
    """Threads of one worker process. Above twice the rate, one is always free for events."""
    sendcode_sweep_interval: float = Field(1, gt=0, le=1)
    """Seconds between a worker's sweeps for due jobs; the feed holds two seconds of work."""
    sendcode_lease: float = Field(10, ge=0.5, le=3_600, validate_default=True)
    """Seconds until a job whose worker is silent is due again; 2 or 3 if the worker was killed."""
    sendcode_backoff: float = Field(1, ge=0, le=60)
    """Seconds before the second attempt after a transient failure; grows from there."""
    sendcode_frequency_wait: Seconds = 300
    """Seconds before a number refused as "too often" is tried again; then three times as long."""
    sendcode_canary_interval: Seconds = 30
    """Seconds between the single tries of a halted account."""
    sendcode_retention_days: float = Field(30, gt=0, le=3_650)
    """Days that a finished job or batch is kept, and that its id protects from doubles."""
    sendcode_log_format: Literal["text", "json"] = "text"
    sendcode_log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""
    sendcode_countries: Digits = ""
    """Calling codes that codes may be sent to, comma-separated; empty for all."""
    sendcode_limit_number: Limits = "5/10m,10/d"
    sendcode_limit_range: Limits = "50/10m"
    sendcode_limit_country: Limits = "off"
    sendcode_limit_token: Limits = "off"  # noqa: S105 (no secret)
    sendcode_budget: Limits = "off"
    """Quotas of codes that events ask for: counts per span, refused or (`watch:`) only counted."""
    sendcode_line_types: Literal["refuse", "watch", "off"] = "refuse"
    """What to do with an event's number that gets no SMS or an expensive one: landline, toll-free,
    premium rate, shared cost, satellite."""
    sendcode_trusted: Digits = ""
    """Numbers or prefixes of numbers, with country code, that are exempt from all quotas."""
    sendcode_web_host: Annotated[str, BeforeValidator(_no_blank)] = "127.0.0.1"
    sendcode_web_port: int = Field(8030, ge=1, le=65_535)
    """Where `sendcode web` listens."""
    sendcode_trusted_proxy: Annotated[str, AfterValidator(_as_written(_read_networks))] = ""
    """Addresses or networks of proxies, comma-separated. Their X-Forwarded-User signs in to the
    console; their X-Forwarded-For and X-Forwarded-Proto are trusted. Empty for none."""
    sendcode_undo: float = Field(30, ge=0, le=3_600)
    """Seconds in which a person can undo a batch that they submitted in the console."""
    sendcode_confirm_above: int = Field(500, ge=0, le=10_000_000)
    """Number of codes above which a person must type that number in the console to confirm."""
    sendcode_metrics_port: Annotated[str, AfterValidator(_as_written(_read_listening))] = ""
    """Port, or `ADDRESS:PORT`, of a worker's own metrics and probes; a port alone is opened on
    loopback only. Empty: it opens none."""
    sendcode_webhook_private: bool = False
    """Whether webhooks may go to private addresses, also by plain http: not over the Internet."""
    sendcode_flower_user: Annotated[str, BeforeValidator(_no_blank)] = "sendcode"
    sendcode_flower_password: Secret | None = None

    _files: tuple[str, ...] = PrivateAttr(())
    _rereading: Rereading | None = PrivateAttr(None)

    @field_validator("sendcode_endpoint")
    @classmethod
    def _endpoint_is_allowed(cls, value: str, info: ValidationInfo) -> str:
        host = urlsplit(value).hostname or ""
        allowed = _parts(info.data.get("sendcode_endpoint_allowed", "").lower())
        if not (host.endswith(_VENDOR_DOMAIN) or is_loopback(host) or host in allowed):
            raise ValueError(
                f"its host is not one of *{_VENDOR_DOMAIN}, and would get credentials and numbers; "
                "if you mean it, name the host in SENDCODE_ENDPOINT_ALLOWED"
            )
        return value

    @field_validator("sendcode_lease")
    @classmethod
    def _recovery_fits_inside_the_guard(cls, value: float, info: ValidationInfo) -> float:
        if not info.data.keys() >= _LEASE_LIMITS:
            return value  # one of them is wrong, so the lease cannot be checked yet
        so_far = cls.model_construct(**info.data, sendcode_lease=value)
        # a call killed at its end, its recovery, and the time until the probe has surely arrived:
        # docs/decisions/0003-the-probe-window.md
        probe_s = so_far.recovery_s + 3 * so_far.sendcode_http_timeout + PROBE_SLACK_S
        if probe_s >= so_far.sendcode_phone_interval:
            raise ValueError(
                "a job must be recovered and probed well inside SENDCODE_PHONE_INTERVAL; shorten "
                "SENDCODE_LEASE, SENDCODE_SWEEP_INTERVAL or SENDCODE_HTTP_TIMEOUT"
            )
        return value

    @property
    def recovery_s(self) -> float:
        """Seconds from a worker's death to the job's next attempt, its wait for a slot included."""
        return self.sendcode_lease + 2 * self.sendcode_sweep_interval + PROBE_SLACK_S / 2

    @property
    def retention_ms(self) -> int:
        """Milliseconds that a finished job or batch is kept (`sendcode_retention_days`)."""
        return round(self.sendcode_retention_days * 86_400_000)

    @property
    def countries(self) -> frozenset[str]:
        """Calling codes that codes may be sent to; empty for all."""
        return frozenset(_read_digits(self.sendcode_countries))

    @property
    def trusted(self) -> list[str]:
        """Prefixes of the numbers that are exempt from all quotas."""
        return _read_digits(self.sendcode_trusted)

    @cached_property
    def trusted_proxies(self) -> list[IPv4Network | IPv6Network]:
        """The proxies whose forwarded headers are trusted."""
        return _read_networks(self.sendcode_trusted_proxy)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the settings come from, or would come from; none if built in a program."""
        return self._files

    @property
    def now(self) -> Settings:
        """The settings in their files now; of these, logins, keys and the log level take effect."""
        return self._rereading.latest() if self._rereading else self

    def read_again(self) -> None:
        """Read the files again within a second, even if they seem unchanged (SIGHUP)."""
        if self._rereading:
            self._rereading.request()

    @property
    def data_keys(self) -> tuple[tuple[str, bytes], ...]:
        """The data keys in the files now, each with its id; the first one encrypts.

        Raises:
            SettingsError: there is none.
        """
        secret = self.now.sendcode_data_keys
        if secret is None:
            raise SettingsError(missing(DATA_KEYS))
        return _read_data_keys(secret.get_secret_value())

    @cached_property
    def redis(self) -> RedisAddress:
        """Where Redis is and how to log in, from its URL; its login is the one in the files now."""
        address = RedisAddress.parse(self.redis_url)
        return replace(address, now=lambda: self.now.redis) if self._rereading else address

    @property
    def redis_url(self) -> str:
        """Return the Redis URL with its password; never show it."""
        return self.sendcode_redis_url.get_secret_value()

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Where a worker serves its metrics: `sendcode_metrics_port` as address and port."""
        return _read_listening(self.sendcode_metrics_port)

    @property
    def proxy_url(self) -> str | None:
        """Return the URL of `SENDCODE_PROXY` with its password; never show it."""
        return self.sendcode_proxy.get_secret_value() if self.sendcode_proxy else None

    def credentials(self) -> tuple[str, str, str | None]:
        """Return secret id, secret key and token, as the files have them now.

        Raises:
            SettingsError: one is missing.
        """
        now = self.now
        secret_id, secret_key = now.tencentcloud_secret_id, now.tencentcloud_secret_key
        if secret_id is None or secret_key is None:
            raise SettingsError(
                "\n".join(missing(field) for field in CREDENTIALS if getattr(now, field) is None)
            )
        token = now.tencentcloud_token
        return (
            secret_id.get_secret_value(),
            secret_key.get_secret_value(),
            token.get_secret_value() if token else None,
        )


def load_settings(
    env_file: str | os.PathLike[str] | None = ENV_FILE,
    *,
    required: Collection[str] = (),
    **overrides: Any,
) -> Settings:
    """Return the settings: `overrides`, then the environment, then `env_file`, then the defaults.

    They follow their files: see `Settings.now`.

    Raises:
        SettingsError: some are wrong, or `required` ones are missing; all of them are named,
            without their values.
    """

    def read() -> Settings:
        return _read(env_file, required, overrides)

    settings = read()
    settings._rereading = Rereading(settings, read)
    return settings


def _read(
    env_file: str | os.PathLike[str] | None, required: Collection[str], overrides: Mapping[str, Any]
) -> Settings:
    from_file, faults = read_env_file(env_file) if env_file is not None else ({}, [])
    is_whole = not faults  # a setting that seems missing may be in the unreadable file
    sources = [{name.upper(): value for name, value in os.environ.items() if value}, from_file]
    values: dict[str, Any] = {}
    files = [str(env_file)] if env_file is not None else []
    bad: set[str] = set()
    for field in Settings.model_fields:
        name = field.upper()
        source = next((each for each in sources if name in each or f"{name}_FILE" in each), {})
        if name in source:
            values[field] = source[name]
        elif f"{name}_FILE" in source:
            files.append(source[f"{name}_FILE"])
            try:
                values[field] = read_text(source[f"{name}_FILE"]).strip()
            except UnfitFileError as exc:
                faults.append(f"{name}_FILE: names a file that {exc}")
                bad.add(field)
            except OSError as exc:
                faults.append(f"{name}_FILE: cannot be read ({type(exc).__name__})")
                bad.add(field)
    values.update(overrides)
    if is_whole:
        faults += [missing(field) for field in required if field not in values.keys() | bad]
    try:
        settings = Settings(**values)
    except ValidationError as exc:
        faults += map(_fault, exc.errors())
    if faults:
        raise SettingsError("\n".join(faults))
    settings._files = tuple(files)
    return settings


def misspelt(env_file: str | None = ENV_FILE) -> dict[str, str]:
    """Return the variables named almost like a setting, each with what to do about it."""
    from_file = read_env_file(env_file)[0] if env_file is not None else {}
    known = [
        name for field in Settings.model_fields for name in (field.upper(), f"{field.upper()}_FILE")
    ]
    found: dict[str, str] = {}
    for name in [*(name.upper() for name, value in os.environ.items() if value), *from_file]:
        if not _LIKE_OURS.match(name) or name in known or name in _READ_ELSEWHERE:
            continue
        near = get_close_matches(name, known, 1, _NEAR)
        if near:
            found[name] = f"did you mean {near[0]}?"
        elif name.startswith("SENDCODE_") and not _KUBERNETES.search(name):
            found[name] = "the README lists the settings"
    return found


def settings_file() -> str | None:
    """Return the absolute path of the env file that is read here, if there is one."""
    return str(Path(ENV_FILE).absolute()) if is_file(ENV_FILE) else None


def exposed() -> dict[str, str]:
    """Return the files of settings and secrets that others can read, each with the remedy."""
    named = read_env_file(ENV_FILE)[0] | os.environ
    files = [ENV_FILE]
    files += [named.get(f"{field.upper()}_FILE", "") for field in Settings.model_fields]
    return {file: f"chmod go-r {file}" for file in files if file and is_exposed(file)}


def ignored_settings(settings: Settings) -> dict[str, str]:
    """Return the usual variables for proxies and certificates that are set but ignored here.

    Each comes with what to set instead.
    """
    if settings.sendcode_endpoint.startswith("http:"):
        return {}  # loopback needs none of them
    found: dict[str, str] = {}
    for ours, others in _OUR_SETTING_FOR.items():
        names = ", ".join(name for name in others if os.environ.get(name))
        if names and getattr(settings, ours.lower()) is None:
            found[names] = f"if the way to the API needs it, set {ours}"
    return found


def missing(field: str) -> str:
    """Return the error line for a missing setting."""
    name = field.upper()
    hint = "; `sendcode keys new` makes one" if field == DATA_KEYS else ""
    return f"{name}: missing; set it, or {name}_FILE to a file that holds it{hint}"


def _fault(error: Any) -> str:
    return f"{error['loc'][0].upper()}: {error['msg'].removeprefix('Value error, ')}"
