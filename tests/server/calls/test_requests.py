"""Keys of requests: the same for the same caller and text, whatever release made them."""

import pytest

from gateway_server.calls.requests import place, request_key
from gateway_server.errors import Invalid
from gateway_server.models import Principal

ANN = Principal(user="ann", key_id="key_1")


def test_a_key_is_what_earlier_releases_wrote_for_it() -> None:
    made = request_key(ANN, "auto-1", b"run", b"{}")
    assert made is not None
    assert (made.key.hex(), made.digest.hex()) == (
        "24fd4b4f4c779fbc72e2ac099fc45099",
        "2c58e6a937c864f3fbfbd8bbe564f6a8",
    )
    assert made.of_item(3).key.hex() == "51b2cca64df62e24d788c2e3d58a5f05"


def test_what_one_caller_says_is_the_key_of_no_other() -> None:
    callers = [
        ANN,
        Principal(user="ann"),
        Principal(user="annkey_1"),
        Principal(user="ann", agent="key_1"),
        Principal(user="ann", job_id="key_1"),
        Principal(user="an", agent="n", key_id="key_1"),
    ]
    assert len({place(caller, text) for caller in callers for text in ("a", "b", "", "key_1a")}) == 4 * len(callers)
    assert place(ANN, "a") == place(Principal(user="ann", key_id="key_1", depth=3), "a")


@pytest.mark.parametrize("text", ["", "x" * 256])
def test_a_key_has_a_length(text: str) -> None:
    with pytest.raises(Invalid):
        request_key(ANN, text, b"run", b"{}")
