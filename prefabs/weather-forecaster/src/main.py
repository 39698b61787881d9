"""`get_forecast`: the weather at a place, now and in the next days."""

from typing import Any

from . import places, weather
from .problem import Problem, speaks_chinese
from .service import Service

MOST_DAYS = 16
SOURCE = "Weather data by Open-Meteo.com (CC BY 4.0)"
CURRENT = {
    "temperature": "temperature_2m",
    "feels_like": "apparent_temperature",
    "humidity": "relative_humidity_2m",
    "precipitation": "precipitation",
    "wind_speed": "wind_speed_10m",
    "wind_direction": "wind_direction_10m",
}
DAILY = {
    "temperature_min": "temperature_2m_min",
    "temperature_max": "temperature_2m_max",
    "precipitation": "precipitation_sum",
    "precipitation_probability": "precipitation_probability_max",
    "wind_speed_max": "wind_speed_10m_max",
    "wind_direction": "wind_direction_10m_dominant",
}
UNITS = {
    "metric": {"temperature": "°C", "wind_speed": "km/h", "precipitation": "mm"},
    "imperial": {"temperature": "°F", "wind_speed": "mph", "precipitation": "inch"},
}
IMPERIAL = {"temperature_unit": "fahrenheit", "wind_speed_unit": "mph", "precipitation_unit": "inch"}


def get_forecast(location: str, days: int = 3, units: str = "metric", language: str | None = None) -> dict[str, Any]:
    """The message is in Chinese for a location written in Chinese, unless `language` says otherwise."""
    spoken = _spoken(location, language)
    try:
        _check(location, days, units, language)
        service = Service()
        place, alternatives = places.find(" ".join(location.split()), spoken, service)
        return _answer(place, alternatives, service.forecast(_parameters(place, days, units)), units, spoken)
    except Problem as problem:
        return problem.result(spoken)


def _spoken(location: Any, language: Any) -> str:
    if isinstance(language, str) and language.strip():
        return "zh" if speaks_chinese(language.strip()) or language.strip().casefold() in ("chinese", "中文") else "en"
    return "zh" if isinstance(location, str) and places.is_chinese(location) else "en"


def _check(location: Any, days: Any, units: Any, language: Any) -> None:
    def refuse(unless: bool, english: str, chinese: str) -> None:
        if not unless:
            raise Problem("INVALID_PARAMETER", english, chinese)

    refuse(
        isinstance(location, str) and bool(location.strip()),
        "`location` must name a place, such as Berlin, or coordinates, such as 39.9,116.4",
        "`location` 必须是地名（例如 北京）或坐标（例如 39.9,116.4）",
    )
    longest = places.LONGEST_LOCATION
    refuse(
        len(location) <= longest,
        f"`location` is longer than {longest} characters; give the name of the place alone",
        f"`location` 超过 {longest} 个字符，请只填写地名",
    )
    whole = isinstance(days, int) and not isinstance(days, bool)
    refuse(
        whole and 1 <= days <= MOST_DAYS,
        f"`days` must be a whole number from 1 to {MOST_DAYS}",
        f"`days` 必须是 1 到 {MOST_DAYS} 之间的整数",
    )
    refuse(
        isinstance(units, str) and units in UNITS,
        "`units` must be metric or imperial",
        "`units` 必须是 metric（公制）或 imperial（英制）",
    )
    known = ("en", "zh", "english", "chinese", "中文", "")
    refuse(
        language is None
        or (isinstance(language, str) and language.strip().casefold().replace("_", "-").split("-")[0] in known),
        "`language` must be en or zh",
        "`language` 必须是 en 或 zh",
    )


def _parameters(place: places.Place, days: int, units: str) -> dict[str, Any]:
    return {
        "latitude": place.latitude,
        "longitude": place.longitude,
        "current": ",".join([*CURRENT.values(), "weather_code"]),
        "daily": ",".join([*DAILY.values(), "weather_code"]),
        "timezone": "auto",
        "forecast_days": days,
    } | (IMPERIAL if units == "imperial" else {})


def _answer(
    place: places.Place, alternatives: list[places.Place], forecast: dict[str, Any], units: str, language: str
) -> dict[str, Any]:
    try:
        current = _current(forecast["current"])
        daily = _daily(forecast["daily"])
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise Problem(
            "BAD_RESPONSE",
            "the weather service sent a forecast that cannot be understood; try again later",
            "天气服务返回了无法理解的预报，请稍后再试",
        ) from error
    if isinstance(forecast.get("timezone"), str):
        place.timezone = forecast["timezone"]
    text = weather.message(place.label(), current, daily, UNITS[units], language)
    data = {
        "location": place.data(),
        "alternatives": [other.data() | {"label": other.label()} for other in alternatives],
        "current": current,
        "daily": daily,
        "units": UNITS[units],
        "source": SOURCE,
    }
    return {"success": True, "message": text, "data": data}


def _current(answer: dict[str, Any]) -> dict[str, Any]:
    values = {name: _number(answer.get(key)) for name, key in CURRENT.items()}
    return {"time": answer.get("time")} | weather.words(_number(answer.get("weather_code"))) | values


def _daily(answer: dict[str, Any]) -> list[dict[str, Any]]:
    days = []
    for number, day in enumerate(answer["time"]):
        values = {name: _number(answer.get(key, {number: None})[number]) for name, key in DAILY.items()}
        days.append({"date": str(day)} | weather.words(_number(answer["weather_code"][number])) | values)
    return days


def _number(value: Any) -> int | float | None:
    """A number of JSON; the service says null for what a model does not cover."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 else None
