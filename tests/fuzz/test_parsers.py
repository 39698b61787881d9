"""Whatever strangers send ends in a typed refusal or in a good value. `make fuzz-parsers` is the long form."""

import pytest
from fuzz.targets import TARGETS
from hypothesis import HealthCheck, given, settings

EXAMPLES = 40


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_takes_anything(name: str):
    target = TARGETS[name]

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def run(thing):
        target.check(thing)

    run()
