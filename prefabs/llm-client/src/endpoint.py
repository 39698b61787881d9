"""The chat completions API of OpenAI, as its many imitations speak it too."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from httpx_sse import EventSource, SSEError

from .failure import Failure

CONNECT_TIMEOUT = 10
LONGEST_EXPLANATION = 300
SHORTEST_SECRET = 8  # endpoints on one's own machine take any text for a key, such as "x"
CODES = {401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND", 429: "RATE_LIMITED"}
TLS = httpx.create_ssl_context()  # slow to make; once for all calls


@dataclass
class Answer:
    """What is known of the answer so far."""

    pieces: list[str] = field(default_factory=list)
    begun: bool = False  # whether there was any, if only an empty one
    model: str | None = None
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None


class Endpoint:
    def __init__(self, base_url: str, key: str, timeout: float) -> None:
        self.key = key
        self.timeout = timeout
        if not (key.isascii() and key.isprintable()):
            raise Failure("INVALID_SECRET", "the secret OPENAI_API_KEY contains characters that no key has")
        try:
            url = httpx.URL(base_url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions")
        except (httpx.InvalidURL, ValueError):
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise Failure("INVALID_SECRET", "the secret OPENAI_BASE_URL is not an http or https address")
        self.url = url
        self.name = url.host if url.port is None else f"{url.host}:{url.port}"  # for messages: no user, path or query

    def stream(self, request: dict[str, Any], answer: Answer) -> Iterator[str]:
        """Pieces of the answer as they arrive; what else there is to know is put into `answer`."""
        body = request | {"stream": True, "stream_options": {"include_usage": True}}
        with self._failures_explained(answer), self._client() as client:
            while True:
                with client.stream("POST", self.url, json=body) as response:
                    if response.status_code == 200:
                        yield from self._pieces(response, answer)
                        return
                    response.read()
                    refused = self._refusal(response)
                    body = _without_what_was_refused(body, response, refused)

    def _client(self) -> httpx.Client:
        timeout = httpx.Timeout(self.timeout, connect=min(CONNECT_TIMEOUT, self.timeout))
        # Redirects are not followed: the key is for this host alone.
        return httpx.Client(verify=TLS, timeout=timeout, headers={"Authorization": f"Bearer {self.key}"})

    @contextmanager
    def _failures_explained(self, answer: Answer) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise Failure("CONNECTION_FAILED", f"{self.name} does not accept the connection in time") from error
        except httpx.TimeoutException as error:
            raise Failure("TIMEOUT", f"{self.name} was silent for {self.timeout:g} seconds") from error
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            what = "stopped in the middle of the answer" if answer.pieces else "closed the connection without an answer"
            raise Failure("STREAM_INTERRUPTED", f"{self.name} {what}") from error
        except httpx.TransportError as error:
            raise Failure("CONNECTION_FAILED", f"cannot reach {self.name}: {self._masked(str(error))}") from error
        except (httpx.DecodingError, UnicodeDecodeError) as error:
            raise Failure("BAD_RESPONSE", f"{self.name} sent a broken response") from error

    def _pieces(self, response: httpx.Response, answer: Answer) -> Iterator[str]:
        if response.headers.get("content-type", "").partition(";")[0].strip() != "text/event-stream":
            response.read()
            yield from self._of_chunk(self._json(response.text), answer, "message")
            return
        try:
            for event in EventSource(response).iter_sse():
                if event.data.strip() == "[DONE]":
                    if not answer.begun:
                        raise Failure("BAD_RESPONSE", f"{self.name} sent a stream without an answer")
                    return
                if event.data:
                    yield from self._of_chunk(self._json(event.data), answer, "delta")
        except SSEError as error:
            raise Failure("BAD_RESPONSE", f"{self.name} sent a broken stream") from error
        if answer.finish_reason is None:
            raise Failure("STREAM_INTERRUPTED", f"{self.name} stopped in the middle of the answer")

    def _of_chunk(self, chunk: Any, answer: Answer, where: str) -> Iterator[str]:
        try:
            if error := chunk.get("error"):
                raise Failure("ENDPOINT_ERROR", f"{self.name} reported an error: {self._explanation(error)}")
            answer.model = chunk.get("model") or answer.model
            answer.usage = chunk.get("usage") or answer.usage
            for choice in chunk.get("choices") or ():
                answer.begun = True
                piece = _text((choice.get(where) or {}).get("content"))
                answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
                if piece:
                    answer.pieces.append(piece)
                    yield answer.pieces[-1]
            if where == "message" and not chunk.get("choices"):
                raise TypeError("no choices")
        except (AttributeError, TypeError) as error:
            raise Failure("BAD_RESPONSE", f"{self.name} does not answer like a chat completions API") from error

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise Failure("BAD_RESPONSE", f"{self.name} sent something that is not JSON") from error

    def _refusal(self, response: httpx.Response) -> Failure:
        status = response.status_code
        if status == 401:  # the endpoint's own words often repeat half of the key
            return Failure("UNAUTHORIZED", f"{self.name} refuses the API key (401); check the secret OPENAI_API_KEY")
        code = CODES.get(status, "BAD_REQUEST" if 400 <= status < 500 else "ENDPOINT_ERROR")
        try:
            error = response.json()["error"]
        except (ValueError, KeyError, TypeError):
            error = None
        explanation = f": {self._explanation(error)}" if error else ""
        if 300 <= status < 400:
            explanation = " and redirects elsewhere; check the secret OPENAI_BASE_URL"
        text = f"{self.name} answered {status} {response.reason_phrase}".rstrip() + explanation
        return Failure(code, text, _seconds(response.headers.get("retry-after")))

    def _explanation(self, error: Any) -> str:
        message = error.get("message") if isinstance(error, dict) else error
        return self._masked(" ".join(str(message or error).split()))[:LONGEST_EXPLANATION]

    def _masked(self, text: str) -> str:
        return text.replace(self.key, "***") if len(self.key) >= SHORTEST_SECRET else text


def _text(content: Any) -> str:
    """Some endpoints write the content in parts, as it may be asked."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return str(content or "")


def _without_what_was_refused(body: dict[str, Any], response: httpx.Response, refused: Failure) -> dict[str, Any]:
    """Some endpoints do not know `stream_options`, newer models take `max_completion_tokens` for `max_tokens`."""
    if response.status_code in (400, 422):
        if "stream_options" in body and "stream_options" in response.text:
            return {name: value for name, value in body.items() if name != "stream_options"}
        if "max_tokens" in body and "max_completion_tokens" in response.text:
            return {("max_completion_tokens" if n == "max_tokens" else n): value for n, value in body.items()}
    raise refused


def _seconds(header: str | None) -> float | None:
    try:
        return float(header) if header else None
    except ValueError:
        return None
