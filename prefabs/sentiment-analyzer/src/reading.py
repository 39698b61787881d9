"""From tokens to sentences. Every word that counts gets a weight from the words around it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from .grammar import GROUPS
from .lexicon import CHINESE
from .tokens import Token

BOOSTER_REACH = 2
BEFORE_BUT, AFTER_BUT = 0.5, 1.3
CONCEDED, SUPPOSED = 0.4, 0.3  # after although; after if
UNABLE = -2.0  # what does not work, answer or help
MISSED = -1.2  # what is not even there
MISSING_REACH = 4
STRONGER = 1.3
MOST_BEFORE_BUT = 100  # a sentence without an end may hold any number of them


@dataclass
class Hit:
    word: str
    weight: float


@dataclass
class Sentence:
    hits: list[Hit] = field(default_factory=list)
    words: int = 0
    begins_with_but: bool = False
    asks: bool = False
    accuses: bool = False
    rhetorical: bool = False


class Reader:
    """Reads one sentence; what reaches over a few tokens is kept here."""

    def __init__(self) -> None:
        self.sentence = Sentence()
        self.negations: list[tuple[str, float]] = []  # (word, how much further it reaches)
        self.boost, self.boost_age = 1.0, 0
        self.weight = 1.0
        self.conditional = 1.0
        self.since_hit = 0
        self.unending = False  # whether the last hit was after "can't"
        self.remedy = 0.0  # how much further a remedy reaches
        self.hits_before = 0  # this clause
        self.first = self.begins = True  # whether the next token, and this one, begins a clause
        self.brief = False
        self.beyond_and = False
        self.good: Token | None = None  # 好 that may turn out to be an intensifier, as in 好烦

    def read(self, token: Token) -> None:
        self.first, self.begins = token.kind == "comma", self.first
        if token.kind == "comma":
            self._clause()
            self.conditional = 1.0
            return
        self.sentence.words += token.length
        if rule := self.RULES.get(token.kind):
            rule(self, token)
        elif token.text == "enough" and self.unending and self._has_hit():
            self.sentence.hits[-1].weight = abs(self.sentence.hits[-1].weight) * 1.5
        else:
            self.beyond_and |= token.text == "and"
            self._age(token)

    def _has_hit(self) -> bool:
        """Whether a word has counted in this clause."""
        return len(self.sentence.hits) > self.hits_before

    def _capable(self, token: Token) -> None:
        if self.negations:
            self._count(token, UNABLE, self.negations[0][0])
        else:
            self._age(token)

    def _negation(self, token: Token) -> None:
        if token.text in GROUPS["INSTEAD"]:
            self.negations = []
        self.negations.append((token.text, token.value))
        self.beyond_and = False
        self._age(token, boost_only=True)

    def _booster(self, token: Token) -> None:
        self.boost, self.boost_age = token.value, 0
        if token.text in GROUPS["SO"]:
            self.negations = [negation for negation in self.negations if negation[0] not in GROUPS["NEVER"]]

    def _remedy(self, token: Token) -> None:
        self.remedy = token.value
        self._age(token, boost_only=True)

    def _intensifying(self, token: Token) -> None:
        if self._has_hit() and self.since_hit == 0:
            self.sentence.hits[-1].weight *= STRONGER
        elif value := CHINESE.get(token.text):  # 开心死了 is joy, 鱼死了 is none
            token.value = value
            self._hit(token)
        else:
            self._age(token)

    def _afterwards(self, token: Token) -> None:
        if self._has_hit():
            self._deny(token)

    def _missing(self, token: Token) -> None:
        if self._has_hit() and self.since_hit <= 1:
            self._deny(token)
        else:
            self.negations.append((token.text, MISSING_REACH))
            self._count(token, MISSED, "")

    def _turns(self, token: Token) -> None:
        if self.begins:
            self._but(token)
        else:
            self._age(token)

    def _conceded(self, token: Token) -> None:
        self._clause()
        self.conditional = SUPPOSED if token.kind == "if" else CONCEDED
        self.brief = token.text in GROUPS["BRIEF"]

    def _question(self, token: Token) -> None:
        self.sentence.accuses |= token.kind == "accusing"
        self.sentence.rhetorical |= token.kind == "rhetorical"
        self.sentence.asks |= token.kind == "asking"
        self._age(token)

    def _hit(self, token: Token) -> None:
        value = token.value
        if token.chinese and self.good is not None:  # 好烦: the 好 before it was "very"
            self.sentence.hits.pop()
            value *= STRONGER
        if self.boost_age <= BOOSTER_REACH:
            value *= self.boost
        # What is negated before "and" is not after it, unless one praises: not clean and tidy, not helped and lied to.
        negations = [] if self.beyond_and and value < 0 else self.negations
        negated = negations[0][0] if negations else ""
        if self.remedy > 0 and value < 0:
            value = _negated(value)
        if token.text in GROUPS["BETTER"] and negated in GROUPS["UNEQUALLED"]:
            value = abs(value) * 1.5
        else:
            for _ in negations:
                value = _negated(value)
        self.unending = negated in GROUPS["UNENDING"]
        self._count(token, value, negated)
        self.good = token if token.chinese and token.text == "好" and not negated else None

    def _count(self, token: Token, value: float, negated: str) -> None:
        word = f"{negated} … {token.text}" if negated else token.text
        self.sentence.hits.append(Hit(word, value * self.weight * self.conditional))
        self.boost = 1.0
        if self.brief:
            self.brief, self.conditional = False, 1.0
        if token.chinese:
            self.negations = []  # 不好看，又贵: in Chinese a negation is said again
        self._age(token)
        self.since_hit = 0

    def _deny(self, token: Token) -> None:
        """What comes after a word and denies it: 高兴不起来, 一点异味都没有."""
        last = self.sentence.hits[-1]
        last.word, last.weight = f"{last.word} … {token.text}", -0.8 * last.weight

    def _but(self, token: Token) -> None:
        if self.sentence.hits or self.sentence.words > 2:
            for hit in self.sentence.hits[-MOST_BEFORE_BUT:]:
                hit.weight *= BEFORE_BUT
        else:
            self.sentence.begins_with_but = True
        self._clause()
        self.weight, self.conditional = AFTER_BUT, 1.0

    def _clause(self) -> None:
        self.hits_before = len(self.sentence.hits)
        self.remedy = 0.0
        self.negations = []
        self.boost = 1.0
        self.good = None

    def _age(self, token: Token, boost_only: bool = False) -> None:
        self.boost_age += token.length
        self.since_hit += 1
        self.good = None
        if not boost_only:
            self.remedy -= token.length
            self.negations = [(word, left - token.length) for word, left in self.negations if left > token.length]

    RULES: ClassVar[dict[str, Callable[["Reader", Token], None]]] = {
        "hit": _hit, "capable": _capable, "negation": _negation, "booster": _booster, "remedy": _remedy, "but": _but,
        "turns": _turns, "although": _conceded, "thought": _conceded, "if": _conceded, "asking": _question,
        "accusing": _question, "rhetorical": _question, "afterwards": _afterwards, "missing": _missing,
        "intensifying": _intensifying,
    }  # fmt: skip


def _negated(value: float) -> float:
    """Not good is bad, not bad is fairly good, and not marvellous is not quite bad."""
    size = 1.0 if abs(value) >= 3 else min(1.6, max(1.0, abs(value) * 0.7))
    return -size if value > 0 else size
