"""From what a person writes to one place on the map."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from .names import OF_PROVINCES, PROVINCES, STATES, codes_of, without_ending
from .problem import Problem
from .service import Service

LONGEST_LOCATION = 200
MOST_ALTERNATIVES = 5
EXACT = 3  # an exact name counts as much as a thousand times the population: Peking is not the hamlet of that name
NUMBER = r"([+-]?\d{1,3}(?:\.\d+)?)\s*°?\s*"
COORDINATES = re.compile(rf"{NUMBER}([NS]?)\s*[,，;\s]\s*{NUMBER}([EW]?)", re.IGNORECASE)
HAN = re.compile(r"[\u3400-\u9fff]")
KANA_OR_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")


@dataclass
class Place:
    name: str
    latitude: float
    longitude: float
    country: str | None = None
    country_code: str | None = None
    admin: str | None = None
    timezone: str | None = None
    population: int | None = None
    regions: list[str] = field(default_factory=list, repr=False)

    def label(self) -> str:
        """Portland, Oregon, United States; a city that is its own province is not said twice."""
        parts = [self.name]
        if self.admin and without_ending(self.admin) != without_ending(self.name):
            parts.append(self.admin)
        if self.country and self.country != self.name:
            parts.append(self.country)
        return ("，" if HAN.search(self.name) else ", ").join(parts)

    def data(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "regions"}


def is_chinese(text: str) -> bool:
    return bool(HAN.search(text)) and not KANA_OR_HANGUL.search(text)


def find(location: str, language: str, service: Service) -> tuple[Place, list[Place]]:
    """The place that is meant most likely, and what else it may have been."""
    if coordinates := COORDINATES.fullmatch(location):
        return _at(coordinates), []
    seen: list[Place] = []
    for name, regions in _readings(location):
        if len(name) < 2:
            continue  # the geocoder answers one character with nothing
        places = [_place(found) for found in service.places(name, language)]
        fitting = [place for place in places if all(_lies_in(place, region) for region in regions)]
        if fitting:
            ranked = sorted(fitting, key=lambda place: -_weight(place, name))
            return ranked[0], ranked[1 : 1 + MOST_ALTERNATIVES]
        seen += places
    raise _unknown(location, seen)


def _at(coordinates: re.Match[str]) -> Place:
    latitude, south, longitude, west = coordinates.groups()
    place = Place(
        coordinates[0].strip(),
        float(latitude) * (-1 if south.upper() == "S" else 1),
        float(longitude) * (-1 if west.upper() == "W" else 1),
    )
    if abs(place.latitude) > 90 or abs(place.longitude) > 180:
        raise Problem(
            "INVALID_PARAMETER",
            "`location`: a latitude lies between -90 and 90, a longitude between -180 and 180, in this order",
            "`location`：纬度在 -90 到 90 之间，经度在 -180 到 180 之间，纬度在前",
        )
    return place


def _readings(location: str) -> list[tuple[str, list[str]]]:
    """(name, regions) in the order to try. The geocoder knows plain names only, neither "city, state" nor 省市."""
    name, *regions = [part.strip() for part in re.split(r"[,，、;；]", location) if part.strip()] or [""]
    readings = [(name, regions)]
    if not is_chinese(name):
        words = name.split()  # Portland Oregon, Auckland New Zealand
        return readings + [(" ".join(words[:-n]), [" ".join(words[-n:]), *regions]) for n in (1, 2) if len(words) > n]
    name = name.replace(" ", "")
    rest = name.removeprefix("中华人民共和国").removeprefix("中国")
    province = next((p for p in PROVINCES if rest.startswith(p)), "")
    within = rest.removeprefix(province)
    for ending in OF_PROVINCES:
        within = within.removeprefix(ending)
    if province and len(within) >= 2:
        readings.append((within, [*regions, province]))
        readings.append((without_ending(within), [*regions, province]))
        city, _, district = within.partition("市")  # 浙江省杭州市西湖区
        if city and district:
            readings += [(district, [*regions, province]), (city, [*regions, province])]
    elif len(rest) >= 2:
        readings += [(rest, regions), (without_ending(rest), regions)]
    return list({(name, tuple(regions)): (name, regions) for name, regions in readings}.values())


def _place(found: dict[str, Any]) -> Place:
    def text(key: str) -> str | None:
        value = found.get(key)
        return value if isinstance(value, str) and value else None

    population = found.get("population")
    return Place(
        name=found["name"],
        latitude=found["latitude"],
        longitude=found["longitude"],
        country=text("country"),
        country_code=text("country_code"),
        admin=text("admin1"),
        timezone=text("timezone"),
        population=population if isinstance(population, int) and population > 0 else None,
        regions=[value for key in ("country", "admin1", "admin2", "admin3", "admin4") if (value := text(key))],
    )


def _lies_in(place: Place, region: str) -> bool:
    if place.country_code in codes_of(region):
        return True
    asked = {_plain(region), _plain(STATES.get(region.casefold(), region))}
    return any(_plain(known) in asked for known in place.regions)


def _plain(name: str) -> str:
    return without_ending(name.casefold().strip())


def _weight(place: Place, name: str) -> float:
    return math.log10((place.population or 0) + 1) + (EXACT if _plain(place.name) == _plain(name) else 0)


def _unknown(location: str, seen: list[Place]) -> Problem:
    labels = list(dict.fromkeys(place.label() for place in seen))[:MOST_ALTERNATIVES]
    if labels:
        return Problem(
            "LOCATION_NOT_FOUND",
            f"no place fits {location!r} as a whole; known are: {'; '.join(labels)}. Name one of these, or give "
            "coordinates such as 39.9,116.4",
            f"没有与“{location}”完全相符的地点，已知的有：{'；'.join(labels)}。请从中选择，或提供坐标，例如 39.9,116.4",
        )
    return Problem(
        "LOCATION_NOT_FOUND",
        f"no place called {location!r} is known; check the spelling, name the nearest larger town, or give coordinates "
        "such as 39.9,116.4",
        f"找不到名为“{location}”的地点，请检查拼写、换成附近较大的城市，或提供坐标，例如 39.9,116.4",
    )
