"""From sentences to a judgement of the whole text."""

from collections.abc import Iterable
from dataclasses import dataclass

from .reading import Hit, Reader, Sentence
from .tokens import Token

EARLIER_SENTENCE = 0.7  # what was said before a sentence that begins with but
QUESTION_POSITIVE, QUESTION_NEGATIVE = 0.2, 0.4
EXCLAIMED = 1.15
DECIDED = 0.2  # from here on a text is positive or negative
LEAST_EVIDENCE = 0.6
CALM = 0.25  # how much a sentence without feeling takes from the others


@dataclass
class Judgement:
    sentiment: str
    score: float
    confidence: float
    mixed: bool
    hits: list[Hit]


def sentences(tokens: Iterable[Token]) -> Iterable[Sentence]:
    reader = Reader()
    for token in tokens:
        if token.kind != "end":
            reader.read(token)
            continue
        done, reader = _ended(reader.sentence, token.text), Reader()
        if done.words or done.hits:
            yield done
    if reader.sentence.words or reader.sentence.hits:
        yield _ended(reader.sentence, "")


def _ended(sentence: Sentence, mark: str) -> Sentence:
    asked = ("?" in mark or "？" in mark or sentence.asks) and not (sentence.rhetorical or "!" in mark or "！" in mark)
    for hit in sentence.hits:
        if asked and hit.weight > 0:
            hit.weight *= QUESTION_POSITIVE
        elif asked and not sentence.accuses:
            hit.weight *= QUESTION_NEGATIVE
        elif "!" in mark or "！" in mark:
            hit.weight *= EXCLAIMED
    return sentence


def judge(tokens: Iterable[Token]) -> Judgement:
    hits: list[Hit] = []
    last: list[Hit] = []
    calm = 0
    for sentence in sentences(tokens):
        if sentence.begins_with_but:
            for hit in last:
                hit.weight *= EARLIER_SENTENCE
        last = sentence.hits
        hits += last
        calm += not last
    positive = sum(hit.weight for hit in hits if hit.weight > 0)
    negative = -sum(hit.weight for hit in hits if hit.weight < 0)
    evidence = positive + negative
    score = (positive - negative) / (evidence + 1 + CALM * calm)
    decided = abs(score) >= DECIDED and evidence >= LEAST_EVIDENCE
    sentiment = ("positive" if score > 0 else "negative") if decided else "neutral"
    mixed = min(positive, negative) >= 0.4 * max(positive, negative, 1.0)
    return Judgement(sentiment, score, _confidence(score, evidence, decided, bool(hits)), mixed, hits)


def _confidence(score: float, evidence: float, decided: bool, any_hits: bool) -> float:
    """Grows with how clear and how much the evidence is. Where no word counted, silence is evidence, too, but weak."""
    if decided:
        return 0.5 + 0.49 * abs(score) * evidence / (evidence + 0.5)
    return 0.6 if not any_hits else 0.5 + 0.3 * (1 - min(1.0, abs(score) / DECIDED))
