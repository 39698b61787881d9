"""The description of the API: what the framework knows, and by hand what is served before it."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

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
SCHEMAS = {"Error": ERROR, "Call": CALL, "RunRequest": RUN_REQUEST, "Result": RESULT, "RunAnswer": RUN_ANSWER}
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
    "409": "In conflict with what is there.",
    "413": "Too many bytes.",
    "422": "The input is not valid; every violation is told.",
    "429": "The quota is used up.",
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
    document["paths"]["/objects/{key}"] = {"get": _object_operation("get"), "put": _object_operation("put")}
    for operations in document["paths"].values():
        for method, operation in operations.items():
            if method in HTTP_METHODS:
                _add_errors(operation)
    return document


def _run_operation(path: str) -> dict[str, Any]:
    def header(name: str, text: str) -> dict[str, Any]:
        return {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}

    def content(name: str) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    def told(text: str, **more: Any) -> dict[str, Any]:
        return {"description": text, "schema": {"type": "string", **more}}

    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    success = {
        "description": "Results, or events.",
        "headers": {
            "X-Job-Id": told("The job of the run."),
            "X-Prefab-Version": told("Of a single call: the version that ran."),
            "X-Prefab-Warning": told("There if that version has this mark.", enum=["deprecated", "yanked"]),
        },
        "content": {**content("RunAnswer"), **stream},
    }
    return {
        "tags": ["calls"],
        "summary": "Run one function, stream it, or run a batch",
        "operationId": "run" if path == "/v1/internal/run" else "run_external",
        "parameters": [
            header("Idempotency-Key", "The same key with the same body never runs a function twice."),
            header("Cancel-After", "Deadline of the whole run, such as 90s or 1500ms."),
        ],
        "requestBody": {"required": True, "content": content("RunRequest")},
        "responses": {"200": success},
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
