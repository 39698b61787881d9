import io
import itertools
import math
import struct
import wave
from fractions import Fraction

import av
import pytest

SECONDS = 1.0


def tone(rate, layout, frequency, samples, at):
    frame = av.AudioFrame(format="s16", layout=layout, samples=samples)
    channels = frame.layout.nb_channels
    values = [round(12000 * math.sin(2 * math.pi * frequency * (at + i) / rate)) for i in range(samples)]
    frame.planes[0].update(struct.pack(f"<{samples * channels}h", *(v for v in values for _ in range(channels))))
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame


def clip(container="mp4", video="mpeg4", audio="aac", rate=44100, layout="stereo", tones=(440,), seconds=SECONDS):
    """A film of grey squares with one tone on each sound track."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        streams = []
        if video:
            pictures = file.add_stream(video, rate=10)
            pictures.width = pictures.height = 64
            pictures.pix_fmt = "yuv420p"
        for _ in tones if audio else ():
            streams.append(file.add_stream(audio, rate=rate, layout=layout))
        if video:
            for number in range(int(seconds * 10)):
                frame = av.VideoFrame(64, 64, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([128]) * plane.buffer_size)
                frame.pts, frame.time_base = number, Fraction(1, 10)
                file.mux(pictures.encode(frame))
            file.mux(pictures.encode(None))
        for stream, frequency in zip(streams, tones, strict=False):
            resampler = av.AudioResampler(stream.codec_context.format, layout, rate)
            fifo = av.AudioFifo()
            for at in range(0, int(seconds * rate), 1000):
                for frame in resampler.resample(tone(rate, layout, frequency, min(1000, int(seconds * rate) - at), at)):
                    frame.pts = None
                    fifo.write(frame)
            stream.codec_context.open(strict=False)
            size, at = stream.codec_context.frame_size or 1000, 0
            while fifo.samples:
                frame = fifo.read(min(size, fifo.samples))
                frame.pts, frame.time_base = at, Fraction(1, rate)
                at += frame.samples
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return buffer.getvalue()


def extract(prefab, **arguments):
    """Events, and the result that a caller without a stream gets."""
    events, run = [], prefab.call("extract_audio", **arguments)
    while True:
        try:
            events.append(next(run))
        except StopIteration as end:
            return events, end.value


def heard(content):
    """Seconds, rate, channels, and the main tone by its zero crossings."""
    with av.open(io.BytesIO(content)) as file:
        stream = file.streams.audio[0]
        resampler = av.AudioResampler("s16", "mono", 8000)
        samples = []
        for frame in [*file.decode(stream), None]:
            for mono in resampler.resample(frame):
                samples += struct.unpack(f"<{mono.samples}h", bytes(mono.planes[0])[: 2 * mono.samples])
        middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
        crossings = sum(1 for a, b in itertools.pairwise(middle) if a < 0 <= b)
        context = stream.codec_context
        return len(samples) / 8000, context.sample_rate, context.channels, crossings / (len(middle) / 8000)


def refused(prefab, code, **arguments):
    events, result = extract(prefab, **arguments)
    assert (events, result["success"], result["error_code"]) == ([], False, code)
    assert prefab.outputs() == {}
    return result["error"]


def test_the_call_of_the_guide(prefab):
    prefab.put("video", "会议 录像.mp4", clip())
    events, result = extract(prefab, format="mp3")
    assert result["success"], result
    assert list(prefab.outputs()) == ["会议 录像.mp3"]
    data = result["data"]
    assert (data["codec"], data["sample_rate"], data["channels"], data["warnings"]) == ("mp3", 44100, 2, [])
    assert data["size"] == len(prefab.outputs()["会议 录像.mp3"])
    assert data["duration"] == pytest.approx(SECONDS, abs=0.06)
    assert data["source"]["codec"] == "aac"
    assert result["message"].startswith("extracted 1.0 seconds of sound: 会议 录像.mp3 (")
    assert events
    assert {event["type"] for event in events} == {"progress"}
    assert all(0 < e["data"]["current"] <= e["data"]["total"] + 0.1 for e in events)


@pytest.mark.parametrize(
    ("container", "video", "audio", "rate"),
    [
        ("mp4", "mpeg4", "aac", 44100),
        ("mov", "mpeg4", "pcm_s16le", 48000),
        ("matroska", "mpeg4", "flac", 44100),
        ("webm", "libvpx", "libopus", 48000),
        ("avi", "mpeg4", "libmp3lame", 44100),
        ("mpegts", "mpeg4", "mp2", 48000),
        ("wav", None, "pcm_s16le", 22050),
        ("mp3", None, "libmp3lame", 32000),
    ],
)
def test_containers(prefab, container, video, audio, rate):
    prefab.put("video", "clip.bin", clip(container, video, audio, rate))
    _, result = extract(prefab, format="wav")
    assert result["success"], result
    seconds, got, channels, pitch = heard(prefab.outputs()["clip.wav"])
    assert (got, channels) == (rate, 2)
    assert seconds == pytest.approx(SECONDS, abs=0.1)
    assert pitch == pytest.approx(440, abs=8)


@pytest.mark.parametrize("target", ["mp3", "m4a", "aac", "wav", "flac", "ogg", "opus"])
def test_formats(prefab, target):
    prefab.put("video", "a.mp4", clip())
    _, result = extract(prefab, format=target)
    assert result["success"], result
    seconds, rate, channels, pitch = heard(prefab.outputs()[f"a.{target}"])
    assert (rate, channels) == (48000 if target in ("ogg", "opus") else 44100, 2)
    assert seconds == pytest.approx(SECONDS, abs=0.12)
    assert pitch == pytest.approx(440, abs=8)


@pytest.mark.parametrize(
    ("target", "layout", "rate", "expected"),
    [
        ("mp3", "5.1", 48000, (48000, 2)),
        ("m4a", "5.1", 48000, (48000, 6)),
        ("opus", "5.1", 48000, (48000, 6)),
        ("mp3", "mono", 37800, (44100, 1)),
        ("opus", "mono", 22050, (24000, 1)),
        ("flac", "7.1", 11025, (11025, 6)),
        ("mp3", "mono", 4000, (8000, 1)),
        ("wav", "quad", 96000, (96000, 2)),
    ],
)
def test_odd_rates_and_layouts(prefab, target, layout, rate, expected):
    prefab.put("video", "a.mkv", clip("matroska", None, "pcm_s16le", rate, layout))
    _, result = extract(prefab, format=target)
    assert result["success"], result
    assert (result["data"]["sample_rate"], result["data"]["channels"]) == expected
    seconds, rate, channels, pitch = heard(prefab.outputs()[f"a.{target}"])
    assert (rate if target != "opus" else expected[0], channels) == expected
    assert seconds == pytest.approx(SECONDS, abs=0.12)
    assert pitch == pytest.approx(440, abs=8)


def test_wishes(prefab):
    prefab.put("video", "a.mp4", clip(seconds=3))
    _, result = extract(prefab, format="MP3", bitrate=64, sample_rate=22050, channels=1)
    assert result["success"], result
    _, rate, channels, _ = heard(prefab.outputs()["a.mp3"])
    assert (rate, channels) == (22050, 1)
    assert result["data"]["bitrate"] == pytest.approx(64, abs=6)


def test_a_cut_is_exact_to_the_sample(prefab):
    prefab.put("video", "a.mkv", clip("matroska", "mpeg4", "pcm_s16le", 48000, seconds=4))
    _, result = extract(prefab, format="wav", start=2.0001, duration=0.5)
    assert result["data"]["duration"] == 0.5
    with wave.open(io.BytesIO(prefab.outputs()["a.wav"])) as file:
        assert file.getnframes() == 24000
        first = struct.unpack("<2h", file.readframes(1))[0]
    assert first == pytest.approx(12000 * math.sin(2 * math.pi * 440 * 2.0001), abs=700)


def test_a_cut_that_reaches_behind_the_end(prefab):
    prefab.put("video", "a.mp4", clip())
    _, result = extract(prefab, format="wav", start=0.5, duration=100)
    assert result["success"]
    assert result["data"]["duration"] == pytest.approx(0.5, abs=0.06)


def test_a_start_behind_the_end(prefab):
    prefab.put("video", "a.mp4", clip())
    assert "lasts 1.0 seconds" in refused(prefab, "INVALID_PARAMETER", start=50)


def test_two_sound_tracks(prefab):
    prefab.put("video", "a.mkv", clip("matroska", tones=(440, 1000)))
    _, result = extract(prefab, format="wav")
    assert heard(prefab.outputs()["a.wav"])[3] == pytest.approx(440, abs=8)
    assert "2 sound tracks, this is number 1" in result["message"]
    extract(prefab, format="wav", track=2)
    assert heard(prefab.outputs()["a.wav"])[3] == pytest.approx(1000, abs=8)


def test_no_such_track(prefab):
    prefab.put("video", "a.mp4", clip())
    assert refused(prefab, "INVALID_PARAMETER", track=3) == "there is no sound track 3; the file has 1"


def test_a_video_without_sound(prefab):
    prefab.put("video", "a.mp4", clip(audio=None))
    assert "no sound track" in refused(prefab, "NO_AUDIO")
    assert "没有音轨" in refused(prefab, "NO_AUDIO", language="zh")


def test_an_empty_file(prefab):
    prefab.put("video", "a.mp4", b"")
    refused(prefab, "EMPTY_FILE")


@pytest.mark.parametrize(
    "content",
    [
        b"hello, this is no film" * 50,
        b"\x89PNG\r\n\x1a\n" + bytes(400),
        bytes(range(256)) * 40,
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
    ],
    ids=["text", "picture", "bytes", "playlist", "concat"],
)
def test_what_is_no_video(prefab, content):
    prefab.put("video", "a.mp4", content)
    assert "MP4, MOV, MKV" in refused(prefab, "UNSUPPORTED_FORMAT")


def test_a_file_that_was_cut_off(prefab):
    whole = clip(seconds=2)
    prefab.put("video", "a.mp4", whole[: len(whole) // 2])  # its index is at the end
    refused(prefab, "CORRUPT_FILE")


def test_a_cut_off_file_that_still_has_sound(prefab):
    whole = clip("matroska", seconds=6)
    prefab.put("video", "a.mkv", whole[: len(whole) // 2])
    _, result = extract(prefab)
    assert result["success"], result
    assert 1 < result["data"]["duration"] < 5
    assert "may have been cut off" in result["message"]


def test_damage_in_the_middle(prefab):
    content = bytearray(clip("mpegts", audio="mp2", rate=48000, seconds=4))
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(range(250)) * 16
    prefab.put("video", "a.ts", bytes(content))
    _, result = extract(prefab)
    assert result["success"], result
    assert result["data"]["duration"] > 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bitrate": 192000}, "kbit/s"),
        ({"sample_rate": 12345}, "44100"),
        ({"channels": 6}, "1, 2"),
        ({"channels": 3, "format": "wav"}, "1, 2, 6"),
        ({"start": -1}, "seconds"),
        ({"start": float("nan")}, "seconds"),
        ({"duration": 0}, "seconds"),
        ({"track": 0}, "first"),
    ],
)
def test_refused_wishes(prefab, arguments, words):
    prefab.put("video", "a.mp4", clip())
    assert words in refused(prefab, "INVALID_PARAMETER", **arguments)


def test_an_unknown_format(prefab):
    prefab.put("video", "a.mp4", clip())
    assert "mp3, m4a, aac, wav, flac, ogg, opus" in refused(prefab, "UNKNOWN_FORMAT", format="exe")


def test_a_bitrate_where_there_is_none(prefab):
    prefab.put("video", "a.mp4", clip())
    _, result = extract(prefab, format="wav", bitrate=128)
    assert result["data"]["warnings"] == ["`bitrate` has no meaning for wav"]


def test_no_file_and_two(prefab):
    refused(prefab, "NO_INPUT")
    prefab.put("video", "a.mp4", clip())
    prefab.put("video", "b.mp4", clip())
    refused(prefab, "TOO_MANY_FILES")


def test_a_caller_who_hangs_up_leaves_no_file(prefab):
    prefab.put("video", "a.mp4", clip())
    run = prefab.call("extract_audio")
    next(run)
    run.close()
    assert prefab.outputs() == {}
