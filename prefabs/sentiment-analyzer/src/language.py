"""Which language a text is in, as far as it matters here: English, Chinese, both, or one that is not understood."""

import re
from pathlib import Path

# Scripts that neither English nor Chinese uses. The kana come first: Japanese has Chinese characters as well.
SCRIPTS = {
    "Japanese": "\u3041-\u30fa\uff66-\uff9d", "Korean": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "Cyrillic script": "\u0400-\u052f", "Greek": "\u0370-\u03ff", "Arabic script": "\u0600-\u06ff\u0750-\u077f",
    "Hebrew": "\u0590-\u05ff", "Thai": "\u0e00-\u0e7f", "Hindi or a related language": "\u0900-\u0dff",
    "Georgian": "\u10a0-\u10ff", "Armenian": "\u0530-\u058f", "Khmer": "\u1780-\u17ff", "Lao": "\u0e80-\u0eff",
    "Burmese": "\u1000-\u109f", "Amharic": "\u1200-\u137f", "Tibetan": "\u0f00-\u0fff",
}  # fmt: skip
HAN = re.compile(r"[\u3400-\u9fff]")
WORD = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+(?:['’][A-Za-z\u00c0-\u024f]+)?")
NOISE = re.compile(r"https?://\S+|www\.\S+|[@#]\w+")
EXAMINED = 20_000  # characters that are looked at


def _words() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (Path(__file__).parent / "languages.txt").read_text("utf-8").splitlines():
        name, colon, words = line.partition(": ")
        if colon and not line.startswith("#"):
            found.setdefault(name, set()).update(words.split())
    return found


OTHERS = _words()
ENGLISH = OTHERS.pop("English")


def detect(text: str) -> tuple[str, str | None]:
    """("en", "zh", "mixed" or "none", None), or ("other", the name of the language)."""
    text = NOISE.sub(" ", text[:EXAMINED])
    chinese = len(HAN.findall(text))
    words = [word.lower().replace("’", "'") for word in WORD.findall(text)]
    for name, characters in SCRIPTS.items():
        count = len(re.findall(f"[{characters}]", text))
        if count and count >= 0.3 * (chinese + sum(map(len, words)) + count) - (0 if count > 1 else 1):
            return "other", name
        if name == "Japanese" and count >= 3 and count >= 0.15 * (chinese + count):
            return "other", name
    if not chinese and not words:
        return "none", None
    spoken = any(word in ENGLISH for word in words)  # and not only named, as in 这台 iPhone 15 Pro
    if chinese and (chinese >= 3 * len(words) or (chinese >= len(words) and not spoken)):
        return "zh", None
    if name := _foreign(words):
        return "other", name
    return ("mixed" if chinese >= 2 else "en"), None


def _foreign(words: list[str]) -> str | None:
    """The language if there is more of it here than of English. Without any evidence a text is English."""
    english = sum(word in ENGLISH for word in words)
    accents = 0.5 * sum(not word.isascii() for word in words)
    counts = {name: sum(word in known for word in words) for name, known in OTHERS.items()}
    name = max(counts, key=lambda language: counts[language])
    evidence = counts[name] + accents
    enough = 1 if len(words) <= 3 else 2
    if counts[name] >= 1 and evidence >= enough and evidence > 1.2 * english:
        return name
    return None
