"""Writes sound: resampled, cut to the sample, encoded, and never more than a moment of it in memory."""

from fractions import Fraction
from pathlib import Path

import av

from .formats import LAYOUTS, Wish

PIECE = 4096  # samples at once, where the codec does not care
FULL = {"wav": {"rf64": "auto"}, "m4a": {"movflags": "faststart"}}  # beyond 4 GB; playable while it loads


class Sound:
    """An output file. `write` takes decoded frames, `close` the rest."""

    def __init__(self, path: Path, wish: Wish, rate: int, channels: int) -> None:
        self.rate = wish.sample_rate or wish.format.default_rate(rate)
        self.channels = wish.channels or wish.format.default_channels(channels)
        self.samples = 0  # written so far
        self.wanted = None if wish.duration is None else max(round(wish.duration * self.rate), 1)
        self._start = wish.start
        self._skip: int | None = None  # known with the first frame
        self._resampler: av.AudioResampler | None = None
        self._accepts: tuple[str, str, int] | None = None
        self._fifo = av.AudioFifo()
        self._format = wish.format.sample_format
        self._layout = LAYOUTS[self.channels]
        self._file = av.open(str(path), "w", format=wish.format.muxer, options=FULL.get(wish.format.name, {}))
        self._stream = self._file.add_stream(wish.format.codec, rate=self.rate, layout=self._layout)
        self._stream.codec_context.format = self._format
        if wish.format.bitrates:
            self._stream.codec_context.bit_rate = 1000 * (wish.bitrate or wish.format.bitrates[self.channels])
        self._stream.codec_context.open()
        self._piece = self._stream.codec_context.frame_size or PIECE

    @property
    def full(self) -> bool:
        return self.wanted is not None and self.samples >= self.wanted

    @property
    def seconds(self) -> float:
        return self.samples / self.rate

    def write(self, place: float, frame: av.AudioFrame) -> None:
        if self._skip is None:
            self._skip = max(round((self._start - place) * self.rate), 0)
        accepts = (frame.format.name, frame.layout.name, frame.sample_rate)
        if accepts != self._accepts:  # broadcasts change between stereo and 5.1 on the way
            self._resample(None)
            self._resampler = av.AudioResampler(self._format, self._layout, self.rate)
            self._accepts = accepts
        frame.pts = None  # what is written is without gaps
        self._resample(frame)
        self._encode(self._piece)

    def close(self) -> None:
        """Ends the file as it should be; without this it stays unreadable."""
        self._resample(None)
        self._encode(self._piece)
        self._encode(1)
        self._file.mux(self._stream.encode(None))
        self._file.close()

    def abandon(self) -> None:
        self._file.close()

    def _resample(self, frame: av.AudioFrame | None) -> None:
        if self._resampler is None:
            return
        for resampled in self._resampler.resample(frame):
            resampled.pts = None
            self._fifo.write(resampled)

    def _encode(self, at_least: int) -> None:
        while self._skip and self._fifo.samples:
            dropped = min(self._skip, self._fifo.samples, PIECE)
            self._fifo.read(dropped)
            self._skip -= dropped
        while self._fifo.samples >= at_least and not self.full:
            count = min(self._piece, self._fifo.samples)
            if self.wanted is not None:
                count = min(count, self.wanted - self.samples)
            piece = self._fifo.read(count)
            piece.pts, piece.time_base = self.samples, Fraction(1, self.rate)
            self.samples += count
            self._file.mux(self._stream.encode(piece))
