"""An attempt at a call, before its function begins."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateway_server.calls.attempts import Attempts
from gateway_server.errors import ServiceUnavailable

ROOM = 100


def attempts() -> Attempts:
    engine: Any = SimpleNamespace(room=lambda: ROOM)
    nothing: Any = None
    return Attempts(file_limit=ROOM, outputs_limit=None, library=nothing, tokens=nothing, engine=engine)


@pytest.mark.parametrize(("times", "fits"), [(1, True), (2, True), (3, False)])
def test_one_file_may_be_named_as_often_as_there_is_room_for_it(times: int, fits: bool) -> None:
    ready: Any = SimpleNamespace(files={"large": [SimpleNamespace(size=ROOM // 2)] * times, "none": []})
    if fits:
        attempts()._check_room(ready)
    else:
        with pytest.raises(ServiceUnavailable, match="no room for the inputs"):
            attempts()._check_room(ready)
