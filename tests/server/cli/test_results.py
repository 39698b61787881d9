"""What a call gave, as people see it."""

import pytest

from gateway_server.cli.results import told_error, value_of


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"type": "KeyError", "message": "'missing'"}, "KeyError: 'missing'"),
        ({"type": "ValueError", "message": "ValueError"}, "ValueError"),
        ({"type": "ValueError", "message": ""}, "ValueError"),
        ({"error_code": "QUOTA_EXCEEDED", "message": "It is used up."}, "It is used up."),
        ({}, ""),
    ],
)
def test_errors(error: dict[str, str], told: str):
    assert told_error(error) == told


def test_values():
    assert value_of({"status": "SUCCESS", "output": [1], "files": {}}) == [1]
    assert value_of({"told": 1}) == {"told": 1}
    assert value_of(None) is None
