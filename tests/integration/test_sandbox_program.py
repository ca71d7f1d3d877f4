"""The sandbox as a program: what it says when it is started wrongly."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from demo.world import environment_of
from tests.commands import run_program
from tests.forked import ForkedSandbox, begin
from tests.waiting import PATIENCE_S
from tests.worker_process import TOP

SANDBOX = (sys.executable, "-m", "sandbox")


def run(*words: str, **environment: str) -> tuple[int, str, str]:
    ran = run_program([*SANDBOX, *words], environment_of(None, **environment), cwd=TOP)
    return ran.exit_code, ran.out, ran.err


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    code, _, told = run(f"--port={port}")

    assert code == 2
    assert "argument --port: must be 0 to 65535" in told


def test_it_serves_https_by_a_certificate_and_refuses_to_start_without(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "sandbox.pem"
    pem.write_bytes(authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes())
    trusting = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())

    with ForkedSandbox("--tls", str(pem), folder=tmp_path) as sandbox:
        place = urlsplit(sandbox.url)
        connection = HTTPSConnection(place.hostname or "", place.port, context=trusting)
        connection.request("GET", "/_sandbox/stats")
        status = connection.getresponse().status
        connection.close()
    code, _, told = run("--port", "0", "--tls", str(tmp_path / "absent"))

    assert place.scheme == "https"
    assert status == 200
    assert code == 1
    assert told == f"sendcode sandbox: --tls {tmp_path / 'absent'}: no such file or directory\n"


def test_an_address_that_it_cannot_have_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, told = run("--host", "127.0.0.1", "--port", str(port))

    assert code == 1
    assert told.startswith(f"sendcode sandbox: cannot listen on 127.0.0.1:{port}: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("--list-numbers",), ("--port", "0")], ids=" ".join)
def test_output_that_finds_no_room_is_told_as_such(
    words: tuple[str, ...], unbuffered: str, tmp_path: Path
) -> None:
    environment = environment_of(None, PYTHONUNBUFFERED=unbuffered)
    talk = tmp_path / "talk"
    with open("/dev/full", "wb") as full, talk.open("wb") as err, open(os.devnull, "rb") as nothing:
        files = nothing.fileno(), full.fileno(), err.fileno()
        code = begin([*SANDBOX, *words], TOP, environment, files).wait(PATIENCE_S)
    told = talk.read_text()

    assert code == 1
    assert told == "sendcode sandbox: standard output: no space left on device\n"


def test_help_names_the_command_and_shows_no_default_that_is_none() -> None:
    _, told, _ = run("--help", COLUMNS="200")

    assert told.startswith("usage: sendcode sandbox ")
    for nothing in ("None", "[]", "False"):
        assert f"(default: {nothing})" not in told
    assert "(default: 8020)" in told
