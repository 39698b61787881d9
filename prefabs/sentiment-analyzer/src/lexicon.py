"""The words that count, from the two files beside this one."""

from pathlib import Path

HERE = Path(__file__).parent
SHORTEST_STEM = 3


def _read(name: str, separator: str | None) -> dict[str, float]:
    """{word: value}."""
    values: dict[str, float] = {}
    for line in (HERE / name).read_text("utf-8").splitlines():
        head, colon, words = line.partition(": ")
        if line.startswith("#") or not colon:
            continue
        values |= {word.strip(): float(head) for word in words.split(separator)}
    return values


ENGLISH = _read("english.txt", ",")
CHINESE = _read("chinese.txt", None)
LONGEST_CHINESE = max(map(len, CHINESE))


def _phrase_lengths() -> dict[str, int]:
    longest: dict[str, int] = {}
    for phrase in ENGLISH:
        words = phrase.split()
        longest[words[0]] = max(longest.get(words[0], 1), len(words))
    return longest


LONGEST_PHRASE = _phrase_lengths()


def english(word: str) -> float | None:
    """The value of a word in any inflected form; None if it says nothing."""
    if word in ENGLISH:
        return ENGLISH[word]
    for stem in stems(word):
        if stem in ENGLISH:
            return ENGLISH[stem]
    return None


def stems(word: str) -> list[str]:
    """What the word may be a form of: smiles, hugged, loving, happily, nicest, #lovely."""
    stems = []
    for ending, replacements in (
        ("ies", ["y"]), ("ied", ["y"]), ("ier", ["y"]), ("iest", ["y"]), ("ily", ["y"]), ("iness", ["y"]),
        ("es", ["", "e"]), ("s", [""]), ("ed", ["", "e"]), ("ing", ["", "e"]), ("er", ["", "e"]), ("est", ["", "e"]),
        ("ly", ["", "le"]), ("ness", [""]), ("'s", [""]),
    ):  # fmt: skip
        root = word.removesuffix(ending)
        if root != word and len(root) >= SHORTEST_STEM:
            stems += [root + replacement for replacement in replacements]
            if root[-1] == root[-2]:  # hugged, biggest
                stems.append(root[:-1])
    return stems


def without_repeats(word: str) -> list[str]:
    """sooo, goooood and looove as they are meant: with two letters at most where there are three or more, or one."""
    twice, once = [], []
    for index, letter in enumerate(word):
        if word[max(0, index - 2) : index] != letter * 2:
            twice.append(letter)
    for letter in twice:
        if once[-1:] != [letter]:
            once.append(letter)
    return ["".join(twice), "".join(once)]
