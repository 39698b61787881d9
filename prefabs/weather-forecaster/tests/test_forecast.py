import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest


def place(name, latitude, longitude, population=None, **more):
    """One result of the geocoder, which leaves out what is empty."""
    known = {"id": 1, "name": name, "latitude": latitude, "longitude": longitude, "elevation": 10.0, **more}
    return known | ({"population": population} if population else {})


US = {"country": "United States", "country_code": "US"}
BERLIN = place("Berlin", 52.52437, 13.41053, 3426354, country="Germany", country_code="DE", admin1="State of Berlin")
HANGZHOU = place("杭州", 30.29365, 120.16142, 9236032, country="中国", country_code="CN", admin1="浙江省")
ATLAS = {
    "berlin": [place("East Berlin", 39.9, -76.9, 1534, **US, admin1="Pennsylvania"),
               place("Berlin", 44.46867, -71.18508, 9367, **US, admin1="New Hampshire"), BERLIN],
    "portland": [place("Portland", 45.52345, -122.67621, 652503, **US, admin1="Oregon"),
                 place("Portland", 43.65737, -70.2589, 68408, **US, admin1="Maine")],
    "peking": [place("Peking", 40.1, -90.2, **US, admin1="Illinois"),
               place("Beijing", 39.9075, 116.39723, 18960744, country="China", country_code="CN")],
    "北京": [place("北京", 39.9075, 116.39723, 18960744, country="中国", country_code="CN", admin1="北京市")],
    "杭州": [HANGZHOU],
    "西湖区": [place("西湖区", 30.27, 120.13, country="中国", country_code="CN", admin1="浙江省"),
            place("西湖区", 28.65, 115.87, 500000, country="中国", country_code="CN", admin1="江西省")],
    "東京": [place("Tokyo", 35.6895, 139.69171, 9733276, country="Japan", country_code="JP", admin1="Tokyo")],
    "broken": ["?", {"name": "Nowhere"}, place(7, 1, 2), place("Broken", 999, 2), BERLIN],
}  # fmt: skip
DAILY = {
    "time": ["2026-11-22", "2026-11-23", "2026-11-24"],
    "temperature_2m_min": [-1.5, 0, None],
    "temperature_2m_max": [4.2, 6, 7],
    "precipitation_sum": [0.0, 2.5, 1],
    "precipitation_probability_max": [5, 80, None],
    "wind_speed_10m_max": [11.2, 20, 9],
    "wind_direction_10m_dominant": [350, 45, 180],
    "weather_code": [0, 61, 123],
}
CURRENT = {
    "time": "2026-11-22T18:45", "interval": 900, "temperature_2m": 3.4, "apparent_temperature": 0.5,
    "relative_humidity_2m": 64, "precipitation": 0.0, "wind_speed_10m": 9.7, "wind_direction_10m": 225,
    "weather_code": 3,
}  # fmt: skip


class Server(ThreadingHTTPServer):
    """Both APIs on loopback, as their documentation describes them; `disturb` may answer in another way."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.disturb = lambda handler, path: False
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def asked(self, path):
        return [query for asked, query in self.requests if asked == path]

    def handle_error(self, request, client_address):
        pass  # a client that went away


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.requests.append((parts.path, query))
        if self.server.disturb(self, parts.path):
            return
        if parts.path.endswith("/v1/search"):
            results = ATLAS.get(query["name"].casefold()) if len(query["name"]) > 1 else None
            self.reply({"generationtime_ms": 0.5} | ({"results": results} if results else {}))
        elif parts.path.endswith("/v1/forecast"):
            days = int(query["forecast_days"])
            daily = {name: (values * 6)[:days] for name, values in DAILY.items()}
            self.reply({
                "latitude": float(query["latitude"]), "longitude": float(query["longitude"]),
                "utc_offset_seconds": 3600, "timezone": "Europe/Berlin", "current": CURRENT, "daily": daily,
            })  # fmt: skip
        else:
            self.reply({"error": True, "reason": "Not Found"}, 404)

    def reply(self, body, status=200):
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    server = Server()
    for name in ("OPEN_METEO_URL", "OPEN_METEO_GEOCODING_URL"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def forecast(prefab, location, **arguments):
    result = prefab.call("get_forecast", location=location, **arguments)
    assert result["success"], result
    return result


def failure(prefab, location="Berlin", **arguments):
    result = prefab.call("get_forecast", location=location, **arguments)
    assert sorted(result) == ["error", "error_code", "success"]
    assert result["success"] is False
    return result["error_code"], result["error"]


def test_forecast(prefab, server):
    result = forecast(prefab, " Berlin ")
    assert result["message"] == (
        "Berlin, State of Berlin, Germany now: overcast, 3.4°C, feels like 0.5°C, humidity 64%, "
        "southwest wind 9.7 km/h.\n"
        "Today (2026-11-22): clear sky, -1.5 to 4.2°C, precipitation 0 mm (5% likely), north wind 11.2 km/h.\n"
        "Tomorrow (2026-11-23): light rain, 0 to 6°C, precipitation 2.5 mm (80% likely), northeast wind 20 km/h.\n"
        "Tuesday (2026-11-24): unknown, precipitation 1 mm, south wind 9 km/h."
    )
    data = result["data"]
    assert data["location"] == {
        "name": "Berlin", "latitude": 52.52437, "longitude": 13.41053, "country": "Germany", "country_code": "DE",
        "admin": "State of Berlin", "timezone": "Europe/Berlin", "population": 3426354,
    }  # fmt: skip
    assert [other["label"] for other in data["alternatives"]] == [
        "Berlin, New Hampshire, United States",
        "East Berlin, Pennsylvania, United States",
    ]
    assert data["current"]["weather_zh"] == "阴"
    assert data["daily"][1] == {
        "date": "2026-11-23", "weather_code": 61, "weather": "light rain", "weather_zh": "小雨", "temperature_min": 0,
        "temperature_max": 6, "precipitation": 2.5, "precipitation_probability": 80, "wind_speed_max": 20,
        "wind_direction": 45,
    }  # fmt: skip
    assert data["units"] == {"temperature": "°C", "wind_speed": "km/h", "precipitation": "mm"}
    (asked,) = server.asked("/v1/forecast")
    assert (asked["latitude"], asked["timezone"], asked["forecast_days"]) == ("52.52437", "auto", "3")
    assert "temperature_unit" not in asked


def test_chinese(prefab, server):
    lines = forecast(prefab, "北京", days=2)["message"].splitlines()
    assert lines[0] == "北京，中国当前：阴，3.4°C，体感 0.5°C，湿度 64%，西南风 9.7 km/h。"
    assert lines[2] == "明天（2026-11-23）：小雨，0～6°C，降水 2.5 mm（概率 80%），东北风 20 km/h。"
    assert server.asked("/v1/search")[0]["language"] == "zh"
    assert "now:" in forecast(prefab, "北京", language="en")["message"]
    assert "当前" in forecast(prefab, "Berlin", language="zh_CN")["message"]


def test_imperial(prefab, server):
    result = forecast(prefab, "Berlin", units="imperial", days=16)
    assert "3.4°F" in result["message"]
    assert "9.7 mph" in result["message"]
    assert len(result["data"]["daily"]) == 16
    (asked,) = server.asked("/v1/forecast")
    assert (asked["temperature_unit"], asked["wind_speed_unit"], asked["precipitation_unit"]) == (
        "fahrenheit", "mph", "inch",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("location", "label"),
    [
        ("Portland", "Portland, Oregon, United States"),
        ("Portland, ME", "Portland, Maine, United States"),
        ("portland, maine, USA", "Portland, Maine, United States"),
        ("Portland Maine", "Portland, Maine, United States"),
        ("Berlin, NH", "Berlin, New Hampshire, United States"),
        ("Berlin，德国", "Berlin, State of Berlin, Germany"),
        ("Berlin, Deutschland", "Berlin, State of Berlin, Germany"),
        ("Peking", "Beijing, China"),
        ("北京市", "北京，中国"),
        ("中国北京", "北京，中国"),
        ("中国 浙江省 杭州市", "杭州，浙江省，中国"),
        ("浙江杭州", "杭州，浙江省，中国"),
        ("杭州, 浙江", "杭州，浙江省，中国"),
        ("浙江省杭州市西湖区", "西湖区，浙江省，中国"),
        ("東京", "Tokyo, Japan"),
        ("broken", "Berlin, State of Berlin, Germany"),
    ],
)
def test_places(prefab, server, location, label):
    assert forecast(prefab, location)["message"].startswith(label)


@pytest.mark.parametrize(
    ("location", "latitude", "longitude"),
    [
        ("39.9,116.4", "39.9", "116.4"),
        ("-33.87, 151.21", "-33.87", "151.21"),
        ("33.87°S 151.21°E", "-33.87", "151.21"),
        ("40.7N，74W", "40.7", "-74.0"),
    ],
)
def test_coordinates_are_not_looked_up(prefab, server, location, latitude, longitude):
    assert forecast(prefab, location)["data"]["location"]["timezone"] == "Europe/Berlin"
    ((path, asked),) = server.requests
    assert (path, asked["latitude"], asked["longitude"]) == ("/v1/forecast", latitude, longitude)


def test_operator_may_name_an_address_with_path_and_key(prefab, server, monkeypatch):
    monkeypatch.setenv("OPEN_METEO_URL", f"http://127.0.0.1:{server.server_port}/weather/?apikey=k1")
    forecast(prefab, "Berlin")
    assert server.asked("/weather/v1/forecast")[0]["apikey"] == "k1"


# Failures


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("Xyzzyville", "no place called 'Xyzzyville'"),
        ("X", "check the spelling"),
        ("12345678", "check the spelling"),
        (",", "check the spelling"),
        ("Portland, Narnia", "Portland, Oregon, United States; Portland, Maine"),
        ("江西省杭州市", "杭州，浙江省，中国"),
        ("没有这个地方", "找不到名为“没有这个地方”的地点"),
    ],
)
def test_unknown_place(prefab, server, location, says):
    code, error = failure(prefab, location)
    assert code == "LOCATION_NOT_FOUND"
    assert says in error
    assert len(server.requests) <= 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"location": None},
        {"location": ""},
        {"location": " \n"},
        {"location": 7},
        {"location": "x" * 201},
        {"location": "91,0"},
        {"location": "39.9,181"},
        {"days": 0},
        {"days": 17},
        {"days": True},
        {"days": "3"},
        {"days": None},
        {"units": "kelvin"},
        {"units": []},
        {"language": "fr"},
        {"language": 3},
    ],
)
def test_bad_arguments(prefab, server, arguments):
    assert failure(prefab, **({"location": "Berlin"} | arguments))[0] == "INVALID_PARAMETER"
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "body", "code", "says"),
    [
        (429, {"error": True, "reason": "Minutely API request limit exceeded."}, "RATE_LIMITED", "in a few minutes"),
        (400, {"error": True, "reason": "Latitude must be in range"}, "SERVICE_ERROR", "Latitude must be in range"),
        (200, {"error": True, "reason": "overloaded"}, "SERVICE_ERROR", "overloaded"),
        (502, "<html>Bad Gateway</html>", "SERVICE_ERROR", "502"),
        (302, "", "SERVICE_ERROR", "302"),
        (200, "<html>Log in to the hotel network</html>", "BAD_RESPONSE", "try again"),
        (200, "[1]", "BAD_RESPONSE", "try again"),
        (200, "", "BAD_RESPONSE", "try again"),
        (200, " " * 2_100_000, "BAD_RESPONSE", "try again"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/search", "/v1/forecast"])
def test_refusals(prefab, server, path, status, body, code, says):
    server.disturb = lambda handler, asked: asked == path and (handler.reply(body, status) or True)
    found, error = failure(prefab)
    assert found == code
    assert says in error


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"current": CURRENT},
        {"current": [], "daily": DAILY},
        {"current": CURRENT, "daily": {"time": ["2026-11-22"]}},
        {"current": CURRENT, "daily": DAILY | {"weather_code": []}},
        {"current": CURRENT, "daily": DAILY | {"temperature_2m_min": None}},
    ],
)
def test_forecast_of_another_shape(prefab, server, body):
    server.disturb = lambda handler, path: path == "/v1/forecast" and (handler.reply(body) or True)
    assert failure(prefab)[0] == "BAD_RESPONSE"


def test_what_the_service_leaves_out_is_left_out(prefab, server):
    body = '{"current": {}, "daily": {"time": ["soon"], "weather_code": [NaN]}}'
    server.disturb = lambda handler, path: path == "/v1/forecast" and (handler.reply(body) or True)
    assert forecast(prefab, "1,2")["message"] == "1,2\nToday (soon): unknown."


@pytest.mark.parametrize("path", ["/v1/search", "/v1/forecast"])
def test_silence_ends_in_time(prefab, server, monkeypatch, path):
    monkeypatch.setattr(prefab.module("service"), "TOTAL_SECONDS", 0.3)
    server.disturb = lambda handler, asked: asked == path and (handler.server.released.wait(30) or True)
    began = time.monotonic()
    code, error = failure(prefab)
    assert time.monotonic() - began < 3
    assert code == "TIMEOUT"
    assert "within 0.3 seconds" in error


def test_a_trickle_ends_in_time(prefab, server, monkeypatch):
    monkeypatch.setattr(prefab.module("service"), "TOTAL_SECONDS", 0.3)

    def trickle(handler, path):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        while not handler.server.released.wait(0.02):
            handler.wfile.write(b" ")
        return True

    server.disturb = trickle
    began = time.monotonic()
    assert failure(prefab)[0] == "TIMEOUT"
    assert time.monotonic() - began < 3


def test_a_look_up_of_the_host_that_hangs_ends_in_time(prefab, server, monkeypatch):
    monkeypatch.setattr(prefab.module("service"), "TOTAL_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **more: server.released.wait(30))
    began = time.monotonic()
    assert failure(prefab)[0] == "TIMEOUT"
    assert time.monotonic() - began < 3
    server.released.set()


def test_offline(prefab, server, monkeypatch):
    monkeypatch.setenv("OPEN_METEO_GEOCODING_URL", "http://127.0.0.1:9")
    code, error = failure(prefab, "北京")
    assert code == "NETWORK_UNAVAILABLE"
    assert error == "无法连接天气服务（127.0.0.1），请检查网络连接后重试"


def test_connection_that_breaks(prefab, server):
    def cut(handler, path):
        handler.close_connection = True
        return True

    server.disturb = cut
    assert failure(prefab)[0] == "NETWORK_UNAVAILABLE"


@pytest.mark.parametrize("value", ["ftp://host", "no address", "http://", "http://[::1"])
def test_bad_setting(prefab, server, monkeypatch, value):
    monkeypatch.setenv("OPEN_METEO_GEOCODING_URL", value)
    code, error = failure(prefab)
    assert code == "MISCONFIGURED"
    assert "OPEN_METEO_GEOCODING_URL" in error
