"""The sound of a media file, decoded piece by piece."""

import logging
from collections.abc import Iterator
from pathlib import Path

import av

from .problem import Problem

# Containers that people have. Playlists (HLS, DASH, concat) are not among them: they would make the decoder open
# other files and addresses.
CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,dv,eac3,flac,flv,h264,hevc,ivf,m4v,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,tta,vob,w64,wav,wv"
)
KNOWN = "MP4, MOV, MKV, WebM, AVI, WMV, FLV, MPEG, TS, 3GP, Ogg, MP3, M4A, WAV, FLAC"
# The beginnings of such files: with one of them a file that cannot be opened is damaged, not of another kind.
BEGINNINGS = (b"\x1aE\xdf\xa3", b"RIFF", b"OggS", b"FLV\x01", b"fLaC", b"ID3", b"\x30\x26\xb2\x75", b"\x00\x00\x01\xba")
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free")
SEEK_AHEAD = 1.0  # seconds; positions in some containers are estimates, and decoders need a run-up
log = logging.getLogger(__name__)


class Source:
    """An open file and the sound track that was asked for."""

    def __init__(self, path: Path, track: int) -> None:
        self.path = path
        self.damaged = 0  # packets that could not be decoded
        self.ended_early = False
        self.container = _open(path)
        try:
            self.stream = self._choose(track)
        except BaseException:
            self.container.close()
            raise
        self.tracks = len(self.container.streams.audio)
        self.begins = (self.container.start_time or 0) / av.time_base
        self.duration = self._duration()

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def _choose(self, track: int) -> av.AudioStream:
        streams = self.container.streams.audio
        if not streams:
            raise Problem(
                "NO_AUDIO",
                "this video has no sound track; use one that was recorded with sound",
                "这个视频没有音轨；请使用有声音的视频",
            )
        if track > len(streams):
            raise Problem(
                "INVALID_PARAMETER",
                f"there is no sound track {track}; the file has {len(streams)}",
                f"没有第 {track} 条音轨；文件共有 {len(streams)} 条",
            )
        stream = streams[track - 1]
        if stream.codec_context is None:
            raise Problem(
                "UNSUPPORTED_FORMAT",
                f"the sound of this file is in a format that cannot be decoded; files that can: {KNOWN}",
                f"无法解码该文件的音频；支持的文件：{KNOWN}",
            )
        return stream

    def _duration(self) -> float | None:
        if self.container.duration and self.container.duration > 0:
            return self.container.duration / av.time_base
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        return None

    def frames(self, start: float) -> Iterator[tuple[float, av.AudioFrame]]:
        """Every piece of sound from a little before `start`, with its place in seconds from the beginning."""
        if start > SEEK_AHEAD:
            try:
                self.container.seek(int((self.begins + start - SEEK_AHEAD) * av.time_base))
            except av.FFmpegError:
                log.info("cannot seek; reading from the beginning")
        after = 0.0
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                self.damaged += 1
                if self.damaged <= 3:
                    log.warning("skipped a damaged packet: %s", error)
                continue
            for frame in frames:
                if not frame.samples or not frame.sample_rate:
                    continue
                place = frame.time - self.begins if frame.time is not None else after
                after = place + frame.samples / frame.sample_rate
                yield place, frame

    def _packets(self) -> Iterator[av.Packet]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                log.warning("the file ends early: %s", error)
                self.ended_early = True
                return
            if packet is None:
                return
            yield packet


# Titles in odd encodings must not keep a file from being opened. From PyAV 19 on they do not, unasked.
_LENIENT = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


def _open(path: Path) -> "av.container.InputContainer":
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise Problem("EMPTY_FILE", "the file is empty; upload it again", "文件是空的；请重新上传")
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        return av.open(str(path), options=options, **_LENIENT)
    except av.FFmpegError as error:
        log.info("cannot open %r: %s", path.name, error)
        if head.startswith(BEGINNINGS) or head[4:8] in BOXES:
            raise Problem(
                "CORRUPT_FILE",
                "the file is damaged or was cut off; upload it again or export it anew",
                "文件已损坏或不完整；请重新上传或重新导出",
            ) from error
        raise Problem(
            "UNSUPPORTED_FORMAT",
            f"this is not a video or sound file that can be read; files that can: {KNOWN}",
            f"这不是可读取的视频或音频文件；支持的文件：{KNOWN}",
        ) from error
