"""Finds prefabs by words. Pure."""

from collections.abc import Iterable, Sequence

from gateway_server.prefabs.manifest import Manifest


def rank(manifest: Manifest, words: Sequence[str]) -> int | None:
    """How well a prefab fits, less being better; None where one of the words is nowhere in it."""
    places = [
        manifest.id,
        manifest.name,
        " ".join(manifest.tags),
        " ".join(function.name for function in manifest.functions),
        " ".join((manifest.description, *(function.description for function in manifest.functions))),
    ]
    folded = [place.casefold() for place in places]
    found = [_first(word, folded) for word in words]
    return None if None in found else sum(place for place in found if place is not None)


def words_of(text: str) -> list[str]:
    """The words of a search."""
    return text.casefold().split()


def _first(word: str, places: Iterable[str]) -> int | None:
    return next((number for number, place in enumerate(places) if word in place), None)
