"""Open-Meteo over HTTP, with one deadline for everything that a call asks of it."""

import json
import os
import threading
import time
from typing import Any

import httpx

from .problem import Problem

GEOCODING = ("OPEN_METEO_GEOCODING_URL", "https://geocoding-api.open-meteo.com", "/v1/search")
FORECAST = ("OPEN_METEO_URL", "https://api.open-meteo.com", "/v1/forecast")
TOTAL_SECONDS = 8.0
MOST_BYTES = 2_000_000
LONGEST_REASON = 200
TLS = httpx.create_ssl_context()  # slow to make; once for all calls


class Service:
    """The requests of one call: they share one deadline."""

    def __init__(self) -> None:
        self.seconds = TOTAL_SECONDS
        self.ends = time.monotonic() + self.seconds

    def places(self, name: str, language: str) -> list[dict[str, Any]]:
        """What the geocoder knows under this name. Fields that are empty are left out by the service."""
        answer = self._ask(GEOCODING, {"name": name, "count": 20, "language": language, "format": "json"})
        found = answer.get("results") or []
        if not isinstance(found, list):
            raise _bad_response()
        return [place for place in found if isinstance(place, dict) and _has_position(place)]

    def forecast(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return self._ask(FORECAST, parameters)

    def _ask(self, where: tuple[str, str, str], parameters: dict[str, Any]) -> dict[str, Any]:
        url = _address(*where).copy_merge_params(parameters)
        box: list[Any] = []

        def work() -> None:
            try:
                box.append(self._fetch(url))
            except Exception as error:
                box.append(error)

        # In a thread that may be left behind: no timeout of a client bounds the look-up of a host name, and on a
        # machine without network that alone can take longer than a caller waits.
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(max(0.0, self.ends - time.monotonic()))
        if not box:
            raise self._too_slow(url.host)
        if isinstance(box[0], Exception):
            raise self._explained(box[0], url.host)
        return box[0]

    def _fetch(self, url: httpx.URL) -> dict[str, Any]:
        left = max(0.05, self.ends - time.monotonic())
        with httpx.Client(verify=TLS, timeout=left) as client, client.stream("GET", url) as response:
            content = b""
            for piece in response.iter_bytes():
                content += piece
                if len(content) > MOST_BYTES:
                    raise _bad_response()
                if time.monotonic() > self.ends:
                    raise self._too_slow(url.host)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if response.status_code != 200 or (isinstance(answer, dict) and answer.get("error")):
            raise _refusal(url.host, response, answer)
        if not isinstance(answer, dict):
            raise _bad_response()
        return answer

    def _too_slow(self, host: str) -> Problem:
        return Problem(
            "TIMEOUT",
            f"the weather service ({host}) did not answer within {self.seconds:g} seconds; try again later",
            f"天气服务（{host}）在 {self.seconds:g} 秒内没有响应，请稍后再试",
        )

    def _explained(self, error: Exception, host: str) -> Exception:
        if isinstance(error, httpx.TimeoutException):
            return self._too_slow(host)
        if isinstance(error, httpx.DecodingError | UnicodeDecodeError):
            return _bad_response()
        if isinstance(error, httpx.TransportError):
            return Problem(
                "NETWORK_UNAVAILABLE",
                f"the weather service ({host}) cannot be reached; check that this machine is online, then try again",
                f"无法连接天气服务（{host}），请检查网络连接后重试",
            )
        return error


def _address(variable: str, default: str, path: str) -> httpx.URL:
    """Where to ask. An operator's own address may end in a path and carry a query, such as the key of a plan."""
    try:
        url = httpx.URL(os.environ.get(variable, "").strip() or default)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise Problem(
            "MISCONFIGURED",
            f"the operator's setting {variable} is not an http or https address; correct it with "
            f"`gateway prefab env set weather-forecaster@1.0.0 {variable}=…`",
            f"运维设置 {variable} 不是 http 或 https 地址，"
            f"请用 `gateway prefab env set weather-forecaster@1.0.0 {variable}=…` 更正",
        )
    return url.copy_with(path=url.path.rstrip("/").removesuffix(path) + path)


def _refusal(host: str, response: httpx.Response, answer: Any) -> Problem:
    status = response.status_code
    if status == 429:
        return Problem(
            "RATE_LIMITED",
            f"the weather service ({host}) has had too many requests from here; try again in a few minutes",
            f"对天气服务（{host}）的请求过于频繁，请几分钟后再试",
        )
    reason = answer.get("reason") if isinstance(answer, dict) else None
    told = f": {' '.join(str(reason).split())[:LONGEST_REASON]}" if reason else ""
    return Problem(
        "SERVICE_ERROR",
        f"the weather service ({host}) refused the request ({status}){told}; try again later",
        f"天气服务（{host}）拒绝了请求（{status}）{told}，请稍后再试",
    )


def _bad_response() -> Problem:
    return Problem(
        "BAD_RESPONSE",
        "the weather service sent an answer that cannot be understood; try again later",
        "天气服务返回了无法理解的数据，请稍后再试",
    )


def _has_position(place: dict[str, Any]) -> bool:
    position = (place.get("latitude"), place.get("longitude"))
    return isinstance(place.get("name"), str) and all(
        isinstance(degrees, int | float) and abs(degrees) <= 180 for degrees in position
    )
