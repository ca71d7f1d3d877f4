"""One trace leads from where a code is accepted to the call of the API."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from redis import Redis

from config.settings import Settings
from demo.world import Process, environment_of, free_port
from jobs.job import Lane, SendCodeJob
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.publish import Publisher
from producer.tokens import Tokens
from tests.commands import SENDCODE, run_program
from tests.eavesdropper import unwrapped
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess

pytest.importorskip("opentelemetry.sdk")

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT, REFUSED, FOLLOWED, GARBAGE = "55501234", "99010001", "55501235", "55501236"
EXPORTER = """
import os
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

class Lines(SpanExporter):
    def export(self, spans):
        lines = "".join(span.to_json(indent=None) + "\\n" for span in spans)
        file = os.open(os.environ["SPANS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, lines.encode())
        os.close(file)
        return SpanExportResult.SUCCESS
"""
APPLICATION = f"""
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from producer import send_code

trace.set_tracer_provider(TracerProvider())
with trace.get_tracer("shop").start_as_current_span("sign-up") as span:
    send_code("852", "{FOLLOWED}", timeout=120)
print(format(span.get_span_context().trace_id, "032x"))
"""


@pytest.fixture
def tracing(settings: Settings, tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose spans are lines of the file SPANS."""
    (tmp_path / "lines.py").write_text(EXPORTER)
    info = tmp_path / "lines-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lines\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[opentelemetry_traces_exporter]\nlines = lines:Lines\n")
    return {
        "PYTHONPATH": f"{tmp_path}:{environment_of(settings)['PYTHONPATH']}",
        "OTEL_TRACES_EXPORTER": "lines",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "SPANS": str(tmp_path / "spans"),
    }


# a busy machine is no API that does not answer
@pytest.mark.settings(sendcode_http_timeout=10, sendcode_phone_interval=60)
@pytest.mark.usefixtures("sandbox")
def test_a_trace_leads_from_the_caller_to_the_api_and_names_nobody(
    settings: Settings,
    redis: Redis,
    ledger: Ledger,
    publisher: Publisher,
    tmp_path: Path,
    tracing: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
) -> None:
    def spans() -> list[dict[str, Any]]:
        file = Path(tracing["SPANS"])
        whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def span(name: str, job_id: str, **told: str) -> dict[str, Any]:
        """Return the job's span with these attributes: a busy machine has it try more than once."""
        wanted = {f"sendcode.{key}": value for key, value in {"job_id": job_id, **told}.items()}

        def found() -> list[dict[str, Any]]:
            named = [s for s in spans() if s["name"] == name]
            return [s for s in named if wanted.items() <= s["attributes"].items()]

        return wait_until(found, f"{name} of {job_id}")[0]

    _, token = Tokens(redis, settings).new("shop", ["send"])
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    web = [*SENDCODE, "web", "--port", str(port)]
    with Process("web", web, tmp_path, environment_of(settings, **tracing)) as process:
        process.wait_for("Uvicorn running", PATIENCE_S)

        def ask(number: str, traceparent: str) -> str:
            def accepted() -> str:
                answer = requests.post(
                    f"{url}/v1/codes?mistake={number}",
                    json={"country_code": "852", "phone_num": number, "reference": "Chan Tai Man"},
                    headers={
                        "Authorization": f"Bearer {token}",
                        "Idempotency-Key": f"signup of {traceparent}",
                        "traceparent": traceparent,
                    },
                    timeout=PATIENCE_S,
                )
                if answer.status_code == 503:  # so a busy machine says; the key makes it harmless
                    return ""
                assert answer.ok, answer.text
                return str(answer.json()["job_id"])

            return wait_until(accepted, "acceptance")

        sent = ask(SENT, f"00-{TRACE}-{CALLER}-01")
        requests.get(f"{url}/v1/codes/{SENT}", timeout=PATIENCE_S)
        refused = ask(REFUSED, f"00-{TRACE}-{CALLER}-01-{SENT}")
        garbage = SendCodeJob.for_event(PhoneNumber("852", GARBAGE), "garbage")
        ledger.submit(garbage, trace=f"00-{TRACE}-{CALLER}-01 {SENT}")
        publisher.publish([(Lane.EVENT, garbage.job_id)])
        command = [sys.executable, "-c", APPLICATION]
        application = run_program(command, environment_of(settings), cwd=tmp_path)
        assert application.exit_code == 0, application.err
        start_worker(**tracing)

        call = span("sendcode.attempt", sent, verdict="sent")
        [accepted] = wait_until(
            lambda: [s for s in spans() if s["context"]["span_id"] == call["parent_id"]],
            "the acceptance that the call follows",
        )
        assert accepted["name"] == "sendcode.accept"
        assert accepted["parent_id"] == f"0x{CALLER}"
        assert accepted["context"]["trace_id"] == call["context"]["trace_id"] == f"0x{TRACE}"
        assert call["attributes"]["sendcode.attempt"] >= 1
        assert call["attributes"]["sendcode.waited_ms"] >= 0
        assert call["resource"]["attributes"]["service.name"] == "sendcode-worker"

        failed = span("sendcode.attempt", refused, verdict="permanent")
        assert failed["context"]["trace_id"] != f"0x{TRACE}", "a traceparent that is none began one"
        assert failed["attributes"]["error.type"] == failed["attributes"]["sendcode.code"]
        assert failed["status"]["status_code"] == "ERROR"

        unfollowed = span("sendcode.attempt", garbage.job_id)
        assert unfollowed["parent_id"] is None, "what is no traceparent was followed"

        theirs = f"0x{application.out.strip()}"
        wait_until(
            lambda: any(s["context"]["trace_id"] == theirs for s in spans()),
            "the application's trace goes on",
        )

    assert {s["name"] for s in spans()} == {"sendcode.accept", "sendcode.attempt"}
    told = unwrapped(Path(tracing["SPANS"]).read_text())
    private = (SENT, REFUSED, FOLLOWED, GARBAGE, "Chan Tai Man", "signup of", "mistake")
    assert not [text for text in private if text in told]
