"""What the gateway and its helpers say to each other."""

import asyncio

import pytest
from engine.conftest import run

from gateway_server.engine.local.packets import answered


@pytest.mark.parametrize(("each_time", "is_heard"), [((1, 1, 1), True), ((2, 1), True), ((0,), False), ((1, 0), False)])
def test_who_obeys_what_it_was_told_before_has_time(monkeypatch, each_time, is_heard):
    async def main():
        answers = [asyncio.get_running_loop().create_future() for _ in range(3)]
        looks = iter(each_time)

        async def passes_over_a_time(_futures, *, timeout):
            assert timeout == 5
            for answer in [answer for answer in answers if not answer.done()][: next(looks)]:
                answer.set_result(None)

        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "wait", passes_over_a_time)
            if is_heard:
                await answered(answers[-1], answers, 5)
            else:
                with pytest.raises(TimeoutError):
                    await answered(answers[-1], answers, 5)

    run(main())
