"""OpenTelemetry traces, if the operator has installed its SDK and named an exporter (OTEL_…).

One trace leads from where a code is accepted to the API. Its position travels in the job's record
as a W3C `traceparent`; nothing else of the caller's is kept: no `tracestate`, no baggage. No
attribute may hold a number, a name, a key or a reference; exception messages are left out.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from importlib.metadata import entry_points
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger("sendcode.tracing")

EXPORTERS = "OTEL_TRACES_EXPORTER"
_GROUP, _OTLP = "opentelemetry_traces_exporter", "otlp_proto_http"
_TRACEPARENT = re.compile(r"00-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})")


def set_up_tracing(service: str) -> None:
    """Export traces as the OTEL_… variables ask; without them, do and import nothing.

    For our own programs: `service` is their name unless OTEL_SERVICE_NAME is set. If it fails, a
    warning is logged, and codes are sent all the same.
    """
    names = [name.strip() for name in os.environ.get(EXPORTERS, "").split(",") if name.strip()]
    if not names or names == ["none"]:
        return
    try:
        from opentelemetry import trace  # noqa: PLC0415 (only those who trace pay for it)
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        resource = Resource.create()
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": service}))
        provider = TracerProvider(resource=resource)
        for name in names:
            (exporter,) = entry_points(group=_GROUP, name=_OTLP if name == "otlp" else name)
            provider.add_span_processor(BatchSpanProcessor(exporter.load()()))
        trace.set_tracer_provider(provider)
    except Exception as exc:  # noqa: BLE001 (an exporter may raise anything)
        log.warning(
            "no traces: %s=%s cannot be set up (%s); SDK and otlp: pip install 'sendcode[otel]'",
            EXPORTERS,
            ",".join(names),
            type(exc).__name__,
        )


class Step:
    """One span; as a context manager it ends with its block. Does nothing without tracing."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """Its position in the trace, for steps that follow elsewhere; "" without tracing."""
        if self._span is None or not (place := self._span.get_span_context()).is_valid:
            return ""
        return f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"

    def note(self, **attributes: str | float | None) -> None:
        """Add attributes, as `sendcode.NAME`; None and "" are left out."""
        if self._span is not None:
            for name, value in attributes.items():
                if value is not None and value != "":
                    self._span.set_attribute(f"sendcode.{name}", value)

    def fail(self, code: str) -> None:
        """Mark it as failed, with a code."""
        if self._span is not None:
            self._span.set_attribute("error.type", code)
            self._span.set_status(sys.modules["opentelemetry.trace"].StatusCode.ERROR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._span is not None:
            if kind is not None:
                self.fail(kind.__name__)
            self._span.end()


_NO_STEP = Step()


def step(name: str, kind: str, parent: str = "", began_ns: int | None = None) -> Step:
    """Begin a step of a trace, now or in the past (Unix ns).

    `kind`: of `opentelemetry.trace.SpanKind`. `parent`: the `traceparent` that it follows; if that
    is invalid or empty, the step follows this thread's current span.
    """
    api = _api()
    if api is None:
        return _NO_STEP
    context = None
    if place := _TRACEPARENT.fullmatch(parent):
        trace_id, span_id, flags = (int(part, 16) for part in place.groups())
        followed = api.SpanContext(trace_id, span_id, True, api.TraceFlags(flags & 1))
        context = api.set_span_in_context(api.NonRecordingSpan(followed))
    span = api.get_tracer("sendcode").start_span(
        name, context, api.SpanKind[kind], start_time=began_ns
    )
    return Step(span)


def _api() -> ModuleType | None:
    """Return OpenTelemetry's API if a provider is set up; else it is not even imported."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import trace  # noqa: PLC0415 (it waits if another thread is loading it)

    is_set_up = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    return trace if is_set_up else None
