"""`translate`: text from one language into another, by the model behind the prefab llm-client."""

from typing import Any

from .failure import Failure
from .languages import code_of
from .pieces import LONGEST_PIECE

LONGEST_TEXT = 100_000


def translate(text: str, target: str, source: str | None = None, model: str | None = None) -> dict[str, Any]:
    """A text without words (empty, blank, digits, emoji) and one that is in the target language stay as they are."""
    # The SDK starts what it needs when it is imported. Imported here, a process can be made ready before it is needed.
    from .model import Translator

    try:
        given, wanted = _check(text, target, source, model)
        translator = Translator(given, wanted, model)
        same = given == wanted
        translated = text if same or not text.strip() else translator.translate(text, LONGEST_PIECE)
    except Failure as failure:
        result = {"success": False, "error": failure.text, "error_code": failure.error_code}
        return result if failure.retry_after is None else result | {"retry_after": failure.retry_after}
    return {
        "success": True,
        "translated_text": translated,
        "source": given,
        "target": wanted,
        "model": translator.model,
    }


def _check(text: Any, target: Any, source: Any, model: Any) -> tuple[str | None, str]:
    def refuse(unless: bool, reason: str, code: str = "INVALID_PARAMETER") -> None:
        if not unless:
            raise Failure(code, reason)

    refuse(isinstance(text, str), "`text` must be text")
    refuse(isinstance(target, str) and bool(target.strip()), "`target` must name a language, such as en, zh or 日本語")
    refuse(source is None or isinstance(source, str), "`source` must name a language, or be left out")
    refuse(model is None or (isinstance(model, str) and bool(model.strip())), "`model` must be the name of a model")
    refuse(
        len(text) <= LONGEST_TEXT,
        f"`text` has {len(text):,} characters, and at most {LONGEST_TEXT:,} are translated at once; divide it",
        "TEXT_TOO_LONG",
    )
    refuse(not any("\ud800" <= c <= "\udfff" for c in text), "`text` holds half characters (lone surrogates)")
    known = code_of(source, "source") if source and source.strip().casefold() not in ("", "auto") else None
    return known, code_of(target, "target")
