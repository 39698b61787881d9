"""A text as a row of tokens: what each piece of it says or does. English and Chinese may alternate freely."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from . import grammar, lexicon

HAN = "\u3400-\u9fff"
EMOTICONS = "|".join(re.escape(face) for face in sorted(grammar.EMOTICONS, key=len, reverse=True))
TOKEN = re.compile(
    rf"(?P<skip>https?://\S+|www\.\S+|@\w+)"
    rf"|(?P<face>(?<![\w])(?:{EMOTICONS})(?![\w/]))"
    rf"|(?P<word>(?:\d+/\d+|[A-Za-z]\+|#?[A-Za-z\u00c0-\u024f]+(?:['’-][A-Za-z\u00c0-\u024f]+)*)|666+)"
    rf"|(?P<han>[{HAN}]+)"
    rf"|(?P<emoji>[\u2600-\u27bf\u2b50\U0001f300-\U0001faff])"
    rf"|(?P<end>[.!?。！？…\n]+)"
    rf"|(?P<comma>[,;:，；：、()（）—]+)"
)


@dataclass(slots=True)
class Token:
    """`kind` is hit, negation, booster, comma, end, other or one of those in grammar.txt; `value` depends on it."""

    kind: str
    text: str
    value: float = 0.0
    length: int = 1  # in English words or Chinese characters
    chinese: bool = False


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text, in one pass over it."""
    row: list[str] = []  # English words that no other token interrupts: phrases lie within
    for match in TOKEN.finditer(text):
        kind, piece = match.lastgroup, match[0]
        if kind == "word":
            row.append(piece)
            continue
        if kind == "skip":
            continue
        if row:
            yield from _english(row)
            row = []
        if kind == "han":
            yield from _chinese(piece.translate(grammar.SIMPLIFIED))
        elif kind in ("end", "comma"):
            yield Token(kind, piece)
        elif kind == "face":
            yield Token("hit", piece, grammar.EMOTICONS[piece])
        elif value := grammar.FACES.get(piece):
            yield Token("hit", piece, value)
    if row:
        yield from _english(row)


def _english(row: list[str]) -> Iterator[Token]:
    words = [word.replace("’", "'").lower().lstrip("#") for word in row]
    shouting = any(word.islower() for word in row)  # capitals mean something only where not all is in capitals
    index = 0
    while index < len(words):
        length, value = _phrase(words, index)
        text = " ".join(words[index : index + length])
        function = _function(words, index)
        if function and function.length >= length:
            token = function
        elif value is not None and length > 1:
            token = Token("hit" if value else "other", text, value, length)
        else:
            value = _value(words[index]) if value is None else value
            loud = 1.2 if shouting and len(row[index]) > 2 and row[index].isupper() else 1.0
            token = Token("hit" if value else "other", words[index], (value or 0.0) * loud)
            if value and words[index].endswith("ly") and index + 1 < len(words) and _value(words[index + 1]):
                token = Token("booster", words[index], 1.3)  # ridiculously good
        if token.kind == "other" and token.length == 1 and _is_capable(token.text):
            token.kind = "capable"
        yield token
        index += token.length


def _is_capable(word: str) -> bool:
    return any(grammar.WORDS.get(stem, ("",))[0] == "capable" for stem in lexicon.stems(word))


def _phrase(words: list[str], index: int) -> tuple[int, float | None]:
    """The longest known phrase that begins here."""
    for length in range(min(lexicon.LONGEST_PHRASE.get(words[index], 0), len(words) - index), 0, -1):
        value = lexicon.ENGLISH.get(" ".join(words[index : index + length]))
        if value is not None:
            return length, value
    return 1, None


def _value(word: str) -> float | None:
    if (value := lexicon.english(word)) is not None:
        return value
    if word in lexicon.CHINESE:  # yyds, nice, emo
        return lexicon.CHINESE[word]
    if re.search(r"(.)\1\1", word):
        return next((v for short in lexicon.without_repeats(word) if (v := lexicon.english(short)) is not None), None)
    if "-" in word:
        values = [v for part in word.split("-") if (v := lexicon.english(part))]
        return values[-1] if values else None
    return None


def _function(words: list[str], index: int) -> Token | None:
    for length in range(min(grammar.LONGEST_PHRASE, len(words) - index), 0, -1):
        text = " ".join(words[index : index + length])
        if length == 1 and text.endswith("n't"):
            return Token("negation", text, 5, length)
        if token := _known(text, length):
            return token
    return None


def _known(text: str, length: int) -> Token | None:
    if text not in grammar.WORDS:
        return None
    kind, value = grammar.WORDS[text]
    return Token(kind, text, value, length)


def _chinese(run: str) -> Iterator[Token]:
    """The longest known word at each place; a character that begins none stands alone."""
    index = 0
    while index < len(run):
        token = None
        for length in range(min(lexicon.LONGEST_CHINESE, len(run) - index), 0, -1):
            word = run[index : index + length]
            if token := _known(word, length):
                break
            if (value := lexicon.CHINESE.get(word)) is not None:
                token = Token("hit" if value else "other", word, value, length)
                break
        token = token or Token("other", run[index])
        token.chinese = True
        yield token
        index += token.length
