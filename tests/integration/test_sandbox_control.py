"""The control plane, and the sandbox as thread and as process."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from demo.world import SandboxProcess, WorldError, environment_of
from sandbox.api import Api
from sandbox.numbers import MAGIC_NUMBERS
from sandbox.server import answer_control
from sandbox.settings import Settings
from sandbox.signature import Credentials
from sandbox.wire import Request
from tests.commands import Ran, run_program
from tests.forked import ForkedSandbox
from tests.sandbox import Sandbox
from tests.sandbox_calls import plain_socket, post, read_reply

THROTTLED = "RequestLimitExceeded"


def run(*options: str, folder: Path, **environment: str) -> Ran:
    command = [sys.executable, "-P", "-m", "sandbox", *options]
    return run_program(command, environment_of(None, **environment), cwd=folder)


def test_stats_tell_what_was_seen_and_done() -> None:
    with Sandbox(rate_limit=0, phone_interval=60) as sandbox:
        for number in ("51230001", "51230001", "99010001", "51230002"):
            post(sandbox.url, number)
        sandbox.change(rate_limit=0.01)  # one in any hundred seconds
        for number in ("51230003", "51230004"):
            post(sandbox.url, number)

        stats = sandbox.stats(arrivals=True)

    assert stats["requests"] == len(stats["arrivals"]) == 6
    assert stats["accepted_per_number"] == {"85251230001": 1, "85251230002": 1, "85251230003": 1}
    assert (stats["accepted"], stats["accepted_numbers"], stats["doubled"]) == (3, 3, 0)
    assert (stats["refused_interval"], stats["rejected_rate_limit"]) == (1, 1)
    assert 1 <= stats["most_in_any_second"] <= 6
    assert stats["codes"] == {
        "OK": 3,
        "FailedOperation.SendVerifyCodeLimit60": 1,
        "FailedOperation.PhoneBindUpper": 1,
        THROTTLED: 1,
    }
    assert [number for _, number, _ in stats["arrivals"]][-1] == "85251230004"
    assert stats["since"] <= stats["arrivals"][0][0] <= stats["now"]


def test_the_long_parts_of_the_stats_can_be_left_out() -> None:
    with Sandbox() as sandbox:
        stats = sandbox.stats(numbers=False)

    assert not {"accepted_per_number", "arrivals"} & stats.keys()


def test_settings_can_be_read_and_changed_while_it_runs() -> None:
    with Sandbox(rate_limit=1) as sandbox:
        sandbox.change(rate_limit=0, account_state={"behaviour": "LimitExceeded", "requests": 1})

        codes = [post(sandbox.url, f"5123000{n}").code for n in range(3)]

        assert codes == ["LimitExceeded", None, None]
        assert sandbox.settings()["account_state"] is None
        assert sandbox.settings()["rate_limit"] == 0


def test_a_wrong_setting_is_refused_with_its_name_and_changes_nothing() -> None:
    with Sandbox(rate_limit=7) as sandbox:
        with pytest.raises(ValueError, match=r"phone_interval: .* greater than or equal to 0"):
            sandbox.change(rate_limit=9, phone_interval=-1)

        assert sandbox.settings()["rate_limit"] == 7


@pytest.mark.parametrize("body", [b"", b"[]", b"{"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    head = f"POST /_sandbox/settings HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"

    with Sandbox() as sandbox, plain_socket(sandbox.url) as sock:
        sock.sendall(head.encode() + body)

        assert read_reply(sock).status == 400


def test_an_unknown_place_is_not_found() -> None:
    with Sandbox() as sandbox, plain_socket(sandbox.url) as sock:
        sock.sendall(b"GET /_sandbox/nothing HTTP/1.1\r\nHost: a\r\n\r\n")

        assert read_reply(sock).status == 404


def test_a_caller_from_elsewhere_sees_nothing_of_the_control_plane() -> None:
    api = Api(Credentials(), Settings(), seed=0, started_ns=0)
    request = Request("GET", "/_sandbox/stats", {"host": "a"})

    status, document = answer_control(api, request, "192.0.2.1")

    assert (status, list(document)) == (403, ["error"])


def test_reset_forgets_numbers_and_counts() -> None:
    with Sandbox() as sandbox:
        post(sandbox.url, "51230001")

        sandbox.reset()

        assert sandbox.stats()["requests"] == 0
        assert post(sandbox.url, "51230001").code is None


def test_a_stopped_sandbox_refuses_connections_and_its_port_can_be_taken_again() -> None:
    with Sandbox() as sandbox:
        url = sandbox.url
    port = int(url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        post(url, "51230001")

    with Sandbox(port=port) as again:
        assert post(again.url, "51230001").code is None


def test_stopping_drops_the_connections_that_are_still_open() -> None:
    with Sandbox() as sandbox, plain_socket(sandbox.url) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\n")

        sandbox.stop()

        with suppress(ConnectionResetError):  # or closed, if its bytes had been read by then
            assert sock.recv(1) == b""


def test_a_taken_port_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match="in use"), Sandbox(port=port):
            pass


# As a process


def test_the_process_prints_where_it_listens_and_ends_on_sigterm(tmp_path: Path) -> None:
    options = ("--rate-limit", "2.5", "--phone-interval", "6")
    with SandboxProcess(*options, folder=tmp_path) as sandbox:
        assert post(sandbox.url, "51230001").code is None
        settings = sandbox.settings()

        assert (settings["rate_limit"], settings["phone_interval"]) == (2.5, 6)
        assert sandbox.stop() == 0


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        with pytest.raises(WorldError, match=r"in use"):
            ForkedSandbox("--port", port, folder=tmp_path)
    assert (tmp_path / "sandbox.log").stat().st_mode & 0o077 == 0


def test_the_process_ends_on_sigint_too(tmp_path: Path) -> None:
    with ForkedSandbox(folder=tmp_path) as sandbox:
        os.kill(sandbox.pid, signal.SIGINT)

        assert sandbox.wait() == 0


def test_the_process_takes_its_credentials_from_the_environment(tmp_path: Path) -> None:
    other_ones = Credentials("AKIDOTHER", "OTHERKEY")
    with ForkedSandbox(folder=tmp_path, credentials=other_ones) as sandbox:
        other = {"secret_id": "AKIDOTHER", "secret_key": "OTHERKEY"}

        assert post(sandbox.url, "51230001").code == "AuthFailure.SecretIdNotFound"
        assert post(sandbox.url, "51230001", **other).code is None


def test_options_for_latency_faults_and_seed_are_taken(tmp_path: Path) -> None:
    delays = ["--latency-ms", "1", "--jitter-ms", "2", "--answer-ms", "60-160"]
    others = ["--seed", "4", "--clock-skew-s", "-5", "--counts-at-end", "--closes"]
    faults = ["--fault", "InternalError=0.5", "--fault", "reset-after=0.25"]

    with ForkedSandbox(*delays, *others, *faults, folder=tmp_path) as sandbox:
        settings = sandbox.settings()
    names = ("latency_ms", "jitter_ms", "answer_ms", "clock_skew_s")
    assert [settings[name] for name in names] == [1, 2, "60-160", -5]
    assert settings["counts_at_end"]
    assert settings["closes"]
    assert settings["faults"] == {"InternalError": 0.5, "reset-after": 0.25}


def test_the_magic_numbers_can_be_listed(tmp_path: Path) -> None:
    table = run("--list-numbers", folder=tmp_path).out

    listed = [line.split()[:2] for line in table.splitlines() if line and line[0] != "#"]
    assert listed == [[row.prefix, row.behaviour] for row in MAGIC_NUMBERS]


@pytest.mark.parametrize(
    "options",
    [
        ("--fault", "InternalError"),
        ("--fault", "no-such=0.1"),
        ("--fault", "InternalError=often"),
        ("--fault", "InternalError=2"),
        ("--rate-limit", "-1"),
        ("--rate-limit", "nan"),
        ("--port", "many"),
        ("--answer-ms", "soon"),
    ],
)
def test_a_wrong_option_ends_it_with_2_and_one_line_that_says_why(
    options: tuple[str, str], tmp_path: Path
) -> None:
    ended = run(*options, folder=tmp_path)

    assert ended.exit_code == 2
    assert "error: " in ended.err.splitlines()[-1]


def test_a_port_that_is_taken_ends_it_with_1_and_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run("--port", str(taken.getsockname()[1]), folder=tmp_path)

    assert ended.exit_code == 1
    assert len(ended.err.splitlines()) == 1


def test_the_help_does_not_show_the_secret_key_of_the_environment(tmp_path: Path) -> None:
    real = {"TENCENTCLOUD_SECRET_ID": "AKIDREAL", "TENCENTCLOUD_SECRET_KEY": "REALKEY"}
    ended = run("--help", folder=tmp_path, **real)

    assert ended.exit_code == 0
    assert "REAL" not in ended.out
