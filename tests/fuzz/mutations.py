"""From a valid request to one that is wrong in some way, or only strange."""

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fuzz import hostile
from fuzz.wire import Request, quoted

METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get")
Place = tuple[Any, Any]


def mutate(request: Request, rng: random.Random) -> Request:
    """One to three changes."""
    changed = replace(request, note="", expected=None)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        how = rng.choice(_possible(changed))
        changed = replace(how(changed, rng), note=f"{changed.note} {how.__name__.strip('_')}".strip())
    return changed


def _possible(request: Request) -> list[Any]:
    found = [_header, _credentials, _query, _method]
    if request.parts:
        found += [_path, _path]
    if request.document is not None:
        found += [_json_value, _json_value, _json_missing, _json_extra, _json_text, _json_twice]
    if request.body is not None:
        found += [_bytes, _content_type]
    if request.body is not None and b"form-data" in request.body:
        found += [_form, _form, _form]
    return found


def _header(request: Request, rng: random.Random) -> Request:
    name = rng.choice(list(hostile.HEADERS))
    value = rng.choice(hostile.HEADERS[name])
    rest = request.headers
    if rng.random() < 0.7:
        rest = tuple(pair for pair in rest if pair[0].lower() != name.lower())
    return replace(request, headers=(*rest, (name, value)))


def _credentials(request: Request, rng: random.Random) -> Request:
    names = {"authorization", "x-internal-token", "x-api-key"}
    mine = [pair for pair in request.headers if pair[0].lower() in names]
    rest = tuple(pair for pair in request.headers if pair not in mine)
    if not mine or rng.random() < 0.3:
        return replace(request, headers=rest)
    name, proof = rng.choice(mine)
    proof = proof or "x"
    at = rng.randrange(len(proof))
    forged = rng.choice([proof[:at], proof[:at] + "A" + proof[at + 1 :], proof + proof, proof.upper()])
    return replace(request, headers=(*rest, (name, forged)))


def _query(request: Request, rng: random.Random) -> Request:
    query = list(request.query)
    what = rng.randrange(4)
    if query and what == 0:
        query.pop(rng.randrange(len(query)))
    elif query and what == 1:
        at = rng.randrange(len(query))
        query[at] = (query[at][0], _raw(rng))
    elif query and what == 2:
        query.append(rng.choice(query))
    else:
        name = rng.choice(
            ["limit", "cursor", "user", "prefix", "wait", "status", "version", "q", "by", "area", "", "x"]
        )
        query.append((name, _raw(rng)))
    return replace(request, query=tuple(query))


def _raw(rng: random.Random) -> str:
    found = quoted(rng.choice(hostile.TEXTS)) if rng.random() < 0.8 else rng.choice(hostile.RAW_SEGMENTS)
    return found[:20_000]


def _path(request: Request, rng: random.Random) -> Request:
    name = rng.choice(list(request.parts))
    return replace(request, parts={**request.parts, name: _raw(rng)})


def _method(request: Request, rng: random.Random) -> Request:
    return replace(request, method=rng.choice(METHODS))


def _content_type(request: Request, rng: random.Random) -> Request:
    rest = tuple(pair for pair in request.headers if pair[0].lower() != "content-type")
    kinds = hostile.HEADERS["Content-Type"]
    return replace(request, headers=(*rest, *([("Content-Type", rng.choice(kinds))] if rng.random() < 0.8 else [])))


def _places(document: Any) -> Iterator[Place]:
    """Every value of a document, as its container and its name there."""
    pairs = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for name, inner in pairs:
        yield document, name
        yield from _places(inner)


def _somewhere(request: Request, rng: random.Random) -> tuple[Any, Place | None]:
    document = copy.deepcopy(request.document)
    places = list(_places(document))[:200]
    return document, rng.choice(places) if places else None


def _said(request: Request, document: Any) -> Request:
    return replace(request, document=document, body=hostile.dump(document))


def _json_value(request: Request, rng: random.Random) -> Request:
    document, place = _somewhere(request, rng)
    if place is None:
        return _said(request, hostile.value(rng))
    place[0][place[1]] = hostile.value(rng)
    return _said(request, document)


def _json_missing(request: Request, rng: random.Random) -> Request:
    document, place = _somewhere(request, rng)
    if place is not None:
        del place[0][place[1]]
    return _said(request, document)


def _json_extra(request: Request, rng: random.Random) -> Request:
    document, place = _somewhere(request, rng)
    inside = place[0] if place is not None else document
    if isinstance(inside, dict):
        inside[rng.choice(hostile.TEXTS)] = hostile.value(rng)
    elif isinstance(inside, list):
        inside.append(hostile.value(rng))
    return _said(request, document)


def _json_text(request: Request, rng: random.Random) -> Request:
    return replace(request, body=rng.choice(hostile.RAW_JSON))


def _json_twice(request: Request, rng: random.Random) -> Request:
    """One name of an object stands there twice."""
    document, place = _somewhere(request, rng)
    if place is None or not isinstance(place[0], dict):
        return request
    inside, name = place
    again = json.dumps(name) + ":" + json.dumps(hostile.value(rng))
    inside["@@"] = 0
    return replace(request, body=json.dumps(document).replace('"@@": 0', again).encode())


def _bytes(request: Request, rng: random.Random) -> Request:
    body = bytearray(request.body or b"")
    for _ in range(rng.choice([1, 1, 4])):
        at = rng.randrange(len(body) + 1)
        what = rng.randrange(3)
        if what == 0:
            body[at : at + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            del body[at : at + rng.choice([1, 10, 1000])]
        else:
            body[at:at] = rng.randbytes(rng.choice([1, 8, 600]))
    return replace(request, body=bytes(body), document=None)


def _form(request: Request, rng: random.Random) -> Request:
    body = request.body or b""
    boundary = body.partition(b"\r\n")[0]
    again = boundary + b'\r\nContent-Disposition: form-data; name="file"; filename="b"\r\n\r\nx\r\n'
    text = rng.choice(hostile.TEXTS).encode("utf-8", "surrogatepass")

    def field(name: bytes, value: bytes) -> bytes:
        return boundary + b'\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"

    changed = rng.choice(
        [
            body[: len(body) // 2],
            body.replace(b"--\r\n", b""),
            body.replace(b"\r\n", b"\n"),
            body.replace(b'name="file"', b'name="other"'),
            body.replace(b'name="file"', b"name=file"),
            body.replace(b"filename=", b"filename*=utf-8''%ff; x="),
            body.replace(b'filename="', b'filename="' + text),
            body.replace(b"Content-Disposition", b"Content-Disposition" * 50),
            again + body,
            body.replace(boundary + b"--", again + boundary + b"--"),
            field(b"ttl", text) + body,
            field(b"session_id", text) + body,
            field(b"settings", hostile.dump(hostile.value(rng))) + body,
            field(b"f", b"v") * 150 + body,
            boundary + b"\r\n" + b"X-Long: " + b"h" * 70_000 + body[len(boundary) :],
        ]
    )
    return replace(request, body=changed, document=None)
