"""Whether an answer is one of those that the description promises."""

import re
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import orjson
from fuzz.wire import Answer, Request

from gateway_server import errors

CODES = frozenset(
    kind.code for kind in (errors.GatewayFault, *errors._kinds(errors.GatewayFault)) if kind is not errors.GatewayFault
)
TERMINAL = {"done", "error"}
_FRAME = re.compile(rb"(?:id: [0-9]+\n)?data: ([^\r\n]*)\Z")


class Judge:
    """Holds answers against `/openapi.json`."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._paths = description["paths"]
        self._components = {"components": description["components"]}
        self._validators: dict[str, Any] = {}
        self.operations = [(method.upper(), path) for path, operations in self._paths.items() for method in operations]

    def blame(self, request: Request, answer: Answer) -> list[str]:
        """Everything that is wrong with an answer."""
        if answer.status in (500, 501) or answer.status >= 505:
            return [f"{answer.status}: {answer.body[:300]!r}"]
        operation = self._paths[request.template].get(request.method.lower())
        if operation is None or not request.method.isupper():
            return [] if answer.status < 300 else self._blame_error(answer, is_head=request.method == "HEAD")
        documented = operation["responses"].get(str(answer.status)) or operation["responses"].get("default")
        if documented is None and answer.status == 405 and _is_another_path(request):
            return self._blame_error(answer)
        if documented is None:
            return [f"{answer.status} is not documented: {answer.body[:200]!r}"]
        if str(answer.status) not in operation["responses"]:
            return []  # whatever somebody else's program answers
        return self._blame_body(request, documented, answer)

    def _blame_body(self, request: Request, documented: dict[str, Any], answer: Answer) -> list[str]:
        content = documented.get("content")
        if request.method == "HEAD":
            return ["a body for HEAD"] if answer.body else []
        if answer.status >= 400 and content and "Error" in str(content):
            return self._blame_error(answer)
        if not content:
            return [f"a body with {answer.status}"] if answer.body and answer.status in (204, 304) else []
        if answer.kind not in content:
            return [f"content type {answer.kind!r} is not documented for {answer.status}"]
        if answer.kind == "application/json":
            return self._blame_json(content[answer.kind].get("schema", {}), answer.body)
        if answer.kind == "text/event-stream":
            return _blame_events(answer.body)
        return []

    def _blame_json(self, schema: dict[str, Any], body: bytes) -> list[str]:
        try:
            document = orjson.loads(body)
        except ValueError as error:
            return [f"no JSON ({error}): {body[:200]!r}"]
        key = str(schema)
        if key not in self._validators:
            self._validators[key] = jsonschema_rs.Draft202012Validator({**schema, **self._components})
        return [f"not as documented: {error.message[:300]}" for error in self._validators[key].iter_errors(document)][
            :3
        ]

    def _blame_error(self, answer: Answer, *, is_head: bool = False) -> list[str]:
        if is_head:
            return []
        if answer.kind != "application/json":
            return [f"an error {answer.status} as {answer.kind!r}: {answer.body[:200]!r}"]
        found = self._blame_json({"$ref": "#/components/schemas/Error"}, answer.body)
        if not found:
            code = answer.json()["detail"]["error_code"]
            if code not in CODES or code == "INTERNAL_SERVER_ERROR":
                found.append(f"error_code {code}")
        if answer.status == 405 and not answer.headers.get("allow"):
            found.append("no Allow")
        if answer.status in (429, 503) and not answer.headers.get("retry-after", "0").isdigit():
            found.append("Retry-After is no number")
        return found


def _is_another_path(request: Request) -> bool:
    """Whether a slash, however it is written, stands in a part of the path, or nothing does."""
    return any("/" in unquote(part) or not part for part in request.parts.values())


def _blame_events(body: bytes) -> list[str]:
    """A stream has frames of one line, each an object with a type, and exactly one that ends it, the last."""
    if not body.endswith(b"\n\n"):
        return [f"a stream that ends within a frame: {body[-100:]!r}"]
    kinds = []
    for frame in body[:-2].split(b"\n\n"):
        if frame.startswith(b":"):
            continue
        match = _FRAME.match(frame)
        if match is None:
            return [f"a frame of another form: {frame[:200]!r}"]
        try:
            event = orjson.loads(match[1])
        except ValueError:
            return [f"an event that is no JSON: {frame[:200]!r}"]
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            return [f"an event without a type: {frame[:200]!r}"]
        kinds.append(event["type"])
    if not kinds or kinds[-1] not in TERMINAL or TERMINAL & set(kinds[:-1]):
        return [f"a stream that does not end once: {kinds[-5:]}"]
    return []
