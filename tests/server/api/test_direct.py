"""Runs that the connection answers itself: byte by byte, in pieces, several at once."""

import socket
import time

import pytest
from gateways import Gateway
from wire import Caller, Wire, calls, echo

from gateway_server.api.direct import LONGEST

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


# Requests that come together, or in pieces


def test_runs_and_others_in_one_packet_are_answered_in_their_order(gateway: Gateway, ann: Caller) -> None:
    run = [ann.request(echo(str(number))) for number in range(6)]
    orders = ([run[0], run[1]], [run[0], GET, run[1]], [GET, run[0], GET], run, [run[0], run[1], GET, GET, run[2]])
    for order in orders:
        with Wire(gateway) as wire:
            for _ in range(2):  # and once more on the same connection
                wire.say(b"".join(order))
                for request in order:
                    answer = wire.hear()
                    assert answer.status == 200
                    if request is not GET:
                        assert answer.output["text"] == str(run.index(request))
                    else:
                        assert "results" not in answer.json


def test_refusals_in_one_packet_are_answered_in_their_order(gateway: Gateway, ann: Caller) -> None:
    wrong = ann.request(b"{}")
    nobody = wrong.replace(ann.token.encode(), b"nobody")
    with Wire(gateway) as wire:
        wire.say(nobody + wrong + ann.request(echo("x")) + nobody + GET)
        assert [wire.hear().status for _ in range(5)] == [401, 422, 200, 401, 200]


def test_a_stream_and_a_run_in_one_packet_do_not_mix(gateway: Gateway, ann: Caller) -> None:
    stream = ann.request(calls("tokens", {"n": 50}, stream=True))
    with Wire(gateway) as wire:
        wire.say(stream + ann.request(echo("after")) + stream)
        first, second, third = wire.hear(), wire.hear(), wire.hear()
    assert [first.body.count(b'"content"'), third.body.count(b'"content"')] == [50, 50]
    assert second.output["text"] == "after"


def test_a_body_may_come_in_pieces(gateway: Gateway, ann: Caller) -> None:
    for size in (0, 10, LONGEST - 300):
        text = "ü" * (size // 12)
        whole = ann.request(echo(text))
        with Wire(gateway) as wire:
            for cuts in (
                [1],
                [20, 100],
                [whole.index(b"\r\n\r\n") + 4],
                [whole.index(b"\r\n\r\n") + 5, len(whole) - 1],
            ):
                before = 0
                for cut in (*cuts, len(whole)):
                    wire.say(whole[before:cut])
                    before = cut
                    time.sleep(0.01)  # so that it is a packet of its own
                assert wire.hear().output["text"] == text


def test_a_request_byte_by_byte(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = ann.request(echo("x"))
        wire.say(*(whole[at : at + 1] for at in range(len(whole))))
        assert wire.hear().output["text"] == "x"


@pytest.mark.parametrize("size", [LONGEST - 1, LONGEST, LONGEST + 1, 99_999, 100_000, 1 << 20])
def test_bodies_around_the_bound_of_the_direct_way_are_the_same(gateway: Gateway, ann: Caller, size: int) -> None:
    text = "x" * (size - len(echo("")))
    body = echo(text)
    assert len(body) == size
    with Wire(gateway) as wire:
        for _ in range(2):
            assert wire.say(ann.request(body)).hear().output["text"] == text


def test_a_body_that_stops_is_refused_and_the_connection_ends(gateway: Gateway, ann: Caller) -> None:
    for sent in (b"", b'{"calls":'):
        with Wire(gateway) as wire:
            wire.say(ann.head(b"Content-Length: 500") + sent)
            answer = wire.hear()
            assert (answer.status, answer.code) == (408, "REQUEST_TIMEOUT")
            assert answer.headers["connection"] == "close"
            assert wire.is_closed


def test_a_body_that_comes_slowly_but_goes_on_is_waited_for(gateway: Gateway, ann: Caller) -> None:
    whole = ann.request(echo("slow"))
    start = whole.index(b"\r\n\r\n") + 4
    with Wire(gateway) as wire:
        wire.say(whole[:start])
        for at in range(start, len(whole), (len(whole) - start) // 5 + 1):
            time.sleep(0.12)  # together longer than it may stop
            wire.say(whole[at : at + (len(whole) - start) // 5 + 1])
        assert wire.hear().output["text"] == "slow"


def test_what_comes_after_a_body_that_stopped_is_no_request(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        wire.say(ann.head(b"Content-Length: 500") + b"{")
        assert wire.hear().status == 408
        try:
            wire.say(b"x" * 499 + ann.request(echo("smuggled")))
        except OSError:
            pass
        assert wire.is_closed


# Framing


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: -1",),
        (b"Content-Length: +5",),
        (b"Content-Length: 0x5",),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Content-Length: 5", b"Content-Length: 50"),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 99999999999999999999999999",),
        (b"Content-Length: 1 2",),
        (b"Content-Length: five",),
        (b"Content-Length : 5",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: gzip, chunked",),
        ("Content-Length: ٥".encode(),),
        ("Content-Length: ²".encode("latin-1"),),
    ],
)
def test_a_length_that_is_none_is_refused(gateway: Gateway, ann: Caller, lines: tuple[bytes, ...]) -> None:
    with Wire(gateway) as wire:
        wire.say(ann.head(*lines) + ann.request(echo("smuggled")))
        answer = wire.hear()
        assert (answer.status, answer.code) == (422, "VALIDATION_ERROR")
        assert wire.is_closed, "nothing of what follows is taken for a request"


def test_a_huge_length_is_refused_before_its_body(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        wire.say(ann.head(b"Content-Length: 99999999999") + b"x" * 1000)
        assert wire.until(b"\r\n") in (b"HTTP/1.1 408 Request Timeout\r\n", b"HTTP/1.1 413 Content Too Large\r\n")


@pytest.mark.parametrize(
    "line", [b"Content-Length:  %d ", b"Content-Length:%d", b"content-length: 000%d", b"CONTENT-LENGTH:\t%d\t"]
)
def test_a_length_may_be_written_oddly(gateway: Gateway, ann: Caller, line: bytes) -> None:
    body = echo("x")
    with Wire(gateway) as wire:
        for _ in range(2):
            assert wire.say(ann.head(line % len(body)) + body).hear().output["text"] == "x"


def test_no_body_at_all_is_an_invalid_request(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        for lines in ((), (b"Content-Length: 0",)):
            answer = wire.say(ann.head(*lines)).hear()
            assert (answer.status, answer.code) == (422, "VALIDATION_ERROR")


def test_chunks_are_a_body_too(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        for turn in range(4):
            answer = wire.say(ann.request(echo(str(turn)), chunked=bool(turn % 2))).hear()
            assert answer.output["text"] == str(turn)


def test_who_expects_to_be_told_to_go_on_is_told(gateway: Gateway, ann: Caller) -> None:
    body = echo("x")
    with Wire(gateway) as wire:
        for _ in range(2):
            wire.say(ann.head(b"Content-Length: %d" % len(body), b"Expect: 100-continue"))
            assert wire.hear().status == 100
            assert wire.say(body).hear().output["text"] == "x"
            assert wire.say(ann.request(body)).hear().output["text"] == "x"


def test_the_older_protocol_is_answered_and_hung_up_on(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        assert wire.say(ann.request(echo("x"), version=b"1.0")).hear().output["text"] == "x"
        assert wire.is_closed


@pytest.mark.parametrize("body", [echo("x"), b"{}", calls("tokens", {"n": 3}, stream=True)])
def test_a_connection_is_closed_after_the_answer_on_request(gateway: Gateway, ann: Caller, body: bytes) -> None:
    with Wire(gateway) as wire:
        answer = wire.say(ann.request(body, b"Connection: close")).hear()
        assert answer.headers["connection"] == "close"
        assert wire.is_closed


def test_a_connection_is_kept_while_it_is_used_whatever_it_asks_for(gateway: Gateway, ann: Caller) -> None:
    """The connection ends after a second of silence, here; none of these is silent for so long."""
    with Wire(gateway) as wire:
        assert wire.say(ann.request(echo("x"))).hear().status == 200
        for _ in range(6):
            time.sleep(0.3)
            assert wire.say(GET).hear().status == 200
    with Wire(gateway) as wire:
        for _ in range(6):
            assert wire.say(ann.request(echo("x"))).hear().status == 200
            time.sleep(0.3)


def test_a_request_that_has_begun_is_waited_for(gateway: Gateway, ann: Caller) -> None:
    whole = ann.request(echo("x"))
    with Wire(gateway) as wire:
        assert wire.say(whole).hear().status == 200
        time.sleep(0.8)
        wire.say(whole[:30])
        time.sleep(0.5)  # now the connection has been without a whole request for longer than it may be silent
        wire.say(whole[30:])
        assert wire.hear().output["text"] == "x"


def test_a_silent_connection_ends(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        wire.say(ann.request(echo("x"))).hear()
        began = time.monotonic()
        assert wire.is_closed
        assert 0.5 < time.monotonic() - began < 5
