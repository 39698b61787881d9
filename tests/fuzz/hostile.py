"""Values, texts and bytes that programs stumble over."""

import json
import random
from typing import Any

NUMBERS: list[Any] = [
    0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64 - 1, 2**64, 10**30, 10**400, 0.1, -0.0, 1e308, 5e-324,
]  # fmt: skip
TEXTS = [
    "", " ", "a", ".", "..", "../../etc/passwd", "..\\..\\x", "/etc/passwd", "C:\\x", "CON", "nul.txt", "a/b", "a\\b",
    "\0", "a\0b", "\r\nX-Evil: 1", "\n\ndata: {}", "a\u2028b", "\u202egpj.exe", "\ufeff", "é", "e\u0301", "名前.txt",
    "😀" * 70, "x" * 300, "y" * 70_000, "-rf", "--help", "$(id)", "`id`", "' OR 1=1 --", "%00", "%2e%2e%2f", "%", "%zz",
    "latest", "1.0.0", "null", "true", "NaN", "1e999", "9" * 400, "0x10", "１２", "-1", "s3://", "s3://other/x",
    "s3://agent-builder/agent-outputs/bob/helper/2025/01/01/1-x", "s3://agent-builder/../x", "http://127.0.0.1:1/",
    "<script>", "\u007f", "\x1b[31m", "a" * 64, "a" * 65, ";", "a;b=c", '"', "*", "?", "#", "&a=b", "[1]", "{}", "\ud800",
]  # fmt: skip
"""The last one is no text at all, as UTF-8 has none for it."""
RAW_SEGMENTS = [
    "%ff",
    "%c0%ae",
    "%00",
    "%2e%2e",
    "..",
    ".",
    "%",
    "%zz",
    "%252e",
    "a%2fb",
    ";a",
    "a%0d%0ab",
    "+",
    "%ED%A0%80",
]
RAW_JSON = [
    b"", b" ", b"null", b"true", b"0", b'""', b"[]", b"{}", b"{", b'{"a"', b'{"a":}', b"[1,]", b"NaN", b'{"a":NaN}',
    b'{"a":Infinity}', b'{"a":1e400}', b'{"a":-1e400}', b'{"a":"\\ud800"}', b'{"a":"\xff"}', b'{"a":"\x00"}',
    b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b"{}{}", b"{'a':1}", b"{}//", b"\x00", b"[" * 900 + b"]" * 900,
    b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"a":' + b"9" * 5000 + b"}", b'{"a":0.' + b"1" * 5000 + b"}",
]  # fmt: skip
HEADERS = {
    "Idempotency-Key": ["", " ", "k" * 255, "k" * 256, "k" * 5000, "é", "a b", "\x7f", "same"],
    "Cancel-After": ["", "0", "0s", "1ms", "-1s", "1e9s", "999999999s", "9999999999s", "1.5s", "s", "nan", "١s", "5s, 5s"],
    "Prefer": ["respond-async", "wait=0", "wait=1", "wait=999999999", "respond-async, wait=1", "=,;", "wait=x", "return=minimal"],
    "Last-Event-ID": ["0", "1", "-1", "x", "9" * 18, "9" * 400, "1.5", "١"],
    "Range": ["bytes=0-0", "bytes=-1", "bytes=5-1", "bytes=0-,1-", "bytes=99999999999999999999-", "bytes=", "lines=0-1", "bytes=-0"],
    "If-None-Match": ["*", '"x"', 'W/"x"', ","],
    "If-Range": ['"x"', "Mon, 99 Xyz 0000 99:99:99 GMT", "x", "Thu, 01 Jan 1970 00:00:00 -9999", ""],
    "Accept": ["text/event-stream", "image/png", "*/*;q=0", "", ","],
    "Content-Type": ["text/plain", "application/xml", "application/json; charset=utf-16", "multipart/form-data", "", "a/b/c"],
    "Content-Encoding": ["gzip", "br"],
    "Content-Length": ["-1", "x", "0x10", "99999999999999999999", "1, 1"],
    "Transfer-Encoding": ["gzip", "identity", "chunked, chunked", "xchunked"],
    "Expect": ["100-continue", "200-ok"],
    "Upgrade": ["websocket", "h2c"],
    "X-Forwarded-For": ["127.0.0.1", "x"],
    "X-HTTP-Method-Override": ["DELETE"],
    "Host": ["evil.example", ""],
    "Origin": ["https://evil.example", "null"],
    "Cookie": ["a=b; c", "=" * 5000],
    "Authorization": ["Bearer", "Bearer  ", "Basic eDp5", "Bearer sk-x", "Bearer a.b.c", "bearer " + "x" * 9000, "é"],
    "X-Internal-Token": ["", "a.b.c", "sk-x", "eyJhbGciOiJub25lIn0.e30.", "é"],
    "X-Padding": ["p" * 30_000, "p" * 70_000, "\t", "ÿ"],
}  # fmt: skip


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value, some of them large, odd or deep."""
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind in (2, 3):
        return rng.choice(TEXTS)
    if kind == 4:
        return rng.choice([[], {}, [[]], {"": {}}, "1", [0] * 2000])
    if kind == 5:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 6:
        return {rng.choice(TEXTS[:40]): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    nested: Any = 1
    for _ in range(rng.choice([5, 60, 130, 300])):
        nested = [nested] if rng.random() < 0.5 else {"n": nested}
    return nested


def text(rng: random.Random) -> str:
    """A text that can be sent as UTF-8."""
    return rng.choice(TEXTS[:-1])


def dump(document: Any) -> bytes:
    """As JSON, numbers of any size and lone surrogates included."""
    return json.dumps(document, ensure_ascii=True).encode()
