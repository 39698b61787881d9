"""Weather codes of the WMO in words, as Open-Meteo gives them, and the forecast in sentences."""

from datetime import date
from typing import Any

CODES = {
    0: ("clear sky", "晴"), 1: ("mainly clear", "大部晴朗"), 2: ("partly cloudy", "多云"), 3: ("overcast", "阴"),
    45: ("fog", "雾"), 48: ("freezing fog", "冻雾"),
    51: ("light drizzle", "小毛毛雨"), 53: ("drizzle", "毛毛雨"), 55: ("dense drizzle", "大毛毛雨"),
    56: ("light freezing drizzle", "小冻毛毛雨"), 57: ("freezing drizzle", "冻毛毛雨"),
    61: ("light rain", "小雨"), 63: ("rain", "中雨"), 65: ("heavy rain", "大雨"),
    66: ("light freezing rain", "小冻雨"), 67: ("heavy freezing rain", "大冻雨"),
    71: ("light snow", "小雪"), 73: ("snow", "中雪"), 75: ("heavy snow", "大雪"), 77: ("snow grains", "米雪"),
    80: ("light showers", "小阵雨"), 81: ("showers", "阵雨"), 82: ("violent showers", "强阵雨"),
    85: ("light snow showers", "小阵雪"), 86: ("heavy snow showers", "大阵雪"),
    95: ("thunderstorm", "雷暴"), 96: ("thunderstorm with light hail", "雷暴伴小冰雹"),
    99: ("thunderstorm with heavy hail", "雷暴伴大冰雹"),
}  # fmt: skip
DIRECTIONS = {
    "en": ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest"),
    "zh": ("北", "东北", "东", "东南", "南", "西南", "西", "西北"),
}
WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "zh": ("周一", "周二", "周三", "周四", "周五", "周六", "周日"),
}


def words(code: Any) -> dict[str, Any]:
    """`weather_code` and its name in both languages; a code that is not in the table says so."""
    known = CODES.get(code) if isinstance(code, int | float) else None
    english, chinese = known or ("unknown", "未知")
    return {"weather_code": code, "weather": english, "weather_zh": chinese}


def message(place: str, current: dict[str, Any], daily: list[dict[str, Any]], units: dict[str, str], lang: str) -> str:
    """A line for now and one for each day; what the service did not say is left out."""
    lines = [_now(place, current, units, lang)] if current.get("temperature") is not None else [place]
    lines += [_day(number, day, units, lang) for number, day in enumerate(daily)]
    return "\n".join(lines)


def _now(place: str, current: dict[str, Any], units: dict[str, str], lang: str) -> str:
    def said(key: str, english: str, chinese: str, unit: str) -> None:
        if (value := current.get(key)) is not None:
            parts.append((chinese if lang == "zh" else english).format(f"{value:g}{unit}"))

    zh = lang == "zh"
    parts = [current["weather_zh"] if zh else current["weather"]]
    said("temperature", "{}", "{}", units["temperature"])
    said("feels_like", "feels like {}", "体感 {}", units["temperature"])
    said("humidity", "humidity {}", "湿度 {}", "%")
    if current.get("wind_speed") is not None:
        parts.append(_wind(current["wind_speed"], current.get("wind_direction"), units, lang))
    return f"{place}当前：{'，'.join(parts)}。" if zh else f"{place} now: {', '.join(parts)}."


def _day(number: int, day: dict[str, Any], units: dict[str, str], lang: str) -> str:
    zh = lang == "zh"
    parts = [day["weather_zh"] if zh else day["weather"]]
    low, high = day["temperature_min"], day["temperature_max"]
    if low is not None and high is not None:
        parts.append(f"{low:g}～{high:g}{units['temperature']}" if zh else f"{low:g} to {high:g}{units['temperature']}")
    if day["precipitation"] is not None:
        amount = f"{day['precipitation']:g} {units['precipitation']}"
        parts.append(f"降水 {amount}" if zh else f"precipitation {amount}")
        if day["precipitation_probability"] is not None:
            parts[-1] += f"（概率 {day['precipitation_probability']:g}%）" if zh else (
                f" ({day['precipitation_probability']:g}% likely)"
            )  # fmt: skip
    if day["wind_speed_max"] is not None:
        parts.append(_wind(day["wind_speed_max"], day["wind_direction"], units, lang))
    name = _name_of(number, day["date"], lang)
    return f"{name}：{'，'.join(parts)}。" if zh else f"{name}: {', '.join(parts)}."


def _wind(speed: float, degrees: Any, units: dict[str, str], lang: str) -> str:
    direction = ""
    if isinstance(degrees, int | float):
        direction = DIRECTIONS[lang][round(degrees / 45) % 8]
    amount = f"{speed:g} {units['wind_speed']}"
    return f"{direction}风 {amount}" if lang == "zh" else f"{direction} wind {amount}".strip()


def _name_of(number: int, day: str, lang: str) -> str:
    """The first day is today where the place is: the service counts in the place's own time zone."""
    near = ("今天", "明天") if lang == "zh" else ("Today", "Tomorrow")
    try:
        name = near[number] if number < 2 else WEEKDAYS[lang][date.fromisoformat(day).weekday()]
    except ValueError:
        return day
    return f"{name}（{day}）" if lang == "zh" else f"{name} ({day})"
