"""`chat`: a conversation with a language model, piece by piece as it is written."""

import os
from collections.abc import Iterator
from typing import Any

from .endpoint import Answer, Endpoint
from .failure import Failure

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4o-mini"
LONGEST_TIMEOUT = 600


def chat(
    messages: list[dict[str, Any]],
    model: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    timeout: float = 60,
) -> Iterator[dict[str, Any]]:
    """Yield `content` events, then one `done`; a failure is a `done` as well, with `success` false."""
    answer = Answer()
    try:
        _check(messages, model, temperature, max_tokens, timeout)
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key:
            raise Failure("MISSING_SECRET", "the secret OPENAI_API_KEY is not set")
        endpoint = Endpoint(os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_URL, key, timeout)
        answer.model = model or os.environ.get("OPENAI_MODEL", "").strip() or DEFAULT_MODEL
        request = {"model": answer.model, "messages": messages}
        options = {"temperature": temperature, "max_tokens": max_tokens}
        request |= {name: value for name, value in options.items() if value is not None}
        for piece in endpoint.stream(request, answer):
            yield {"type": "content", "data": piece}
    except Failure as failure:
        result = {"success": False, "error": failure.text, "error_code": failure.error_code}
        if failure.retry_after is not None:
            result["retry_after"] = failure.retry_after
        yield {"type": "done", "data": result | _facts(answer)}
    else:
        yield {"type": "done", "data": {"success": True} | _facts(answer)}


def _facts(answer: Answer) -> dict[str, Any]:
    return {
        "content": "".join(answer.pieces),
        "model": answer.model,
        "usage": answer.usage,
        "finish_reason": answer.finish_reason,
    }


def _check(messages: Any, model: Any, temperature: Any, max_tokens: Any, timeout: Any) -> None:
    def refuse(unless: bool, text: str) -> None:
        if not unless:
            raise Failure("INVALID_PARAMETER", text)

    refuse(isinstance(messages, list) and len(messages) > 0, "`messages` must be a list with at least one message")
    for number, message in enumerate(messages):
        refuse(isinstance(message, dict), f"`messages[{number}]` must be an object")
        refuse(isinstance(message.get("role"), str), f"`messages[{number}].role` must be text, such as user")
        refuse("content" in message or "tool_calls" in message, f"`messages[{number}].content` is missing")
    refuse(model is None or isinstance(model, str), "`model` must be text")
    refuse(temperature is None or _is_number(temperature, 0, 2), "`temperature` must be a number from 0 to 2")
    whole = isinstance(max_tokens, int) and not isinstance(max_tokens, bool)
    refuse(max_tokens is None or (whole and max_tokens > 0), "`max_tokens` must be a whole number above 0")
    refuse(_is_number(timeout, 0.01, LONGEST_TIMEOUT), f"`timeout` must be from 0.01 to {LONGEST_TIMEOUT} seconds")


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
