"""The forms of keys, and signed URLs of them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway_server.errors import Invalid, PermissionDenied
from gateway_server.files import keys
from gateway_server.files.keys import Area, Place, after, parse_area, place_of
from gateway_server.store.local_objects import component
from gateway_server.store.signatures import Signer

MOMENT = datetime(2025, 11, 7, 9, 8, 7, 6, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_keys_have_the_forms_of_the_contract_and_say_whose_they_are() -> None:
    made = {
        keys.output_key("u", "a", MOMENT, "名.txt"): (
            "agent-outputs/u/a/2025/11/07/090807000006-名.txt",
            Place(Area.OUTPUTS, "u", "a"),
        ),
        keys.workspace_key("u", "a", None, MOMENT, "x"): (
            "agent-workspace/u/a/default/20251107090807000006-x",
            Place(Area.WORKSPACE, "u", "a", "default"),
        ),
        keys.input_key("u", MOMENT, "id", "x-y"): ("agent-inputs/u/2025/11/07/id-x-y", Place(Area.INPUTS, "u")),
        keys.prefab_output_key("u", MOMENT, "j", "s/x"): (
            "prefab-outputs/u/2025/11/07/j/s/x",
            Place(Area.PREFAB_OUTPUTS, "u"),
        ),
    }
    for key, (expected, place) in made.items():
        assert key == expected
        assert place_of(key) == place


@pytest.mark.parametrize("key", ["", "x", "agent-outputs/u", "agent-outputs/u/a/b", "other/u/a/b/c/d/e"])
def test_other_keys_belong_to_nobody(key: str) -> None:
    assert place_of(key) is None


def test_an_area_has_a_long_and_a_short_name() -> None:
    assert parse_area("outputs") is parse_area("agent-outputs") is Area.OUTPUTS
    with pytest.raises(Invalid) as caught:
        parse_area("elsewhere")
    assert caught.value.problems[0].pointer == "/area"


@given(TEXT, TEXT)
def test_a_prefix_is_a_range(prefix: str, key: str) -> None:
    assume(prefix.strip("\U0010ffff"))
    within = prefix.encode() <= key.encode() < after(prefix).encode()
    assert within == key.startswith(prefix)
    assert prefix.encode() <= (prefix + key).encode() < after(prefix).encode()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_every_component_of_a_key_is_a_file_name_of_its_own(name: str) -> None:
    safe = component(name)
    assert safe not in ("", ".", "..")
    assert "\0" not in safe
    assert len(os.fsencode(safe)) <= 255


def test_different_keys_have_different_paths() -> None:
    names = ["", ".", "..", "%", "%2E", "%.", "\0", "%00", "a" * 300, "a" * 299 + "b", "名" * 100, "é", "e\u0301"]
    assert len({component(name) for name in names}) == len(names)


SIGNER = Signer(b"secret", lambda: 1000.0)


@given(key=TEXT, filename=TEXT)
def test_a_signed_url_says_what_was_signed(key: str, filename: str) -> None:
    query = SIGNER.sign("GET", key, 60, filename=filename, type=None)
    assert SIGNER.check("GET", key, query) == {"filename": filename, "expires": "1060"}


def test_a_signature_holds_for_nothing_else() -> None:
    query = SIGNER.sign("PUT", "a/b", 60, type="text/plain")
    assert SIGNER.check("PUT", "a/b", query)["type"] == "text/plain"
    forged = [
        ("GET", "a/b", query),
        ("PUT", "a/c", query),
        ("PUT", "a/b", query.replace("1060", "9999")),
        ("PUT", "a/b", query.replace("text%2Fplain", "text%2Fhtml")),
        ("PUT", "a/b", query.replace("type=text%2Fplain", "")),
        ("PUT", "a/b", query + "&part=1"),
        ("PUT", "a/b", query + "&expires=9999"),
        ("PUT", "a/b", query[:-1] + ("0" if query[-1] != "0" else "1")),
        ("PUT", "a/b", query.partition("&signature")[0]),
        ("PUT", "a/b", query.replace("signature=", "signature=%C3%A9")),
        ("PUT", "a/b", ""),
        ("PUT", "a/b", "signature="),
        ("PUT", "a/b", "&".join(["x=1"] * 50)),
    ]
    for method, key, changed in forged:
        with pytest.raises(PermissionDenied):
            SIGNER.check(method, key, changed)
    with pytest.raises(PermissionDenied):
        Signer(b"other", lambda: 1000.0).check("PUT", "a/b", query)


def test_a_signature_ends() -> None:
    query = SIGNER.sign("GET", "k", 60)
    Signer(b"secret", lambda: 1059.9).check("GET", "k", query)
    with pytest.raises(PermissionDenied, match="ended"):
        Signer(b"secret", lambda: 1060.0).check("GET", "k", query)


def test_the_secret_of_a_folder_is_made_once_and_private(tmp_path: Path) -> None:
    query = Signer.from_folder(tmp_path / "new").sign("GET", "k", 60)
    assert Signer.from_folder(tmp_path / "new").check("GET", "k", query)
    assert (tmp_path / "new" / "urls.key").stat().st_mode & 0o777 == 0o600
