"""The description of the API: what the framework knows, and by hand what is served before it."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway_server.models import JobStatus

ERROR = {
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {
            "type": "object",
            "required": ["error_code", "message"],
            "properties": {
                "error_code": {"type": "string"},
                "message": {"type": "string"},
                "errors": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"pointer": {"type": "string"}, "message": {"type": "string"}},
                    },
                },
            },
        }
    },
}
CALL = {
    "type": "object",
    "required": ["prefab_id", "version", "function_name"],
    "properties": {
        "prefab_id": {"type": "string"},
        "version": {"type": "string", "description": "Three numbers, or `latest`: the newest that was not yanked."},
        "function_name": {"type": "string"},
        "inputs": {
            "type": "object",
            "properties": {
                "parameters": {"type": "object"},
                "files": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "array",
                        "items": {"type": "string", "pattern": "^s3://"},
                    },
                },
            },
        },
    },
}
_EXAMPLE = {
    "prefab_id": "echo",
    "version": "latest",
    "function_name": "echo",
    "inputs": {"parameters": {"text": "hello"}},
}
RUN_REQUEST = {
    "type": "object",
    "required": ["calls"],
    "properties": {
        "calls": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Call"}},
        "stream": {"type": "boolean", "description": "Absent: as the manifest says, for a single call."},
    },
}
RESULT = {
    "type": "object",
    "required": ["status", "output", "error", "job_id"],
    "properties": {
        "status": {"enum": ["SUCCESS", "FAILED"]},
        "output": {
            "type": ["object", "null"],
            "properties": {
                "status": {"type": "string"},
                "output": {"description": "What the function returned."},
                "files": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
            },
        },
        "error": {"type": ["object", "null"]},
        "job_id": {"type": "string"},
        "version": {"type": "string", "description": "The version that ran; there if one did."},
        "warning": {"type": "string", "description": "There if that version is deprecated or yanked: what to know."},
    },
}
RUN_ANSWER = {
    "type": "object",
    "required": ["job_id", "status", "results"],
    "properties": {
        "job_id": {"type": "string"},
        "status": {"enum": ["COMPLETED", "PARTIAL_SUCCESS", "FAILED"]},
        "results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}},
    },
}
HOW = {
    "retry": {
        "type": "object",
        "description": "Absent: as the manifest says.",
        "properties": {
            "attempts": {"type": "integer", "minimum": 1, "maximum": 10},
            "delay": {"type": "number", "minimum": 0, "maximum": 3600, "description": "Seconds; doubles each time."},
        },
        "additionalProperties": False,
    },
    "priority": {"type": "integer", "minimum": -10, "maximum": 10, "description": "Among the jobs of the same user."},
}
SUBMISSION = {
    "anyOf": [
        {"type": "object", "required": CALL["required"], "properties": {**CALL["properties"], **HOW}},  # type: ignore[dict-item]
        {
            "type": "object",
            "required": ["calls"],
            "properties": {
                "calls": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Call"}},
                **HOW,
            },
        },
    ]
}
SUBMITTED = {
    "type": "object",
    "required": ["job_id", "status"],
    "properties": {"job_id": {"type": "string"}, "status": {"enum": [status.value for status in JobStatus]}},
}
SCHEMAS = {
    "Error": ERROR,
    "Call": CALL,
    "RunRequest": RUN_REQUEST,
    "Result": RESULT,
    "RunAnswer": RUN_ANSWER,
    "Submission": SUBMISSION,
    "Submitted": SUBMITTED,
}
SECURITY = {
    "InternalToken": {"type": "apiKey", "in": "header", "name": "X-Internal-Token"},
    "ApiKey": {"type": "http", "scheme": "bearer"},
    "ApiKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
STATUSES = {
    "400": "A secret or the agent context is missing.",
    "401": "Nobody we know.",
    "403": "Somebody we know, who may not do this.",
    "404": "No such prefab, version, function or file.",
    "408": "The request stopped on its way.",
    "409": "In conflict with what is there.",
    "413": "Too many bytes.",
    "422": "The input is not valid; every violation is told.",
    "429": "The quota is used up.",
    "431": "Too many bytes of headers.",
    "500": "A mistake of the gateway.",
    "502": "The process that ran the function died.",
    "503": "Overloaded, or a part does not answer.",
    "504": "The deadline has passed.",
}
HTTP_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


def install(web: FastAPI) -> None:
    """Makes `/openapi.json` describe every route of the gateway."""

    def describe() -> dict[str, Any]:
        if web.openapi_schema is None:
            web.openapi_schema = _describe(web)
        return web.openapi_schema

    web.openapi = describe  # type: ignore[method-assign]


def _describe(web: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=web.title, version=web.version, routes=web.routes)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(SCHEMAS)
    components["securitySchemes"] = SECURITY
    document["security"] = [{name: []} for name in SECURITY] + [{}]
    for path in ("/v1/internal/run", "/v1/run"):
        document["paths"][path] = {"post": _run_operation(path)}
    document["paths"].setdefault("/v1/jobs", {})["post"] = _submit_operation()
    document["paths"]["/v1/jobs/{job_id}/events"] = {"get": _events_operation()}
    document["paths"]["/objects/{key}"] = {"get": _object_operation("get"), "put": _object_operation("put")}
    for operations in document["paths"].values():
        for method, operation in operations.items():
            if method in HTTP_METHODS:
                _add_errors(operation)
    return document


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}


def _content(name: str, example: dict[str, Any] | None = None) -> dict[str, Any]:
    shown = {} if example is None else {"example": example}  # what people begin with who try it out
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}, **shown}}


def _told(text: str, **more: Any) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string", **more}}


def _accepted() -> dict[str, Any]:
    headers = {"Location": _told("Where the job is."), "X-Job-Id": _told("Its id.")}
    return {"description": "Accepted as a job.", "headers": headers, "content": _content("Submitted")}


def _submit_operation() -> dict[str, Any]:
    return {
        "tags": ["jobs"],
        "summary": "Submit a call, or several as a batch, to be run whether anybody waits or not",
        "operationId": "submit",
        "parameters": [
            _header("Idempotency-Key", "The same key with the same body submits once."),
            _header("Cancel-After", "Deadline of the whole job from now on, such as 90s or 1500ms."),
        ],
        "requestBody": {"required": True, "content": _content("Submission", _EXAMPLE)},
        "responses": {"202": _accepted()},
    }


def _events_operation() -> dict[str, Any]:
    job_id = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}}
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {
        "tags": ["jobs"],
        "summary": "The events of a job, from the one after Last-Event-ID on, as they come",
        "operationId": "job_events",
        "parameters": [job_id, _header("Last-Event-ID", "The number of the last event that was seen.")],
        "responses": {"200": {"description": "Events; the last one is done or error.", "content": stream}},
    }


def _run_operation(path: str) -> dict[str, Any]:
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    success = {
        "description": "Results, or events.",
        "headers": {
            "X-Job-Id": _told("The job of the run."),
            "X-Prefab-Version": _told("Of a single call: the version that ran."),
            "X-Prefab-Warning": _told("There if that version has this mark.", enum=["deprecated", "yanked"]),
        },
        "content": {**_content("RunAnswer"), **stream},
    }
    return {
        "tags": ["calls"],
        "summary": "Run one function, stream it, or run a batch",
        "operationId": "run" if path == "/v1/internal/run" else "run_external",
        "parameters": [
            _header("Idempotency-Key", "The same key with the same body never runs a function twice."),
            _header("Cancel-After", "Deadline of the whole run, such as 90s or 1500ms."),
            _header("Prefer", "`respond-async` makes it a job; with `wait=SECONDS` only if it takes longer than that."),
        ],
        "requestBody": {"required": True, "content": _content("RunRequest", {"calls": [_EXAMPLE]})},
        "responses": {"200": success, "202": _accepted()},
    }


def _object_operation(method: str) -> dict[str, Any]:
    def parameter(name: str, where: str) -> dict[str, Any]:
        return {"name": name, "in": where, "required": True, "schema": {"type": "string"}}

    parameters = [parameter("key", "path"), parameter("expires", "query"), parameter("signature", "query")]
    operation: dict[str, Any] = {
        "tags": ["files"],
        "summary": f"{'Download' if method == 'get' else 'Upload'} one object through a signed URL",
        "operationId": f"{method}_object",
        "parameters": parameters,
        "security": [{}],
        "responses": {"200": {"description": "The bytes." if method == "get" else "Stored."}},
    }
    if method == "get":
        operation["responses"] |= {
            "206": {"description": "The bytes that Range asks for."},
            "304": {"description": "If-None-Match names what is there."},
            "416": {"description": "There are no bytes in this Range.", "content": _content("Error")},
        }
        operation["parameters"] += [_header("Range", "Bytes that are wanted: `bytes=0-99`.")]
    if method == "put":
        binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": binary}
    return operation


def _add_errors(operation: dict[str, Any]) -> None:
    responses = operation.setdefault("responses", {})
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status, description in STATUSES.items():
        if status not in responses or status == "422":
            responses[status] = {"description": description, "content": content}
