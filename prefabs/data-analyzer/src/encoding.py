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
# The letters that make up most of a text, for codecs of one byte for each letter.
RUSSIAN = "оеаинтсрвлкмдпу"
FREQUENT = {"cp1251": RUSSIAN, "koi8_r": RUSSIAN, "cp866": RUSSIAN, "cp1253": "αοιετσνηυρπκμλςόίάέήώ"}
FREQUENT |= dict.fromkeys(("cp1256", "iso8859_6"), "اليمنوتربةعدسفهكقأح") | {"cp1255": "יוהלאמרתבשנחדפ"}
FREQUENT |= {"cp874": "านรอกเงมยลวดสตบ่้ีิัืุ"}
TELLING = 8  # characters from which on their frequency says something
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
        return "iso2022_jp" if b"\x1b$" in sample and _decodes(path, "iso2022_jp") else "utf-8"
    sample = _around_first_foreign_byte(path)
    if _is_damaged_utf8(sample):
        return "utf-8"
    tag = language.lower().replace("_", "-")
    for codec in BY_LANGUAGE.get(tag, BY_LANGUAGE.get(tag.split("-")[0], ())):
        if _decodes(path, codec):
            return codec
    if codec := _by_frequent_letters(sample):
        return codec
    if _reads_as_korean(sample) and _decodes(path, "cp949"):
        return "cp949"
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


def _is_damaged_utf8(sample: bytes) -> bool:
    """Cut off in the middle of a character, or with a wrong byte here and there; legacy text is nearly all wrong."""
    text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(sample)
    wrong = text.count("\ufffd")
    return wrong <= sum(not c.isascii() for c in text) // 10 and not text.isascii()


def _by_frequent_letters(sample: bytes) -> str | None:
    """Cyrillic, Greek, Hebrew, Arabic and Thai, where a few letters are most of the text."""
    foreign = sample.translate(None, bytes(range(128)))
    latin = sum(bytes((byte,)).isalpha() for byte in sample)
    if len(foreign) < max(2 * TELLING, latin):
        return None

    def share(codec: str) -> float:
        return 1 - len(foreign.translate(None, FREQUENT[codec].encode(codec))) / len(foreign)

    best = max(FREQUENT, key=share)
    return best if share(best) >= 0.65 else None


def _reads_as_korean(sample: bytes) -> bool:
    """Read as Korean, Chinese is a mixture of Hangul and hanja; Korean today is all Hangul."""
    text = codecs.getincrementaldecoder("euc_kr")(errors="replace").decode(sample)
    letters = {c for c in text if not c.isascii() and (c.isalpha() or c == "\ufffd")}
    return len(letters) >= TELLING and all("가" <= c <= "힣" for c in letters)


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
