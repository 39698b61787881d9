"""What a model adds to a translation although it was told not to."""

import re

QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "『": "』", "«": "»", "„": "“", "`": "`"}
EVERY_QUOTE = frozenset(QUOTES) | frozenset(QUOTES.values())
FENCE = re.compile(r"```[^\n`]*\n(.*?)\n?```", re.DOTALL)
THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


def cleaned(answer: str, text: str, tag: str) -> str:
    """The translation alone. What the text itself has (a fence, quotation marks) is left as it is."""
    if "<think>" not in text:
        answer = THOUGHTS.sub("", answer, count=1)
    answer = answer.strip()
    if "```" not in text and (fence := FENCE.fullmatch(answer)):
        answer = fence[1].strip()
    answer = answer.removeprefix(f"<{tag}>").removesuffix(f"</{tag}>").strip()
    if text[0] not in EVERY_QUOTE and text[-1] not in EVERY_QUOTE:
        answer = _unquoted(answer)
    return answer


def _unquoted(answer: str) -> str:
    closing = QUOTES.get(answer[:1])
    if closing is None or len(answer) < 3 or answer[-1] != closing:
        return answer
    inner = answer[1:-1]
    if answer[0] in inner or closing in inner:  # “A” and “B”: two quotations, not one around everything
        return answer
    return inner.strip()
