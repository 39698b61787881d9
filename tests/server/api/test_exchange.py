"""An answer reaches whoever follows it: once, again, after a cut, or not at all."""

import asyncio

import pytest
import uvloop

from gateway_server.api import exchange as module
from gateway_server.api.exchange import Exchange, Exchanges
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


async def follow(exchange: Exchange, **options) -> Connection:
    connection = Connection(**options)
    await exchange.follow(connection.receive, connection.send)
    return connection


def answering(body: bytes = b"{}", *, keep: bool = True, ran: list | None = None):
    async def produce(exchange: Exchange) -> None:
        if ran is not None:
            ran.append(1)
        exchange.worth_keeping = keep
        exchange.begin(200, [(b"content-type", b"application/json")])
        await exchange.write(body)

    return produce


def test_a_plain_answer_has_its_length_and_ends():
    async def main():
        connection = await follow(Exchanges().begin(ANN, None, b"x", answering(b"hello")))
        assert connection.status == 200
        assert (b"content-length", b"5") in connection.messages[0]["headers"]
        assert connection.body == b"hello"
        assert connection.complete

    run(main())


def test_a_fault_becomes_its_answer():
    async def main():
        async def produce(_exchange):
            raise NotFound("There is none.", prefab_id="p", version="1")

        connection = await follow(Exchanges().begin(ANN, None, b"x", produce))
        assert connection.status == 404
        assert b'"error_code":"NOT_FOUND"' in connection.body

    run(main())


def test_a_mistake_of_ours_is_told_as_one(caplog):
    async def main():
        async def produce(_exchange):
            raise RuntimeError("inner secret")

        connection = await follow(Exchanges().begin(ANN, None, b"x", produce))
        assert connection.status == 500
        assert b"inner secret" not in connection.body

    run(main())


def test_the_same_key_runs_once_and_answers_twice():
    async def main():
        ran: list = []
        exchanges = Exchanges()
        first = await follow(exchanges.begin(ANN, "auto-1", b"x", answering(b"one", ran=ran)))
        second = await follow(exchanges.begin(ANN, "auto-1", b"x", answering(b"two", ran=ran)))
        assert (first.body, second.body, len(ran)) == (b"one", b"one", 1)
        with pytest.raises(IdempotencyConflict):
            exchanges.begin(ANN, "auto-1", b"other", answering())
        other = await follow(exchanges.begin(Principal(user="bob"), "auto-1", b"x", answering(b"bob's", ran=ran)))
        assert (other.body, len(ran)) == (b"bob's", 2)

    run(main())


def test_refusals_are_not_kept():
    async def main():
        ran: list = []
        exchanges = Exchanges()
        for _ in range(2):
            await follow(exchanges.begin(ANN, "auto-1", b"x", answering(keep=False, ran=ran)))
            await asyncio.sleep(0)
        assert len(ran) == 2

    run(main())


def test_answers_are_forgotten_after_their_time(monkeypatch):
    async def main():
        ran: list = []
        exchanges = Exchanges()
        await follow(exchanges.begin(ANN, "auto-1", b"x", answering(ran=ran)))
        await follow(exchanges.begin(ANN, "given", b"x", answering(ran=ran)))
        clock = module.time.monotonic() + module.KEPT_MINTED + 1
        monkeypatch.setattr(module.time, "monotonic", lambda: clock)
        await follow(exchanges.begin(ANN, "auto-1", b"x", answering(ran=ran)))
        await follow(exchanges.begin(ANN, "given", b"x", answering(ran=ran)))
        assert len(ran) == 3

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
            Exchanges().begin(ANN, None, b"x", produce).follow(connection.receive, connection.send)
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
            exchange.worth_keeping = True
            exchange.begin(200, [], is_stream=True)
            await exchange.write(b"first ")
            await ready.wait()
            await exchange.write(b"second")

        exchanges = Exchanges()
        cut = Connection()
        following = asyncio.create_task(exchanges.begin(ANN, "auto-1", b"x", produce).follow(cut.receive, cut.send))
        while not cut.body:
            await asyncio.sleep(0)
        cut.gone.set()
        await following
        assert not cut.complete
        joined = asyncio.create_task(follow(exchanges.begin(ANN, "auto-1", b"x", produce)))
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
            exchanges.begin(ANN, "auto-1", b"x", produce).follow(connection.receive, connection.send)
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
            Exchanges().begin(ANN, None, b"x", produce).follow(connection.receive, connection.send)
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
            Exchanges().begin(ANN, None, b"x", produce).follow(connection.receive, connection.send)
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
            exchange.worth_keeping = True
            exchange.begin(200, [], is_stream=True)
            for _ in range(5):
                await exchange.write(b"x" * 100)
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)

        connection = Connection()
        following = asyncio.create_task(
            exchanges.begin(ANN, "auto-1", b"x", produce).follow(connection.receive, connection.send)
        )
        while len(connection.body) < 500:
            await asyncio.sleep(0)
        with pytest.raises(IdempotencyConflict, match="too long"):
            exchanges.begin(ANN, "auto-1", b"x", produce)
        await following

    run(main())
