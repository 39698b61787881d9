"""`extract_audio`: the sound of a video, as a file."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .formats import Wish, checked
from .problem import Problem, speaks_chinese
from .sound import Sound
from .source import Source

INPUTS = Path("data/inputs/video")
OUTPUTS = Path("data/outputs")
STEPS = 20  # progress events of a whole run, at most one for each twentieth
UNTOLD = 30.0  # seconds of sound between two events where the length is not known
log = logging.getLogger(__name__)


def extract_audio(
    format: str = "mp3",
    bitrate: int | None = None,
    sample_rate: int | None = None,
    channels: int | None = None,
    start: float = 0,
    duration: float | None = None,
    track: int = 1,
    language: str = "en",
) -> Iterator[dict[str, Any]]:
    """Write the sound of the one file under `video`. Yields progress and returns the result."""
    language = language if isinstance(language, str) else "en"
    try:
        wish = checked(format, bitrate, sample_rate, channels, start, duration, track)
        return (yield from _extract(_input(), wish, language))
    except Problem as problem:
        return problem.result(language)


def _input() -> Path:
    paths = sorted(path for path in INPUTS.glob("*") if path.is_file())
    if len(paths) != 1:
        raise Problem(
            "NO_INPUT" if not paths else "TOO_MANY_FILES",
            "give exactly one file under `video`",
            "请在 `video` 下提供一个文件",
        )
    return paths[0]


def _extract(path: Path, wish: Wish, language: str) -> Iterator[dict[str, Any]]:
    output = OUTPUTS / f"{path.stem}.{wish.format.name}"
    with Source(path, wish.track) as source:
        sound = None
        try:
            total = _expected(source, wish)
            told = 0.0
            for place, frame in source.frames(wish.start):
                if place + frame.samples / frame.sample_rate <= wish.start:
                    continue
                if sound is None:
                    sound = Sound(output, wish, frame.sample_rate, frame.layout.nb_channels)
                sound.write(place, frame)
                if sound.full:
                    break
                if sound.seconds - told >= (total / STEPS if total else UNTOLD):
                    told = sound.seconds
                    yield {"type": "progress", "data": {"current": round(told, 1), "total": total}}
            if sound is None:
                raise _silent(source, wish)
            sound.close()
        except BaseException:  # half a file helps nobody
            if sound is not None:
                sound.abandon()
                output.unlink(missing_ok=True)
            raise
        if not sound.samples:
            output.unlink()
            raise _silent(source, wish)
        return _answer(output, source, sound, wish, language)


def _expected(source: Source, wish: Wish) -> float | None:
    if source.duration is None:
        return None
    rest = max(source.duration - wish.start, 0.0)
    return round(min(rest, wish.duration or rest), 1)


def _silent(source: Source, wish: Wish) -> Problem:
    if wish.start and not source.damaged and not source.ended_early:
        length = f"{source.duration:.1f}" if source.duration else "?"
        return Problem(
            "INVALID_PARAMETER",
            f"`start` lies behind the end; the file lasts {length} seconds",
            f"`start` 超出了文件的长度；文件长 {length} 秒",
        )
    if source.damaged or source.ended_early:
        return Problem(
            "CORRUPT_FILE",
            "the sound in this file is damaged and cannot be decoded; export the file anew",
            "文件中的音频已损坏，无法解码；请重新导出",
        )
    return Problem("NO_AUDIO", "the sound track of this file is empty", "文件的音轨是空的")


def _answer(output: Path, source: Source, sound: Sound, wish: Wish, language: str) -> dict[str, Any]:
    size = output.stat().st_size
    codec = source.stream.codec_context
    data = {
        "file": output.name,
        "format": wish.format.name,
        "codec": {"libmp3lame": "mp3", "libopus": "opus"}.get(wish.format.codec, wish.format.codec),
        "duration": round(sound.seconds, 3),
        "size": size,
        "sample_rate": sound.rate,
        "channels": sound.channels,
        "bitrate": round(size * 8 / sound.seconds / 1000),
        "source": {
            "format": source.container.format.name,
            "codec": codec.name,
            "duration": source.duration and round(source.duration, 3),
            "sample_rate": codec.sample_rate,
            "channels": codec.channels,
            "track": wish.track,
            "tracks": source.tracks,
            "language": source.stream.language,
        },
        "warnings": [warning[speaks_chinese(language)] for warning in _warnings(source, sound, wish)],
    }
    seconds = f"{sound.seconds:.1f}"
    megabytes = f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
    if speaks_chinese(language):
        message = f"已提取 {seconds} 秒音频：{output.name}（{megabytes}）"
    else:
        message = f"extracted {seconds} seconds of sound: {output.name} ({megabytes})"
    message += "".join(f"; {warning}" for warning in data["warnings"])
    return {"success": True, "message": message, "data": data}


def _warnings(source: Source, sound: Sound, wish: Wish) -> Iterator[tuple[str, str]]:
    if source.tracks > 1:
        yield (
            f"the file has {source.tracks} sound tracks, this is number {wish.track}",
            f"文件有 {source.tracks} 条音轨，这是第 {wish.track} 条",
        )
    if source.damaged:
        yield f"{source.damaged} damaged pieces were left out", f"跳过了 {source.damaged} 处损坏的数据"
    expected = _expected(source, wish)
    if source.ended_early or (expected and sound.seconds < 0.9 * expected - 1):
        yield (
            "the sound is shorter than the file says; the file may have been cut off",
            "音频比文件标明的长度短；文件可能不完整",
        )
    if wish.bitrate and not wish.format.bitrates:
        yield f"`bitrate` has no meaning for {wish.format.name}", f"`bitrate` 对 {wish.format.name} 没有意义"
