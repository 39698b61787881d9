"""Calls that lie in the queue of a worker: each is had by the worker or by the gateway."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_runtime.protocol import HEADER, ORDER_LIMIT, Kind
from gateway_server.engine.local.orders import ROOM, Orders, Sent
from gateway_server.engine.local.turns import MOST


class Process:
    """The other end of the queue."""

    def __init__(self, orders: Orders) -> None:
        self._socket = socket.socket(fileno=socket.dup(orders.fileno()))
        self._socket.setblocking(False)

    def take(self) -> tuple[int, bytes] | None:
        """The number and the text of the next call, if there is one."""
        try:
            packet = self._socket.recv(HEADER.size + ORDER_LIMIT)
        except BlockingIOError:
            return None
        length, kind, number = HEADER.unpack_from(packet)
        assert kind == Kind.CALL
        assert length == len(packet) - HEADER.size
        return number, packet[HEADER.size :]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def orders() -> Iterator[Orders]:
    made = Orders()
    yield made
    made.close()


@pytest.fixture
def process(orders: Orders) -> Iterator[Process]:
    made = Process(orders)
    yield made
    made.close()


def send(orders: Orders, text: bytes, *, has_all: bool = False) -> Sent:
    return orders.send(text, lambda _: None, has_all=has_all)


def test_calls_come_out_in_their_order(orders: Orders, process: Process) -> None:
    sent = [send(orders, b"a"), send(orders, b"b")]
    assert list(orders.sent) == sent
    assert [process.take(), process.take(), process.take()] == [(1, b"a"), (2, b"b"), None]
    began = orders.since
    orders.end_first(3, 0.5)
    assert (sent[0].flags, sent[0].took) == (3, 0.5)
    assert list(orders.sent) == [sent[1]]
    assert orders.since >= began
    assert sent[1].flags is None


def test_what_was_not_taken_up_comes_back(orders: Orders, process: Process) -> None:
    first, second, third = (send(orders, text) for text in (b"a", b"b", b"c"))
    assert process.take() == (1, b"a")
    orders.take_back()
    assert [call.is_taken_back for call in (first, second, third)] == [False, True, True]
    assert list(orders.sent) == [first]
    assert process.take() is None
    orders.take_back()
    assert not first.is_taken_back
    assert send(orders, b"d").number == 4
    assert process.take() == (4, b"d")


def test_a_call_that_has_the_worker_to_itself_is_put_back(orders: Orders, process: Process) -> None:
    first, second = send(orders, b"a", has_all=True), send(orders, b"b")
    orders.take_back()
    assert [call.is_taken_back for call in (first, second)] == [False, True]
    assert list(orders.sent) == [first]
    assert [process.take(), process.take()] == [(1, b"a"), None]


def test_an_order_that_is_too_long_for_a_packet_follows_elsewhere(orders: Orders, process: Process) -> None:
    longest, longer = send(orders, b"x" * ORDER_LIMIT), send(orders, b"x" * (ORDER_LIMIT + 1))
    assert (longest.has_all, longer.has_all) == (False, True)
    orders.take_back()
    assert (longest.is_taken_back, longer.is_taken_back) == (True, False)
    assert [process.take(), process.take()] == [(2, b""), None]


@pytest.mark.parametrize("length", [1, 500, 2100, 4200, 9000, ORDER_LIMIT])
def test_while_it_is_said_that_there_is_room_there_is_for_the_longest(
    orders: Orders, process: Process, length: int
) -> None:
    for _ in range(MOST - 1):
        if orders.has_room:
            send(orders, b"x" * length)
    send(orders, b"y" * ORDER_LIMIT)
    assert orders.count == min(MOST, -(-ROOM // length) + 1)
    process.take()
    orders.end_first(0, 0.0)
    orders.take_back()
    assert orders.has_room
    assert not orders.sent


def test_no_more_are_sent_than_a_socket_holds(orders: Orders, process: Process) -> None:
    sent: list[Sent] = []
    with suppress(OSError):
        while len(sent) < 10_000:
            sent.append(send(orders, b"x" * ORDER_LIMIT))
    with pytest.raises(OSError):
        send(orders, b"x" * ORDER_LIMIT)
    assert orders.count == len(orders.sent) == len(sent)
    assert process.take() == (1, b"x" * ORDER_LIMIT)
    sent.append(send(orders, b"y"))
    assert sent[-1].number == len(sent)
    orders.take_back()
    assert [call.is_taken_back for call in sent] == [False] + [True] * (len(sent) - 1)


def test_a_worker_that_is_gone_leaves_what_it_had_not_taken_up(orders: Orders, process: Process) -> None:
    first, second = send(orders, b"a"), send(orders, b"b")
    process.take()
    process.close()
    third = send(orders, b"c")
    orders.take_back()
    assert [call.is_taken_back for call in (first, second, third)] == [False, True, True]


def test_a_queue_that_was_closed_takes_no_more(orders: Orders, process: Process) -> None:
    first = send(orders, b"a")
    orders.close()
    with pytest.raises(OSError):
        send(orders, b"b")
    orders.take_back()
    assert list(orders.sent) == [first]
    assert orders.count == 1


def test_the_end_of_the_gateway_is_seen_after_the_last_call(orders: Orders) -> None:
    theirs = socket.socket(fileno=socket.dup(orders.fileno()))
    with theirs:
        send(orders, b"a")
        orders.close()
        assert theirs.recv(100)[HEADER.size :] == b"a"
        assert theirs.recv(100) == b""


STEPS = st.lists(st.sampled_from(["send", "send", "send alone", "send long", "take", "end", "take back"]), max_size=80)


@given(STEPS)
def test_each_call_is_had_by_the_worker_or_by_the_gateway(steps: list[str]) -> None:
    orders = Orders()
    process = Process(orders)
    calls: dict[int, Sent] = {}
    taken: list[int] = []
    ended = 0
    try:
        for step in [*steps, *["end", "take"] * (len(steps) + 1)]:
            if step.startswith("send") and len(orders.sent) < MOST:
                text = b"x" * (ORDER_LIMIT + 1) if step == "send long" else b"short"
                call = send(orders, text, has_all=step == "send alone")
                calls[call.number] = call
            elif step == "take" and len(taken) == ended:  # the worker has one at a time
                if (packet := process.take()) is not None:
                    taken.append(packet[0])
                    assert packet[1] == (b"" if calls[packet[0]].has_all and packet[1] == b"" else b"short")
            elif step == "end" and len(taken) > ended:
                assert orders.sent[0].number == taken[-1], "the first is the one that runs"
                orders.end_first(0, 0.0)
                ended += 1
            elif step == "take back":
                orders.take_back()
                running = taken[ended:]
                left = [call.number for call in orders.sent if call.number not in running]
                assert all(calls[number].has_all for number in left)
        assert taken == sorted(taken)
        assert not orders.sent
        taken_back = [number for number, call in calls.items() if call.is_taken_back]
        assert sorted([*taken, *taken_back]) == list(calls)
        assert not any(calls[number].has_all for number in taken_back)
        assert all(calls[number].flags == 0 for number in taken)
    finally:
        process.close()
        orders.close()
