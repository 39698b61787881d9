"""An answer reaches whoever follows it: once, again, after a cut, or not at all."""

import asyncio

import pytest
import uvloop

from gateway_server.api import exchange as module
from gateway_server.api.exchange import Exchange, Exchanges
from gateway_server.calls.requests import request_key
from gateway_server.errors import IdempotencyConflict, NotFound
from gateway_server.models import Principal

ANN = Principal(user="ann")


def run(main):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, 20))


class Connection:
    """The other end: takes messages, and hangs up when told."""

    def __init__(self, slow: bool = False) -> None:
        self.messages: list[dict] = []
        self.gone = asyncio.Event()
        self.go_on = asyncio.Event()
        if not slow:
            self.go_on.set()

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        await self.go_on.wait()
        self.messages.append(message)

    @property
    def status(self):
        return self.messages[0]["status"]

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages)

    @property
    def complete(self) -> bool:
        return bool(self.messages) and self.messages[-1].get("more_body") is False


def begin(exchanges: Exchanges, principal: Principal, key: str | None, body: bytes, produce) -> Exchange:
    return exchanges.begin(principal, request_key(principal, key, b"run", body), produce)


async def follow(exchange: Exchange, **options) -> Connection:
    connection = Connection(**options)
    await exchange.follow(connection.receive, connection.send)
    return connection


def answering(body: bytes = b"{}", *, ran: list | None = None):
    async def produce(exchange: Exchange) -> None:
        if ran is not None:
            ran.append(1)
        exchange.begin(200, [(b"content-type", b"application/json")])
        await exchange.write(body)

    return produce


def test_a_plain_answer_has_its_length_and_ends():
    async def main():
        connection = await follow(begin(Exchanges(), ANN, None, b"x", answering(b"hello")))
        assert connection.status == 200
        assert (b"content-length", b"5") in connection.messages[0]["headers"]
        assert connection.body == b"hello"
        assert connection.complete

    run(main())


def test_a_fault_becomes_its_answer():
    async def main():
        async def produce(_exchange):
            raise NotFound("There is none.", prefab_id="p", version="1")

        connection = await follow(begin(Exchanges(), ANN, None, b"x", produce))
        assert connection.status == 404
        assert b'"error_code":"NOT_FOUND"' in connection.body

    run(main())


def test_a_mistake_of_ours_is_told_as_one(caplog):
    async def main():
        async def produce(_exchange):
            raise RuntimeError("inner secret")

        connection = await follow(begin(Exchanges(), ANN, None, b"x", produce))
        assert connection.status == 500
        assert b"inner secret" not in connection.body

    run(main())


def test_the_same_request_joins_what_is_under_way():
    async def main():
        ran: list = []
        release = asyncio.Event()

        async def produce(exchange):
            await release.wait()
            await answering(b"one", ran=ran)(exchange)

        exchanges = Exchanges()
        first = asyncio.create_task(follow(begin(exchanges, ANN, "auto-1", b"x", produce)))
        second = asyncio.create_task(follow(begin(exchanges, ANN, "auto-1", b"x", produce)))
        with pytest.raises(IdempotencyConflict):
            begin(exchanges, ANN, "auto-1", b"other", produce)
        other = asyncio.create_task(follow(begin(exchanges, Principal(user="bob"), "auto-1", b"x", produce)))
        await asyncio.sleep(0)
        release.set()
        assert [(await task).body for task in (first, second, other)] == [b"one"] * 3
        assert len(ran) == 2

    run(main())


def test_what_has_been_answered_is_not_kept_here():
    async def main():
        ran: list = []
        exchanges = Exchanges()
        for _ in range(2):
            await follow(begin(exchanges, ANN, "auto-1", b"x", answering(ran=ran)))
            await asyncio.sleep(0)
        assert len(ran) == 2
        assert not exchanges._live

    run(main())


def test_a_caller_without_a_key_who_hangs_up_ends_the_run():
    async def main():
        ended = asyncio.Event()

        async def produce(_exchange):
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        connection = Connection()
        following = asyncio.create_task(
            begin(Exchanges(), ANN, None, b"x", produce).follow(connection.receive, connection.send)
        )
        await asyncio.sleep(0)
        connection.gone.set()
        await following
        await asyncio.wait_for(ended.wait(), 2)

    run(main())


def test_with_a_key_the_run_goes_on_and_a_retry_joins_it():
    async def main():
        ready, ran = asyncio.Event(), []

        async def produce(exchange):
            ran.append(1)
            exchange.begin(200, [], is_stream=True)
            await exchange.write(b"first ")
            await ready.wait()
            await exchange.write(b"second")

        exchanges = Exchanges()
        cut = Connection()
        following = asyncio.create_task(begin(exchanges, ANN, "auto-1", b"x", produce).follow(cut.receive, cut.send))
        while not cut.body:
            await asyncio.sleep(0)
        cut.gone.set()
        await following
        assert not cut.complete
        joined = asyncio.create_task(follow(begin(exchanges, ANN, "auto-1", b"x", produce)))
        await asyncio.sleep(0)
        ready.set()
        connection = await joined
        assert (connection.body, connection.complete, len(ran)) == (b"first second", True, 1)

    run(main())


def test_with_a_key_and_nobody_coming_back_the_run_ends_after_the_grace(monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.02)

    async def main():
        ended = asyncio.Event()

        async def produce(_exchange):
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        connection = Connection()
        exchanges = Exchanges()
        following = asyncio.create_task(
            begin(exchanges, ANN, "auto-1", b"x", produce).follow(connection.receive, connection.send)
        )
        await asyncio.sleep(0)
        connection.gone.set()
        await following
        await asyncio.wait_for(ended.wait(), 2)

    run(main())


def test_a_silent_stream_is_kept_alive(monkeypatch):
    monkeypatch.setattr(module, "KEEP_ALIVE_EVERY", 0.01)

    async def main():
        end = asyncio.Event()

        async def produce(exchange):
            exchange.begin(200, [], is_stream=True)
            await end.wait()
            await exchange.write(b"data: {}\n\n")

        connection = Connection()
        following = asyncio.create_task(
            begin(Exchanges(), ANN, None, b"x", produce).follow(connection.receive, connection.send)
        )
        while module.KEEP_ALIVE not in connection.body:
            await asyncio.sleep(0)
        end.set()
        await following
        assert connection.body.endswith(b"data: {}\n\n")

    run(main())


def test_a_slow_reader_makes_the_run_wait_instead_of_filling_memory(monkeypatch):
    monkeypatch.setattr(module, "BUFFER", 1000)

    async def main():
        written = 0

        async def produce(exchange):
            nonlocal written
            exchange.begin(200, [], is_stream=True)
            for _ in range(100):
                await exchange.write(b"x" * 100)
                written += 100

        connection = Connection(slow=True)
        following = asyncio.create_task(
            begin(Exchanges(), ANN, None, b"x", produce).follow(connection.receive, connection.send)
        )
        for _ in range(200):
            await asyncio.sleep(0)
        assert written <= 3000
        connection.go_on.set()
        await following
        assert (written, len(connection.body)) == (10_000, 10_000)

    run(main())


def test_an_answer_too_long_to_be_given_again_says_so(monkeypatch):
    monkeypatch.setattr(module, "REPLAY", 10)

    async def main():
        exchanges = Exchanges()

        async def produce(exchange):
            exchange.begin(200, [], is_stream=True)
            for _ in range(5):
                await exchange.write(b"x" * 100)
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)

        connection = Connection()
        following = asyncio.create_task(
            begin(exchanges, ANN, "auto-1", b"x", produce).follow(connection.receive, connection.send)
        )
        while len(connection.body) < 500:
            await asyncio.sleep(0)
        with pytest.raises(IdempotencyConflict, match="too long"):
            begin(exchanges, ANN, "auto-1", b"x", produce)
        await following

    run(main())


def test_a_long_plain_answer_does_not_wait_for_its_reader():
    async def main():
        body = b"x" * (module.BUFFER * 3)
        connection = await follow(begin(Exchanges(), ANN, None, b"x", answering(body)))
        assert (len(connection.body), connection.complete) == (len(body), True)

    run(main())


def waiting(*, stream: bool, ran: list):
    async def produce(exchange: Exchange) -> None:
        ran.append(1)
        if stream:
            exchange.begin(200, [], is_stream=True)
            exchange.write_nowait(b"data: 1\n\n")
        await asyncio.Event().wait()

    return produce


@pytest.mark.parametrize("stream", [False, True])
def test_a_run_that_was_given_up_is_not_given_again(monkeypatch, stream: bool):
    monkeypatch.setattr(module, "GRACE", 0.01)

    async def main():
        ran: list = []
        exchanges = Exchanges()
        for n in (1, 2):
            cut = Connection()
            exchange = begin(exchanges, ANN, "auto-1", b"x", waiting(stream=stream, ran=ran))
            following = asyncio.create_task(exchange.follow(cut.receive, cut.send))
            await asyncio.sleep(0.01)
            cut.gone.set()
            await following
            while not exchange.done:
                await asyncio.sleep(0.01)
            assert len(ran) == n

    run(main())


def test_a_stop_is_told_to_those_who_wait():
    async def main():
        exchanges = Exchanges()
        plain = asyncio.create_task(follow(begin(exchanges, ANN, "auto-1", b"x", waiting(stream=False, ran=[]))))
        stream = asyncio.create_task(follow(begin(exchanges, ANN, None, b"x", waiting(stream=True, ran=[]))))
        await asyncio.sleep(0.01)
        exchanges.cancel_all()
        await exchanges.drain(5)
        assert (await plain).status == 503
        assert b"SERVICE_UNAVAILABLE" in plain.result().body
        assert b"retry-after" in dict(plain.result().messages[0]["headers"])
        *_, last, end = (await stream).body.split(b"\n\n")
        assert b'"type":"error"' in last
        assert b"SERVICE_UNAVAILABLE" in last
        assert (end, stream.result().complete) == (b"", True)

    run(main())


def test_a_run_that_somebody_ended_says_so():
    async def main():
        exchange = begin(Exchanges(), ANN, None, b"x", waiting(stream=False, ran=[]))
        following = asyncio.create_task(follow(exchange))
        await asyncio.sleep(0.01)
        assert exchange.task
        exchange.task.cancel()
        assert (await following).status == 409
        assert b"CANCELED" in following.result().body

    run(main())


def test_only_who_began_a_run_ends_it_by_its_key():
    inside, elsewhere = Principal(user="ann", job_id="one"), Principal(user="ann", job_id="two")

    async def main():
        for owner, others in ((ANN, (inside, elsewhere)), (inside, (ANN, elsewhere))):
            exchanges = Exchanges()
            following = asyncio.create_task(follow(begin(exchanges, owner, "k", b"x", waiting(stream=False, ran=[]))))
            await asyncio.sleep(0.01)
            assert not any(exchanges.cancel(other, "k") for other in others)
            assert exchanges.cancel(owner, "k")
            assert (await following).status == 409

    run(main())


def test_a_stalled_reader_does_not_make_a_stream_grow_or_stop(monkeypatch):
    monkeypatch.setattr(module, "BUFFER", 1000)
    monkeypatch.setattr(module, "REPLAY", 2000)

    async def main():
        async def produce(exchange):
            exchange.begin(200, [], is_stream=True)
            for _ in range(1000):
                await exchange.write(b"x" * 100)
                await asyncio.sleep(0)

        exchanges = Exchanges()
        stalled, fast = Connection(slow=True), Connection()
        exchange = begin(exchanges, ANN, "auto-1", b"x", produce)
        followers = [asyncio.create_task(exchange.follow(c.receive, c.send)) for c in (stalled, fast)]
        while len(fast.body) < 90_000:
            await asyncio.sleep(0)
        assert sum(map(len, exchange.chunks)) < 10_000
        await followers[1]
        assert (len(fast.body), fast.complete) == (100_000, True)
        stalled.go_on.set()
        await followers[0]
        assert not stalled.complete

    run(main())
