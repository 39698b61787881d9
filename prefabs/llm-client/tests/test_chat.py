import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import GeneratorType

import pytest

KEY = "sk-test-0123456789abcdef"
ASK = [{"role": "user", "content": "你好"}]


class Server(ThreadingHTTPServer):
    """An endpoint on loopback; `answer` is what a test wants it to do with a request."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.requests = []
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # a client that went away


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["Authorization"], body))
        self.server.answer(self, body)

    def reply(self, status, body, content_type="application/json", **headers):
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def begin(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def raw(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def delta(self, content=None, finish=None, **more):
        choice = {"index": 0, "delta": {} if content is None else {"content": content}, "finish_reason": finish}
        chunk = {"id": "1", "object": "chat.completion.chunk", "model": "tiny-2024", "choices": [choice], **more}
        self.raw(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n")

    def end(self):
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        self.delta(finish="stop")
        self.raw(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n")
        self.raw("data: [DONE]\n\n")
        self.raw("")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve(monkeypatch):
    servers = []
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def start(answer):
        server = Server(answer)
        servers.append(server)
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1/")
        return server

    yield start
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


def run(prefab, **arguments):
    """The pieces and the final data; there is always exactly one `done`, and never the key in it."""
    began = time.monotonic()
    events = list(prefab.call("chat", **({"messages": ASK} | arguments)))
    assert time.monotonic() - began < 10
    assert KEY not in json.dumps(events)
    assert [event["type"] for event in events] == ["content"] * (len(events) - 1) + ["done"]
    return [event["data"] for event in events[:-1]], events[-1]["data"]


def hello(handler, body):
    handler.begin()
    handler.delta("", role="assistant")
    handler.delta("你好")
    handler.delta("\u2028, \x85world")
    handler.end()


def test_answer(prefab, serve):
    server = serve(hello)
    pieces, done = run(prefab)
    assert pieces == ["你好", "\u2028, \x85world"]
    assert done == {
        "success": True,
        "content": "你好\u2028, \x85world",
        "model": "tiny-2024",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "finish_reason": "stop",
    }
    path, authorization, body = server.requests[0]
    assert (path, authorization) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert body == {
        "model": "gpt-4o-mini", "messages": ASK, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_parameters_and_model_secret(prefab, serve, monkeypatch):
    server = serve(hello)
    monkeypatch.setenv("OPENAI_MODEL", "from-secret")
    run(prefab)
    run(prefab, model="from-call", temperature=0, max_tokens=7)
    bodies = [body for _, _, body in server.requests]
    assert bodies[0]["model"] == "from-secret"
    assert (bodies[1]["model"], bodies[1]["temperature"], bodies[1]["max_tokens"]) == ("from-call", 0, 7)


def test_pieces_come_as_they_are_written(prefab, serve):
    def answer(handler, body):
        handler.begin()
        handler.delta("first")
        assert handler.server.released.wait(30)  # until the first piece was seen
        handler.delta("second")
        handler.end()

    server = serve(answer)
    events = prefab.call("chat", messages=ASK)
    assert isinstance(events, GeneratorType)
    assert next(events) == {"type": "content", "data": "first"}
    server.released.set()
    assert next(events) == {"type": "content", "data": "second"}
    assert next(events)["data"]["content"] == "firstsecond"


def test_caller_who_has_had_enough_closes_the_connection(prefab, serve):
    closed = threading.Event()

    def answer(handler, body):
        handler.begin()
        try:
            for _ in range(100_000):
                handler.delta("more " * 100)
        except OSError:
            closed.set()

    serve(answer)
    events = prefab.call("chat", messages=ASK)
    next(events)
    events.close()
    assert closed.wait(30)


def test_endpoint_that_does_not_stream(prefab, serve):
    serve(lambda handler, body: handler.reply(200, {
        "model": "plain", "choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}],
    }))  # fmt: skip
    pieces, done = run(prefab)
    assert (pieces, done["success"], done["model"]) == (["whole"], True, "plain")


def test_content_in_parts(prefab, serve):
    parts = [{"type": "text", "text": "一"}, {"type": "text", "text": "二"}]
    serve(lambda handler, body: handler.reply(200, {"choices": [{"message": {"content": parts}}]}))
    assert run(prefab)[1]["content"] == "一二"


def test_stream_without_an_answer(prefab, serve):
    def answer(handler, body):
        handler.begin()
        handler.raw('data: {"choices": []}\n\ndata: [DONE]\n\n')
        handler.raw("")

    serve(answer)
    assert run(prefab)[1]["error_code"] == "BAD_RESPONSE"


def test_stream_without_the_done_line(prefab, serve):
    def answer(handler, body):
        handler.begin()
        handler.raw(": comment\r\n\r\n")
        handler.delta("all", finish="length")
        handler.raw("")

    serve(answer)
    _, done = run(prefab)
    assert (done["success"], done["content"], done["finish_reason"], done["usage"]) == (True, "all", "length", None)


@pytest.mark.parametrize(
    ("refuses", "message", "then"),
    [
        ("stream_options", "Unrecognized request argument: stream_options", {"max_tokens": 5}),
        (
            "max_tokens",
            "'max_tokens' is not supported: use 'max_completion_tokens' instead.",
            {"max_completion_tokens": 5},
        ),
    ],
)
def test_endpoint_that_does_not_know_an_option(prefab, serve, refuses, message, then):
    def answer(handler, body):
        if refuses in body:
            handler.reply(400, {"error": {"message": message}})
        else:
            hello(handler, body)

    server = serve(answer)
    assert run(prefab, max_tokens=5)[1]["success"]
    assert then.items() <= server.requests[1][2].items()


# Failures


@pytest.mark.parametrize(
    ("status", "body", "headers", "code", "says"),
    [
        (401, {"error": {"message": f"Incorrect key: {KEY[:8]}***{KEY[-4:]}."}}, {}, "UNAUTHORIZED", "OPENAI_API_KEY"),
        (403, {"error": {"message": f"{KEY} may not"}}, {}, "FORBIDDEN", "*** may not"),
        (404, {"error": {"message": "The model `x` does not exist"}}, {}, "NOT_FOUND", "does not exist"),
        (429, {"error": {"message": "Rate limit reached"}}, {"Retry_After": "7"}, "RATE_LIMITED", "Rate limit reached"),
        (400, {"error": "messages too long"}, {}, "BAD_REQUEST", "messages too long"),
        (400, "<html>", {}, "BAD_REQUEST", "400"),
        (500, ["?"], {}, "ENDPOINT_ERROR", "500"),
        (503, {}, {}, "ENDPOINT_ERROR", "503"),
        (302, {}, {"Location": "http://127.0.0.1:9/"}, "ENDPOINT_ERROR", "OPENAI_BASE_URL"),
        (200, "<html>", {}, "BAD_RESPONSE", "not JSON"),
        (200, {}, {}, "BAD_RESPONSE", "chat completions"),
        (200, [1], {}, "BAD_RESPONSE", "chat completions"),
        (200, {"choices": ["?"]}, {}, "BAD_RESPONSE", "chat completions"),
    ],
)  # fmt: skip
def test_refusals(prefab, serve, status, body, headers, code, says):
    server = serve(lambda handler, request: handler.reply(status, body, **headers))
    pieces, done = run(prefab)
    assert (pieces, done["success"], done["error_code"], done["content"]) == ([], False, code, "")
    assert says in done["error"]
    assert KEY[:8] not in done["error"]
    assert done.get("retry_after") == (7 if status == 429 else None)
    assert len(server.requests) == 1


def test_key_is_not_sent_to_where_a_redirect_points(prefab, serve):
    other = serve(hello)
    first = serve(lambda handler, body: handler.reply(307, {}, Location=f"http://127.0.0.1:{other.server_port}/"))
    assert not run(prefab)[1]["success"]
    assert (len(first.requests), len(other.requests)) == (1, 0)


@pytest.mark.parametrize("abrupt", [True, False])
def test_stream_that_is_cut(prefab, serve, abrupt):
    def answer(handler, body):
        handler.begin()
        handler.delta("half")
        if not abrupt:
            handler.raw("")  # a clean end of the body, but neither a finish reason nor [DONE]
        handler.close_connection = True

    serve(answer)
    pieces, done = run(prefab)
    assert pieces == ["half"]
    assert (done["error_code"], done["content"]) == ("STREAM_INTERRUPTED", "half")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("data: {oops\n\n", "BAD_RESPONSE"),
        ("data: 7\n\n", "BAD_RESPONSE"),
        ('data: {"error": {"message": "overloaded"}}\n\n', "ENDPOINT_ERROR"),
    ],
)
def test_bad_event_in_the_stream(prefab, serve, text, code):
    def answer(handler, body):
        handler.begin()
        handler.delta("part")
        handler.raw(text)
        handler.raw("")

    serve(answer)
    pieces, done = run(prefab)
    assert (pieces, done["error_code"], done["content"]) == (["part"], code, "part")


@pytest.mark.parametrize("after_a_piece", [True, False])
def test_silence(prefab, serve, after_a_piece):
    def answer(handler, body):
        if after_a_piece:
            handler.begin()
            handler.delta("a")
        handler.server.released.wait(30)

    serve(answer)
    pieces, done = run(prefab, timeout=0.3)
    assert (pieces, done["error_code"]) == (["a"] * after_a_piece, "TIMEOUT")
    assert "silent for 0.3 seconds" in done["error"]


def test_refused_connection(prefab, serve):
    server = serve(hello)
    server.shutdown()
    server.server_close()
    _, done = run(prefab)
    assert done["error_code"] == "CONNECTION_FAILED"
    assert "cannot reach 127.0.0.1:" in done["error"]


@pytest.mark.parametrize("value", ["ftp://host/v1", "no address", "http://", "http://[::1", "http://host:port/"])
def test_bad_address(prefab, serve, monkeypatch, value):
    serve(hello)
    monkeypatch.setenv("OPENAI_BASE_URL", value)
    assert run(prefab)[1]["error_code"] == "INVALID_SECRET"


def test_keys(prefab, serve, monkeypatch):
    serve(hello)
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")  # pasted with its line end
    assert run(prefab)[1]["success"]
    monkeypatch.setenv("OPENAI_API_KEY", "密钥")
    assert run(prefab)[1]["error_code"] == "INVALID_SECRET"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert run(prefab)[1]["error_code"] == "MISSING_SECRET"


@pytest.mark.parametrize(
    "arguments",
    [
        {"messages": []},
        {"messages": "hello"},
        {"messages": ["hello"]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"model": 3},
        {"temperature": 2.5},
        {"temperature": float("nan")},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"timeout": 0},
        {"timeout": 10_000},
    ],
)
def test_bad_arguments(prefab, serve, arguments):
    server = serve(hello)
    assert run(prefab, **arguments)[1]["error_code"] == "INVALID_PARAMETER"
    assert server.requests == []


def test_manifest_does_not_mark_the_generator_as_streaming(prefab):
    (function,) = prefab.manifest["functions"]
    assert "streaming" not in function
    assert [(s["name"], s["required"]) for s in function["secrets"]] == [
        ("OPENAI_API_KEY", True), ("OPENAI_BASE_URL", False), ("OPENAI_MODEL", False),
    ]  # fmt: skip
