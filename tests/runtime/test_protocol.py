"""Frames survive any way in which a stream of bytes is cut up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_runtime.protocol import FRAME_LIMIT, HEADER, FrameBuffer, Kind, frame

FRAMES = st.lists(
    st.tuples(st.sampled_from(list(Kind)), st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=8
)


@given(FRAMES, st.data())
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames, data):
    stream = b"".join(frame(*one) for one in frames)
    buffer, found = FrameBuffer(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += buffer.feed(stream[:size])
        stream = stream[size:]
    assert found == frames


@given(st.binary(min_size=1, max_size=4000))
def test_noise_is_refused_or_ignored_and_nothing_else(noise):
    buffer = FrameBuffer(limit=1000)
    try:
        for kind, _, payload in buffer.feed(noise):
            assert kind in Kind
            assert len(payload) <= 1000
    except ValueError:
        pass


def test_a_frame_beyond_the_limit_is_refused_before_it_has_arrived():
    with pytest.raises(ValueError, match="longer than the limit"):
        FrameBuffer().feed(HEADER.pack(FRAME_LIMIT + 1, Kind.RESULT, 1))
