"""What is said when Redis cannot be used."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path

import pytest
import redis
import trustme
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)
from redis.sentinel import MasterNotFoundError

import jobs
import worker
from config.settings import Settings, load_settings
from config.unavailable import RedisUnavailableError, in_words, will_not_pass
from jobs.server import LEDGER

PLACE = "redis://127.0.0.1:6379/0"
HERE = Settings()
NOT_HERE = "a non local key in a cluster node"
TOLD = "start it, or set SENDCODE_REDIS_URL"


def caused_by(cause: OSError, text: str = "Error 1 connecting") -> redis.ConnectionError:
    error = redis.ConnectionError(text)
    error.__cause__ = cause
    return error


def distrust(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def no_primary(cause: redis.RedisError | None) -> MasterNotFoundError:
    error = MasterNotFoundError("no Sentinel could be asked")
    error.__cause__ = cause
    return error


NO_MASTER = redis.ResponseError("No such master with that name")
NO_SENTINEL = redis.ResponseError("unknown command 'SENTINEL', with args beginning with: 'MASTER'")
LAST = "is not found: the last Sentinel that was asked "


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (caused_by(ConnectionRefusedError(111, "refused")), "cannot be reached"),
        (caused_by(OSError(113, "No route to host")), "cannot be reached from here"),
        (caused_by(socket.gaierror(-2, "unknown")), "has a host name that cannot be resolved"),
        (caused_by(ConnectionResetError(104, "reset")), "closed the connection"),
        (redis.ConnectionError("Connection closed by server."), "closed the connection"),
        (redis.ConnectionError("max number of clients reached"), "has no connection left"),
        (redis.ConnectionError("No connection available."), "is too slow for all the threads"),
        (redis.TimeoutError("Timeout reading from socket"), "does not answer in time"),
        (caused_by(TimeoutError("The handshake operation timed out")), "does not speak TLS"),
        (caused_by(ssl.SSLError(1, "WRONG_VERSION_NUMBER")), "does not speak TLS on this port"),
        (caused_by(ssl.SSLError(1, "CERTIFICATE_REQUIRED")), "asks for a client certificate"),
        (caused_by(ssl.SSLError(1, "TLSV1_ALERT_UNKNOWN_CA")), "refuses our certificate"),
        (caused_by(ssl.SSLEOFError(8, "EOF occurred")), "closed the TLS connection at once"),
        (caused_by(distrust(20)), "presents a certificate from an authority that"),
        (caused_by(distrust(18)), "presents a self-signed certificate"),
        (caused_by(distrust(10)), "presents a certificate that has expired"),
        (caused_by(distrust(62)), "presents a certificate for another name"),
        (caused_by(distrust(64)), "presents a certificate for another address"),
        (caused_by(distrust(99)), "presents a certificate that cannot be trusted"),
        (InvalidResponse("Protocol Error: b'HTTP/1.1 400'"), "is not Redis but another program"),
        (AuthenticationError("invalid username-password pair"), "refuses the login"),
        (AuthenticationError("Authentication required.", status_code="NOAUTH"), "requires a login"),
        (
            AuthenticationError("AUTH <password> called without any password configured for x"),
            "has no password set",
        ),
        (redis.ResponseError("WRONGPASS invalid username-password pair"), "refuses the login"),
        (redis.ResponseError("NOAUTH Authentication required."), "requires a login"),
        (
            NoPermissionError("User u has no permissions to run the 'script|load' command"),
            "refuses this user the command SCRIPT LOAD",
        ),
        (NoPermissionError("No permissions to access a key"), "refuses this user a key that"),
        (NoPermissionError("No permissions to access a channel"), "refuses this user a channel"),
        (
            redis.ResponseError("ACL failure in script: No permissions to access a key script: x"),
            "refuses this user a key that",
        ),
        (
            redis.ResponseError("The user executing the script can't run this command or"),
            "refuses this user a command that",
        ),
        (
            redis.ResponseError("unknown command 'EVALSHA', with args beginning with: '5123'"),
            "does not know the command EVALSHA",
        ),
        (
            BusyLoadingError("Redis is loading the dataset", status_code="LOADING"),
            "is still loading",
        ),
        (OutOfMemoryError("command not allowed when used", status_code="OOM"), "is full"),
        (redis.ResponseError("OOM command not allowed when used memory"), "is full"),
        (
            ReadOnlyError("You can't write against a", status_code="READONLY"),
            "is a read-only replica",
        ),
        (redis.ResponseError("MISCONF Errors writing to the AOF file"), "cannot write to its disk"),
        (MovedError("3999 127.0.0.1:6381", status_code="MOVED"), "is in cluster mode, and"),
        (redis.ResponseError(f"Script attempted to access {NOT_HERE}"), "is in cluster mode, and"),
        (redis.ResponseError("SELECT is not allowed in cluster mode"), "is in cluster mode: it"),
        (redis.ResponseError("DB index is out of range"), "has no database with that number"),
        (redis.ResponseError("ERR something new"), "failed (ResponseError ERR)"),
        (no_primary(None), "has no primary that its Sentinels call healthy"),
        (no_primary(NO_MASTER), f"{LAST}watches no service of that name"),
        (no_primary(NO_SENTINEL), f"{LAST}is not a Sentinel"),
        (no_primary(caused_by(ConnectionRefusedError(111, "no"))), f"{LAST}cannot be reached"),
        (
            no_primary(AuthenticationError("Authentication required.", status_code="NOAUTH")),
            "is not found: its Sentinels want a login",
        ),
        (
            no_primary(AuthenticationError("invalid", status_code="WRONGPASS")),
            "is not found: its Sentinels refuse the login",
        ),
    ],
)
def test_each_cause_has_a_reason_and_a_remedy_of_its_own(
    error: redis.RedisError, reason: str
) -> None:
    said, remedy = in_words(error, HERE)

    assert said.startswith(f"Redis at {PLACE} {reason}")
    assert remedy
    line = str(RedisUnavailableError.from_redis(error, HERE))
    assert line == f"{said}: {remedy}"
    assert "\n" not in line
    is_away = reason == "cannot be reached" or reason.endswith("cannot be reached")
    assert ("start" in remedy) == is_away


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MovedError("3999 127.0.0.1:6381", status_code="MOVED"), "127.0.0.1:6381 is"),
        (ClusterDownError("Hash slot not served", status_code="CLUSTERDOWN"), "is down"),
        (AskError("3999 127.0.0.1:6381", status_code="ASK"), "moving sendcode's keys"),
    ],
)
def test_a_node_of_a_cluster_is_told_apart_from_the_one_that_has_the_keys(
    error: redis.RedisError, reason: str
) -> None:
    in_braces = HERE.model_copy(update={"sendcode_key_prefix": "{sendcode}"})

    assert reason in in_words(error, in_braces)[0]


def test_a_file_of_tls_that_does_not_fit_is_told_before_what_came_of_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    for name in ("ours", "other"):
        issued = authority.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
    (tmp_path / "empty").touch()

    def said(ca: str, certificate: str, key: str) -> str:
        names = {"ca_certs": ca, "certfile": certificate, "keyfile": key}
        query = "&".join(f"ssl_{name}={tmp_path}/{file}" for name, file in names.items())
        settings = load_settings(sendcode_redis_url=f"rediss://localhost/0?{query}")
        return in_words(caused_by(ssl.SSLError(1, "KEY_VALUES_MISMATCH")), settings)[0]

    assert "does not speak TLS" in said("ours.pem", "ours.pem", "ours.key")
    assert "ssl_certfile and ssl_keyfile" in said("ours.pem", "ours.pem", "other.key")
    assert "ssl_certfile and ssl_keyfile" in said("ours.pem", "empty", "ours.key")
    assert "ssl_ca_certs" in said("empty", "ours.pem", "ours.key")


def test_what_a_library_wraps_is_still_named() -> None:
    wrapped = OSError("kombu's own words")
    wrapped.__cause__ = NoPermissionError("User u has no permissions to run the 'sadd' command")

    assert "the command SADD" in in_words(wrapped, HERE)[0]


def test_what_redis_repeats_of_a_command_is_not_passed_on() -> None:
    error = redis.ResponseError("ERR unknown command 'x', with args beginning with: '18888888888'")

    assert "18888888888" not in str(RedisUnavailableError.from_redis(error, HERE))


def test_where_nobody_said_which_redis_a_person_is_sent_to_the_folder_that_says_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SENDCODE_REDIS_URL", raising=False)
    refused = caused_by(ConnectionRefusedError(111, "refused"))

    assert "this folder has no .env" in in_words(refused, load_settings())[1]

    (tmp_path / ".env").touch()
    assert in_words(refused, load_settings())[1] == TOLD
    (tmp_path / ".env").unlink()
    monkeypatch.setenv("SENDCODE_REDIS_URL", PLACE)
    assert in_words(refused, load_settings())[1] == TOLD


@pytest.mark.parametrize(
    ("error", "for_good"),
    [
        (AuthenticationError("invalid"), True),
        (NoPermissionError("No permissions to access a key"), True),
        (caused_by(distrust(20)), True),
        (InvalidResponse("Protocol Error"), True),
        (no_primary(NO_SENTINEL), True),
        (no_primary(NO_MASTER), False),
        (no_primary(AuthenticationError("Authentication required.")), True),
        (no_primary(caused_by(ConnectionRefusedError(111, "no"))), False),
        (caused_by(ConnectionRefusedError(111, "no")), False),
        (redis.ConnectionError("max number of clients reached"), False),
        (redis.ResponseError("CROSSSLOT Keys in request"), True),
        (BusyLoadingError("loading"), False),
        (ReadOnlyError("You can't write against a", status_code="READONLY"), False),
    ],
)
def test_waiting_is_in_vain_where_settings_or_server_must_be_changed(
    error: redis.RedisError, for_good: bool
) -> None:
    assert will_not_pass(error) is for_good


def test_the_trial_knows_each_command_of_each_script() -> None:
    tried = {command.split(" ")[0] for command in LEDGER.split("|")}
    folders = [Path(package.__file__ or "").parent for package in (jobs, worker)]
    texts = [file.read_text() for folder in folders for file in folder.rglob("*.lua")]
    used = {name for text in texts for name in re.findall(r"""call\(["']([A-Z]+)""", text)}

    assert used - {"TIME", "PUBLISH"} <= tried, (
        "name it, with its arguments, in LEDGER of jobs/server.py"
    )
    assert len(used) > 30
