"""The formats that sound is written in, and what a caller may ask of each."""

from dataclasses import dataclass

import av

from .problem import Problem

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
RATES = range(8_000, 192_001)  # where the codec itself has no list
BITRATES = range(8, 513)


@dataclass(frozen=True)
class Format:
    name: str
    muxer: str
    codec: str
    sample_format: str
    most_channels: int = 6
    bitrates: dict[int, int] | None = None  # kbit/s by channels; None where nothing is lost
    highest_bitrate: int = 512

    def rates(self) -> list[int]:
        return sorted(av.Codec(self.codec, "w").audio_rates or [])

    def default_rate(self, source: int) -> int:
        """That of the source, else the next higher one that the format knows."""
        known = self.rates() or [min(max(source, RATES[0]), RATES[-1])]
        return next((rate for rate in known if rate >= source), known[-1])

    def default_channels(self, source: int) -> int:
        return max(channels for channels in LAYOUTS if channels <= min(max(source, 1), self.most_channels))


LOSSY = {1: 96, 2: 192, 6: 384}
SPEECH = {1: 64, 2: 128, 6: 320}
FORMATS = {
    format.name: format
    for format in (
        Format("mp3", "mp3", "libmp3lame", "fltp", most_channels=2, bitrates=LOSSY, highest_bitrate=320),
        Format("m4a", "ipod", "aac", "fltp", bitrates=LOSSY),
        Format("aac", "adts", "aac", "fltp", bitrates=LOSSY),
        Format("wav", "wav", "pcm_s16le", "s16"),
        Format("flac", "flac", "flac", "s16"),
        Format("ogg", "ogg", "libopus", "flt", bitrates=SPEECH),
        Format("opus", "opus", "libopus", "flt", bitrates=SPEECH),
    )
}


@dataclass(frozen=True)
class Wish:
    """What the caller asked for, checked; None leaves the choice to us."""

    format: Format
    bitrate: int | None
    sample_rate: int | None
    channels: int | None
    start: float
    duration: float | None
    track: int


def checked(
    format: object, bitrate: object, sample_rate: object, channels: object, start: object, duration: object, track: int
) -> Wish:
    target = FORMATS.get(format.strip().lower().removeprefix(".")) if isinstance(format, str) else None
    if target is None:
        names = ", ".join(FORMATS)
        raise Problem(
            "UNKNOWN_FORMAT",
            f"sound cannot be written as {str(format)[:40]!r}; choose one of {names}",
            f"不支持输出格式 {str(format)[:40]!r}；请选择 {names} 之一",
        )
    if channels is not None and not (_whole(channels) and channels in LAYOUTS and channels <= target.most_channels):
        allowed = [str(count) for count in LAYOUTS if count <= target.most_channels]
        raise _refused("channels", f"one of {', '.join(allowed)} for {target.name}", f"{'、'.join(allowed)} 之一")
    most = min(target.highest_bitrate, BITRATES[-1])
    if bitrate is not None and not (_whole(bitrate) and BITRATES[0] <= bitrate <= most):
        raise _refused(
            "bitrate", f"from {BITRATES[0]} to {most} (kbit/s) for {target.name}", f"{BITRATES[0]} 到 {most}（kbit/s）"
        )
    rates = target.rates()
    if sample_rate is not None and not (_whole(sample_rate) and sample_rate in (rates or RATES)):
        known = ", ".join(map(str, rates))
        raise _refused(
            "sample_rate",
            f"one of {known} for {target.name}" if rates else f"from {RATES[0]} to {RATES[-1]}",
            f"{known} 之一" if rates else f"{RATES[0]} 到 {RATES[-1]}",
        )
    if not (_number(start) and start >= 0):
        raise _refused("start", "a number of seconds, 0 or more", "不小于 0 的秒数")
    if duration is not None and not (_number(duration) and duration > 0):
        raise _refused("duration", "a number of seconds above 0", "大于 0 的秒数")
    if not (_whole(track) and track >= 1):
        raise _refused("track", "1 for the first sound track, 2 for the second …", "从 1 开始的音轨序号")
    return Wish(target, bitrate, sample_rate, channels, float(start), duration, track)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value < 1e9


def _refused(name: str, english: str, chinese: str) -> Problem:
    return Problem("INVALID_PARAMETER", f"`{name}` must be {english}", f"`{name}` 必须是{chinese}")
