"""`/docs`, a page made from `/openapi.json` that loads nothing from another host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse

from producer.web.console.frame import templates

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def page(request: Request) -> HTMLResponse:
    """Show the API's documentation."""
    return HTMLResponse(page_of(request.app))


@cache
def page_of(app: FastAPI) -> str:
    """Return the page in HTML, without scripts."""
    document = app.openapi()
    template = templates().get_template("docs.html")
    return template.render(info=document["info"], operations=list(_operations(document)))


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what the page shows of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield {
                "parameters": [],
                **operation,
                "method": method.upper(),
                "path": path,
                "body": list(_body(document, operation)),
                "answers": [
                    {**answer, "status": status, "examples": list(_examples(answer))}
                    for status, answer in sorted(operation["responses"].items())
                ],
            }


def _body(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a description for each kind of body: its fields and an example."""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = _resolved(document, content["schema"])
        examples = [content["example"]] if "example" in content else schema.get("examples", [])
        needed = schema.get("required", [])
        fields = [
            {
                "name": name,
                "is_required": name in needed,
                "description": field.get("description", ""),
            }
            for name, field in schema.get("properties", {}).items()
        ]
        yield {"kind": kind, "fields": fields, "examples": [_as_text(each) for each in examples]}


def _examples(answer: dict[str, Any]) -> Iterator[dict[str, str]]:
    for kind, content in answer.get("content", {}).items():
        yield {"kind": kind, "text": _as_text(content["example"])}


def _as_text(example: Any) -> str:
    if isinstance(example, str):
        return example
    return json.dumps(example, ensure_ascii=False, indent=2)


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found
