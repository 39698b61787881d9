"""What parsers are given: any text and any value, documents and bytes that were right once."""

import itertools
import json
from typing import Any

from fuzz import hostile
from hypothesis import strategies as st

text = st.one_of(st.text(max_size=60), st.sampled_from(hostile.TEXTS), st.text(st.characters(codec=None), max_size=20))
scalar = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    text,
    st.sampled_from([n for n in hostile.NUMBERS if n != 10**400]),
)
value = st.recursive(
    scalar,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
    max_leaves=12,
)
pieces = st.lists(st.integers(0, 400), max_size=6)
"""Where bytes are cut on their way."""


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The same bytes in several pieces, some of them empty."""
    places = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were right once, with a few changes."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.integers(0, 3))
        if how == 0:
            data[at : at + 1] = draw(st.binary(max_size=2))
        elif how == 1:
            del data[at : at + draw(st.integers(1, 40))]
        elif how == 2:
            data[at:at] = draw(
                st.sampled_from([b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\0", b"\xff", b"data:", b"9" * 20])
            )
        else:
            data[at:at] = data[: draw(st.integers(0, 60))]
    return bytes(data)


json_text = st.one_of(
    broken(value.map(lambda v: json.dumps(v).encode())), st.sampled_from(hostile.RAW_JSON), st.binary(max_size=40)
)


@st.composite
def like(draw: st.DrawFn, document: Any) -> Any:
    """A document in which some values were replaced, left out or added."""
    if draw(st.integers(0, 9)) == 0:
        return draw(value)
    if isinstance(document, dict):
        found = {key: draw(like(inner)) for key, inner in document.items() if draw(st.integers(0, 12))}
        return found | (draw(st.dictionaries(text, value, max_size=1)) if draw(st.integers(0, 4)) == 0 else {})
    if isinstance(document, list):
        return [draw(like(inner)) for inner in document for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2])))]
    return document
