"""Words that say nothing themselves and change what others say, from the files beside this one."""

from pathlib import Path

HERE = Path(__file__).parent


def _lines(name: str) -> list[str]:
    return [line for line in (HERE / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]


WORDS: dict[str, tuple[str, float]] = {}  # word: (kind, value)
GROUPS: dict[str, set[str]] = {}
FACES: dict[str, float] = {}  # emoji
EMOTICONS: dict[str, float] = {}
for _line in _lines("grammar.txt"):
    _head, _, _words = _line.partition(": ")
    _kind, _, _value = _head.partition(" ")
    for _word in _words.split(", "):
        if _kind.isupper():
            GROUPS.setdefault(_kind, set()).add(_word)
        elif _kind == "emoji":
            FACES[_word] = float(_value)
        elif _kind == "emoticon":
            EMOTICONS[_word] = float(_value)
        else:
            WORDS[_word] = (_kind, float(_value or 0))

LONGEST_PHRASE = max(len(word.split()) for word in WORDS)
SIMPLIFIED = {ord(pair[0]): pair[1] for line in _lines("traditional.txt") for pair in line.split()}
