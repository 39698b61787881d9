"""`analyze`: is a text positive, negative or neutral? Offline, for English and Chinese."""

from typing import Any

from .judging import judge
from .language import detect
from .tokens import tokens

LONGEST_TEXT = 1_000_000
MOST_WORDS = 50
CODES = {"en": "en", "english": "en", "英语": "en", "英文": "en", "zh": "zh", "chinese": "zh", "中文": "zh"}


def analyze(text: str, language: str | None = None) -> dict[str, Any]:
    """The sentiment with its confidence, and the words that it rests on."""
    if not isinstance(text, str):
        return _failure("INVALID_PARAMETER", "`text` must be text")
    if not text.strip():
        return _failure("EMPTY_TEXT", "`text` is empty; give at least a word or an emoji")
    if len(text) > LONGEST_TEXT:
        reason = f"`text` has {len(text):,} characters, and at most {LONGEST_TEXT:,} are analyzed at once; divide it"
        return _failure("TEXT_TOO_LONG", reason)
    if language is not None and not isinstance(language, str):
        return _failure("INVALID_PARAMETER", "`language` must be en or zh, or be left out")
    found = _language(text, language)
    if found not in ("en", "zh", "mixed", "none"):
        reason = (
            f"the text seems to be in {found}; only English (en) and Chinese (zh) are understood: translate it first"
        )
        if language and language.strip():
            reason = f"`language` {found!r} is not understood; only English (en) and Chinese (zh) are"
        return _failure("UNSUPPORTED_LANGUAGE", reason)
    judgement = judge(tokens(text))
    strongest = sorted(judgement.hits, key=lambda hit: -abs(hit.weight))[:MOST_WORDS]
    return {
        "success": True,
        "sentiment": judgement.sentiment,
        "confidence": round(judgement.confidence, 3),
        "score": round(judgement.score, 3),
        "mixed": judgement.mixed,
        "language": found,
        "words": [{"word": hit.word, "weight": round(hit.weight, 2)} for hit in strongest],
    }


def _language(text: str, given: str | None) -> str:
    """What the caller says counts, and is looked for only when it says nothing."""
    if given and given.strip() and given.strip().casefold() != "auto":
        plain = given.strip().casefold().replace("_", "-")
        return CODES.get(plain) or CODES.get(plain.split("-")[0]) or given.strip()[:40]
    found, name = detect(text)
    return name or found


def _failure(code: str, reason: str) -> dict[str, Any]:
    return {"success": False, "error": reason, "error_code": code}
