"""Which encoding a text file is in: byte order marks, UTF-8, UTF-16, then the legacy ones that are still in use."""

import codecs
from pathlib import Path

from charset_normalizer import from_bytes

from .problem import Problem

SAMPLE = 64 * 1024
CHUNK = 1024 * 1024
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What a language says about legacy text; the first that decodes the whole file wins.
BY_LANGUAGE = {"zh": ("gb18030", "big5"), "ja": ("cp932", "euc_jp"), "ko": ("cp949",), "ru": ("cp1251",)}
BY_LANGUAGE |= dict.fromkeys(("zh-tw", "zh-hk", "zh-hant"), ("big5", "gb18030"))
LEGACY = ["big5", "cp932", "euc_jp", "cp949", "cp1251", "koi8_r", "cp1252", "cp1250", "cp1253", "cp1254"]


def detect(path: Path, language: str = "") -> str:
    """The name of a codec that Python knows. `language` ("zh", "ja", ...) only decides between legacy encodings."""
    with path.open("rb") as file:
        sample = file.read(SAMPLE)
    for mark, codec in MARKS:
        if sample.startswith(mark):
            return codec
    if b"\0" in sample:
        return _utf16_without_mark(sample)
    if _decodes(path, "utf-8"):
        return "utf-8"
    sample = _around_first_foreign_byte(path)
    tag = language.lower().replace("_", "-")
    for codec in BY_LANGUAGE.get(tag, BY_LANGUAGE.get(tag.split("-")[0], ())):
        if _decodes(path, codec):
            return codec
    if _reads_as_chinese(sample) and _decodes(path, "gb18030"):
        return "gb18030"
    return _legacy(sample)


def _decodes(path: Path, codec: str) -> bool:
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _utf16_without_mark(sample: bytes) -> str:
    for codec in ("utf-16-le", "utf-16-be"):
        text = sample[: len(sample) // 2 * 2].decode(codec, errors="replace")
        plausible = sum(c.isalnum() or c.isspace() or c in ",.;:!?'\"()[]{}<>-_/\\|=+*#%&@，。；：！？、" for c in text)
        if "\0" not in text and plausible >= 0.9 * len(text) and any(c.isascii() for c in text):
            return codec
    raise Problem("UNSUPPORTED_FORMAT", "this is a binary file, not text", "这是二进制文件，不是文本")


def _around_first_foreign_byte(path: Path) -> bytes:
    """A sample that starts at the line of the first byte above 127: the part that tells encodings apart."""
    line = b""
    with path.open("rb") as file:
        while line.isascii() and (line := file.readline(CHUNK)):
            pass
        return line + file.read(SAMPLE)


def _reads_as_chinese(sample: bytes) -> bool:
    """Everyday Chinese is nearly all level-1 hanzi and punctuation of GB 2312; other legacy text read as GB is not."""
    text = codecs.getincrementaldecoder("gb18030")(errors="replace").decode(sample)
    foreign = [c for c in text if not c.isascii()]
    everyday = 0
    for character in foreign:
        pair = character.encode("gb2312", errors="ignore")
        everyday += len(pair) == 2 and (0xA1 <= pair[0] <= 0xA3 or 0xB0 <= pair[0] <= 0xD7)
    return bool(foreign) and everyday >= 0.7 * len(foreign)


def _legacy(sample: bytes) -> str:
    foreign = sum(byte > 127 for byte in sample)
    if foreign < 0.2 * len(sample):  # Latin letters with an accent here and there
        return "cp1252"
    best = from_bytes(sample, cp_isolation=LEGACY).best()
    return best.encoding if best else "cp1252"
