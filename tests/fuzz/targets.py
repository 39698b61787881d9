"""The parsers that strangers' bytes come to, each with what may come out: a typed refusal, or a good value."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jwt
import orjson
from fuzz import hostile
from fuzz.archives import MANIFEST, archives, check_archive
from fuzz.inputs import broken, cut, json_text, like, pieces, text, value
from hypothesis import strategies as st

from gateway_runtime.protocol import FRAME_LIMIT, HEADER, FrameBuffer, Kind, frame
from gateway_sdk._failures import error_from_reply
from gateway_sdk._http1 import ProtocolError, Response
from gateway_sdk._sse import EventDecoder
from gateway_sdk.exceptions import GatewayError, InternalServerError
from gateway_server.api import asking, job_events, ranges, sse
from gateway_server.api.forms import FileForm
from gateway_server.calls import agent_wishes, events, texts
from gateway_server.calls.inputs import Validator, parse_run, parse_submission
from gateway_server.calls.outcomes import Outcome
from gateway_server.errors import GatewayFault, RuntimeCrashed, Unauthenticated
from gateway_server.files.keys import place_of
from gateway_server.files.names import LONGEST, Names, safe_name
from gateway_server.identity.signing import SigningKeys
from gateway_server.identity.tokens import ALGORITHM, Tokens
from gateway_server.models import Call
from gateway_server.prefabs.manifest import parse_manifest
from gateway_server.prefabs.problems import PackageError
from gateway_server.store.local_objects import object_path

MEGABYTE = 1 << 20


class Target(NamedTuple):
    """A parser, by what is given to it and what is looked at."""

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]


# Documents.


def check_manifest(raw: bytes) -> None:
    try:
        manifest = parse_manifest(raw)
    except PackageError as refusal:
        orjson.dumps([problem._asdict() for problem in refusal.problems])
        return
    orjson.dumps([problem._asdict() for problem in manifest.warnings])
    for function in manifest.functions:
        if function.disabled is None:
            orjson.dumps(dict(function.raw))
            validator = Validator(function)
            for parameters in ({}, {"a": "x"}, {"a": 10**18, "b": [1, "2"], "zz": None}):
                try:
                    validator.check(
                        Call(prefab_id="a", version="1", function_name="f", parameters=parameters, files={})
                    )
                except GatewayFault as fault:
                    orjson.dumps(fault.detail())


CALL = {
    "prefab_id": "a",
    "version": "1",
    "function_name": "f",
    "inputs": {"parameters": {"v": {}}, "files": {"i": ["s3://a/b"]}},
}
BODY = {"calls": [CALL], "stream": False, "priority": 1, "retry": {"attempts": 2, "delay": 1}}


def check_body(body: bytes) -> None:
    for parse in (parse_run, lambda *a, **o: parse_submission(*a, **o)[0]):
        try:
            request = parse(body, size_limit=MEGABYTE, batch_limit=5)
        except GatewayFault as fault:
            orjson.dumps(fault.detail())
            continue
        sent = json.loads(body)
        whole = sent.get("calls", [sent])
        for call, raw in zip(request.calls, whole, strict=True):
            if isinstance(call, GatewayFault):
                orjson.dumps(call.detail())
                continue
            orjson.dumps(call.parameters)
            if set(raw.get("inputs", {})) == {"parameters", "files"} and raw["inputs"]["parameters"] is not None:
                assert json.dumps(call.parameters) == json.dumps(raw["inputs"]["parameters"])


# Names, keys, addresses.


def check_name(name: str) -> None:
    safe = safe_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set("/\\\0\r\n\u2028\u202e")
    assert len(safe.encode()) <= LONGEST
    assert safe_name(safe) == safe
    names = Names()
    assert names.take(safe) == safe
    other = names.take(safe)
    assert other != safe
    assert len(other.encode()) <= LONGEST


def check_key(key: str) -> None:
    root = Path("/store/kept")
    path = object_path(root, key)
    assert path.is_relative_to(root)
    assert ".." not in path.parts
    place = place_of(key)
    if place is not None:
        assert key.split("/")[1] == place.user


def check_agent_url(url: str) -> None:
    try:
        kept = agent_wishes.checked_url(url)
    except GatewayFault as fault:
        orjson.dumps(fault.detail(), default=str) if "\ud800" not in url else None
        return
    parts, again = urlsplit(url), urlsplit(kept)
    assert (parts.hostname, parts.port) == (again.hostname, again.port)
    assert again.scheme in ("http", "https")
    assert "@" not in again.netloc
    assert not again.query
    assert kept.isascii()


# Headers.


def check_range(given: tuple[str, int]) -> None:
    header, size = given
    try:
        part = ranges.wanted(header, size)
    except ranges.Unsatisfiable:
        part = None
    assert part is None or 0 <= part[0] < part[1] <= size
    ranges.still_the_same(header, '"a"', 1.0)
    ranges.is_known(header, '"a"')


def check_asking(header: str) -> None:
    preference = asking.read_preference(header)
    assert 0 <= preference.wait <= asking.LONGEST_WAIT
    for parse in (asking.parse_duration, job_events._last_event):
        try:
            found = parse(header)
            assert found is None or found >= 0
        except GatewayFault as fault:
            fault.detail()


# Forms.

FORM = (
    b'--edge\r\nContent-Disposition: form-data; name="ttl"\r\n\r\n60\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    b"some\r\n--edg\r\ntext\r\n--edge--\r\n"
)
KIND = "multipart/form-data; boundary=edge"


def check_form(given: tuple[bytes, list[int], str]) -> None:
    body, at, kind = given
    found = [_read_form(kind, chunks) for chunks in ([body], cut(body, at))]
    assert found[0] == found[1]
    if body == FORM and kind == KIND:
        assert found[0] == (b"some\r\n--edg\r\ntext", "a.txt", {"ttl": "60"})


def _latin(text: str) -> str:
    """As a server reads the bytes of a header."""
    return text.encode("utf-8", "replace").decode("latin-1")


def _read_form(kind: str, chunks: list[bytes]) -> Any:
    async def arrive() -> Any:
        for chunk in chunks:
            yield chunk

    async def read() -> Any:
        form = FileForm(kind, arrive())
        content = b"".join([piece async for piece in form.file()])
        safe_name(form.filename)
        return content, form.filename, dict(form.fields)

    try:
        return asyncio.run(read())
    except GatewayFault as fault:
        orjson.dumps(fault.detail())
        return type(fault)


# Workers.


def check_frames(given: tuple[bytes, list[int]]) -> None:
    data, at = given
    found = [_read_frames(chunks) for chunks in ([data], cut(data, at))]
    assert found[0] == found[1]


def _read_frames(chunks: list[bytes]) -> Any:
    buffer, frames = FrameBuffer(), []
    for chunk in chunks:
        try:
            frames += buffer.feed(chunk)
        except ValueError:
            return "unusable"
        assert len(buffer._data) < HEADER.size + FRAME_LIMIT
    return frames


TYPES = ["start", "content", "progress", "done", "error", "log"]


def _utf8(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


EVENTS = st.one_of(
    broken(st.fixed_dictionaries({"type": st.sampled_from(TYPES), "data": value}).map(_utf8)),
    json_text,
)


def check_event(text: bytes) -> None:
    """What passes is one event for every reader, and ends nothing."""
    try:
        texts.check_event(text)
    except RuntimeCrashed:
        return
    for framed in (sse.frame(text), events._frames(7, [events.one_line(text)])):
        assert framed.endswith(b"\n\n")
        assert framed.count(b"\n\n") == 1
        assert b"\r" not in framed
        told = EventDecoder().feed(framed)
        assert len(told) == 1
        assert told[0].type.value in ("start", "content", "progress")


def check_result(text: bytes) -> None:
    """What passes is one value in the answer, and forges none beside it."""
    try:
        texts.check_result(text)
    except RuntimeCrashed:
        return
    outcome = Outcome(job_id="1", result=text, files={})
    whole = json.loads(outcome.envelope)
    assert set(whole) == {"status", "output", "files"}
    assert json.dumps(whole["output"]) == json.dumps(json.loads(text))
    (told,) = EventDecoder().feed(sse.frame(sse.end(outcome)))
    assert told.type.value == "done"


# The client's side.


def check_stream(given: tuple[bytes, list[int]]) -> None:
    data, at = given
    found = [_read_stream(chunks) for chunks in ([data], cut(data, at))]
    assert found[0] == found[1]


def _read_stream(chunks: list[bytes]) -> Any:
    decoder, told = EventDecoder(), []
    for chunk in chunks:
        try:
            told += decoder.feed(chunk)
        except InternalServerError:
            return "broken"
    return [repr(event) for event in told]


REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n"


def check_reply(given: tuple[bytes, list[int], str]) -> None:
    data, at, method = given
    found = [_read_reply(chunks, method) for chunks in ([data], cut(data, at))]
    assert found[0] == found[1]


def _read_reply(chunks: list[bytes], method: str) -> Any:
    response, body = Response(method), b""
    try:
        for chunk in chunks:
            if chunk:  # an empty one is the end of a connection, told otherwise
                body += response.feed(chunk)
        response.end()
    except ProtocolError:
        return "broken"
    return response.status, body, response.headers


REFUSAL = {
    "detail": {
        "error_code": "QUOTA_EXCEEDED",
        "message": "m",
        "errors": [{"pointer": "/a", "message": "m"}],
        "limit": 1,
        "used": 1,
        "reset_at": "t",
    }
}


def check_error(given: tuple[int, bytes, str]) -> None:
    status, body, header = given
    error = error_from_reply(status, {"retry-after": header, "content-type": header}, body, "GET http://host/")
    assert isinstance(error, GatewayError)
    assert str(error)


# Tokens.


class _AllUsers:
    def check_principal(self, _principal: Any) -> None:
        """Nobody is disabled."""


def _tokens() -> Tokens:
    signing = SigningKeys(None, None)  # type: ignore[arg-type]
    signing._keys = {"k": b"0" * 32}
    signing._current = "k"
    return Tokens(None, signing, _AllUsers())  # type: ignore[arg-type]


CLAIMS = {
    "sub": "ann",
    "exp": 1 << 40,
    "iat": 1.0,
    "agent": "a",
    "key": "k1",
    "prefabs": ["a"],
    "by": "admin",
    "job": "1",
    "root": "1",
    "tree": "1",
    "depth": 1,
    "deadline": 2.0,
}


def check_token(given: tuple[Any, Any, str]) -> None:
    """Also signed ones: whoever could sign could still not bring the gateway down."""
    claims, header, raw = given
    tokens = _tokens()
    candidates = [raw]
    try:
        candidates.append(jwt.encode(claims, b"0" * 32, ALGORITHM, headers={"kid": header}))
    except Exception:
        pass
    for token in candidates:
        try:
            principal = tokens.verify(token)
        except Unauthenticated:
            continue
        assert isinstance(principal.user, str)
        assert principal.agent is None or isinstance(principal.agent, str)
        assert isinstance(principal.depth, int)
        hash(principal)


key_parts = st.sampled_from(
    ["agent-outputs", "agent-inputs", "ann", "bob", "..", ".", "", "%2e%2e", "2025", "x", "a\\b", "\0", "é"]
)
keys = st.one_of(text, st.lists(st.one_of(key_parts, text), max_size=8).map("/".join))
urls = st.one_of(
    text,
    st.tuples(
        st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "//", "http:/", "http:\\\\"]),
        st.sampled_from(["", "a@", "a:b@", "127.0.0.1@"]),
        st.sampled_from(
            [
                "h",
                "127.1",
                "2130706433",
                "0x7f000001",
                "[::1]",
                "[::ffff:127.0.0.1]",
                "[",
                "h:0",
                "h:99999",
                "h:x",
                "１２７.0.0.1",
                "",
            ]
        ),
        text,
    ).map("".join),
)
_DATE = r"[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{1,5} [0-9]{2}:[0-9]{2}:[0-9]{2} [-+]?[A-Z0-9]{3,5}"
header_text = st.one_of(
    text,
    st.sampled_from([value for values in hostile.HEADERS.values() for value in values]),
    st.from_regex(r"bytes=[0-9]{0,22}-[0-9]{0,22}", fullmatch=True),
    st.from_regex(_DATE, fullmatch=True),
)
frames = st.lists(
    st.tuples(st.sampled_from(list(Kind)), st.integers(0, 3), st.binary(max_size=30)).map(lambda f: frame(*f)),
    max_size=4,
).map(b"".join)
streams = st.lists(
    st.sampled_from(
        [
            b'data: {"type":"content","data":"a"}',
            b"id: 7",
            b"\n",
            b"\r\n",
            b"\r",
            b": c",
            b"data:",
            b"event: x",
            b"id:\xb2",
        ]
    ),
    max_size=9,
).map(b"".join)

TARGETS: dict[str, Target] = {
    "archives": Target(archives, check_archive),
    "manifests": Target(st.one_of(like(MANIFEST).map(hostile.dump), json_text), check_manifest),
    "bodies": Target(
        st.one_of(
            like(BODY).map(hostile.dump), like(CALL).map(hostile.dump), broken(like(BODY).map(hostile.dump)), json_text
        ),
        check_body,
    ),
    "names": Target(text, check_name),
    "keys": Target(keys, check_key),
    "agent addresses": Target(urls, check_agent_url),
    "ranges": Target(st.tuples(header_text, st.integers(0, 1 << 40)), check_range),
    "headers": Target(header_text, check_asking),
    "forms": Target(
        st.tuples(broken(st.just(FORM)), pieces, st.one_of(st.just(KIND), header_text.map(_latin))), check_form
    ),
    "frames": Target(st.tuples(broken(frames), pieces), check_frames),
    "events": Target(EVENTS, check_event),
    "results": Target(json_text, check_result),
    "streams": Target(st.tuples(broken(streams), pieces), check_stream),
    "replies": Target(
        st.tuples(broken(st.sampled_from([REPLY, CHUNKED])), pieces, st.sampled_from(["GET", "HEAD"])), check_reply
    ),
    "errors": Target(
        st.tuples(st.integers(300, 599), st.one_of(json_text, like(REFUSAL).map(hostile.dump)), header_text),
        check_error,
    ),
    "tokens": Target(st.tuples(like(CLAIMS), st.one_of(st.just("k"), value), text.map(_latin)), check_token),
}
