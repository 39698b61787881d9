"""Arguments that do not fit are told of, however many there are."""

import time

import pytest

from gateway_server.calls import inputs
from gateway_server.calls.inputs import Validator
from gateway_server.errors import Invalid
from gateway_server.models import Call
from gateway_server.prefabs.manifest import parse_manifest

PARAMETERS = [{"name": "words", "type": "array", "items": {"type": "string"}}]


def problems(words: list[object], **others: object) -> list[str]:
    function = {"name": "greet", "parameters": PARAMETERS}
    manifest = {"schema_version": "1.0", "id": "hello-world", "version": "1.0.0", "functions": [function]}
    call = Call("hello-world", "1.0.0", "greet", {"words": words, **others}, {})
    with pytest.raises(Invalid) as caught:
        Validator(parse_manifest(manifest).functions[0]).check(call)
    return [problem.pointer for problem in caught.value.problems]


def test_every_violation_is_told() -> None:
    assert sorted(problems(["a", 1, 2], other=1)) == [f"/parameters/{at}" for at in ("other", "words/1", "words/2")]
    assert len(problems([1] * 1000)) == inputs.MOST_PROBLEMS


def test_of_very_many_values_the_first_violation_is_told_at_once() -> None:
    began = time.monotonic()
    assert problems(["a", 1] * 250_000) == ["/parameters/words/1"]
    assert time.monotonic() - began < 2  # to look for all of them took ten seconds
