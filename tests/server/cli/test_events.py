"""The events of a stream as the commands read them."""

import json

import httpx

from gateway_server.cli import http


def test_a_text_may_hold_what_ends_lines_elsewhere():
    told = [{"type": "progress", "data": f"before{letter}after"} for letter in "\u2028\u2029\x85\x1c"]
    body = b"".join(b"data: %b\n\n: keep-alive\n\n" % json.dumps(one, ensure_ascii=False).encode() for one in told)
    assert list(http.events(httpx.Response(200, content=body))) == told
    cut = httpx.Response(200, content=(body[at : at + 1] for at in range(len(body))))
    assert list(http.events(cut)) == told
