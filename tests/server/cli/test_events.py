"""The events of a stream as the commands read them."""

import json

import httpx

from gateway_sdk import GatewayClient, StreamEvent, StreamEventType
from gateway_server.cli import http
from gateway_server.cli.calling import Manner, show_events


def test_contents_that_are_no_texts_are_json_on_lines_of_their_own(capsys):
    told = [StreamEvent(StreamEventType.CONTENT, data) for data in ("a", {"n": None}, [True], "b", "c", 1)]
    done = StreamEvent(StreamEventType.DONE)
    show_events(GatewayClient("t"), [*told, done], Manner(is_stream=True, is_json=False), lambda: None)
    assert capsys.readouterr().out == 'a\n{"n": null}\n[true]\nbc\n1\n'


def test_a_text_may_hold_what_ends_lines_elsewhere():
    told = [{"type": "progress", "data": f"before{letter}after"} for letter in "\u2028\u2029\x85\x1c"]
    body = b"".join(b"data: %b\n\n: keep-alive\n\n" % json.dumps(one, ensure_ascii=False).encode() for one in told)
    assert list(http.events(httpx.Response(200, content=body))) == told
    cut = httpx.Response(200, content=(body[at : at + 1] for at in range(len(body))))
    assert list(http.events(cut)) == told
