"""A gateway in memory, for the tests of programs that use the SDK. No network but for signed URLs that are asked for.

Example:
    from gateway_sdk.testing import FakeGateway

    def test_greeting():
        fake = FakeGateway()

        @fake.prefab("translator", "1.0.0")
        def translate(text, target="zh"):
            return {"success": True, "translated_text": "你好"}

        assert greet(fake.client()) == "你好"
        assert fake.calls[0].parameters == {"text": "Hello"}
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from . import _wire
from ._async_client import AsyncGatewayClient
from ._client import GatewayClient
from ._fake.call import Output
from ._fake.calls import FakeCalls, is_cancel
from ._fake.files import FakeFiles
from ._fake.prefabs import FakePrefabs
from ._fake.store import FakeStore
from ._fake.transport import FakeTransport
from ._fake.wire import Answer, Asked, error_answer, json_answer
from .exceptions import AuthenticationError, GatewayError
from .models import PrefabCall, StoredFile

__all__ = ["FakeGateway", "Output"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_ADDRESS = "http://fake-gateway.test"


class FakeGateway:
    """A gateway whose prefabs are Python functions of your test.

    What a function returns, raises or yields becomes what the gateway would make of it: an exception is a FAILED
    result, a `GatewayError` is raised by the client, a generator can be streamed. A function with a parameter `files`
    gets the URLs of its input files there; their bytes are in `fake.files`. Functions run in threads of their own.

    Args:
        user, agent: who calls; `agent=None` refuses file operations as outside an agent.
        tokens: the tokens that are accepted; None accepts all, and none at all.
        api_keys: {API key: the token it is converted to}.
        quota: calls that are allowed before QUOTA_EXCEEDED.
        part_size: bytes of one part of a large upload.

    Attributes:
        calls: every call that reached a function, as `PrefabCall` with the version that ran.
        files: the bytes of every file by s3 URL.
        cancelled: the ids of the jobs that were cancelled.

    Example:
        fake = FakeGateway()
        fake.prefab("translator", "1.0.0")(translate)
        result = fake.client().run("translator", "1.0.0", "translate", {"text": "Hello"})
    """

    def __init__(
        self,
        *,
        user: str = "user",
        agent: str | None = "agent",
        tokens: set[str] | None = None,
        api_keys: dict[str, str] | None = None,
        quota: int | None = None,
        part_size: int = 8 * 1024 * 1024,
    ) -> None:
        self.tokens = tokens
        self.api_keys = api_keys or {}
        self.quota = quota
        self.agent = agent
        self._store = FakeStore(user, part_size)
        self._files = FakeFiles(self._store, _ADDRESS)
        weakref.finalize(self, self._files.close).atexit = False  # no thread can be started then, and none is needed
        self._prefabs = FakePrefabs()
        self._calls = FakeCalls(self._prefabs, self._store, lambda: self.quota)
        self.calls: list[PrefabCall] = self._calls.calls
        self.cancelled: list[str] = self._calls.cancelled
        self._failures: list[GatewayError] = []

    @property
    def files(self) -> dict[str, bytes]:
        """The bytes of every file by s3 URL."""
        return self._store.files

    @property
    def unfinished_uploads(self) -> int:
        """How many large uploads have begun and neither been completed nor given up."""
        return len(self._files.uploads)

    def client(
        self,
        internal_token: str | None = "fake-token",  # noqa: S107
        *,
        api_key: str | None = None,
        **settings: Any,
    ) -> GatewayClient:
        """A client of this gateway. `settings` are the client's own, such as `timeout`.

        With `api_key` it is the client that `GatewayClient.from_api_key` gives: one outside an agent.

        Raises:
            AuthenticationError: the API key is not among `api_keys`.
        """
        client = GatewayClient(internal_token, _ADDRESS, transport=FakeTransport(self.answer), **settings)
        if api_key is not None:
            client._token, client._api_key = self._converted(api_key), api_key
        return client

    def async_client(
        self,
        internal_token: str | None = "fake-token",  # noqa: S107
        *,
        api_key: str | None = None,
        **settings: Any,
    ) -> AsyncGatewayClient:
        """An asynchronous client of this gateway, otherwise the same."""
        client = AsyncGatewayClient(internal_token, _ADDRESS, transport=FakeTransport(self.answer), **settings)
        if api_key is not None:
            client._token, client._api_key = self._converted(api_key), api_key
        return client

    def prefab(
        self, prefab_id: str, version: str, name: str | None = None, *, deprecated: str | None = None
    ) -> Callable[[_Function], _Function]:
        """Make a function callable through the gateway, under `name` or its own.

        `deprecated` says of the version what to use instead: results have it in their `warning`.
        """

        def register(function: _Function) -> _Function:
            self._prefabs.add(prefab_id, version, name or function.__name__, function, deprecated)
            return function

        return register

    def put(self, name: str, data: bytes) -> StoredFile:
        """Put a file into the store, as an input for calls."""
        url = self._store.new_url("inputs", name)
        self.files[url] = data
        return StoredFile(url, filename=name, size=len(data))

    def fail_next(self, *errors: GatewayError) -> None:
        """Have the next requests fail, one after the other: runs, submissions, looks at jobs, file operations.

        The client raises just these errors, after the retries that they are worth. Cancels, conversions of API keys
        and the bytes of files are no requests in this sense.
        """
        self._failures.extend(errors)

    def answer(self, asked: Asked) -> Answer:
        """The answer to one request."""
        try:
            if (signed := self._files.signed(asked)) is not None:
                return signed
            if (asked.method, asked.path) == ("POST", _wire.CONVERT_KEY):
                return json_answer({"internal_token": self._converted(_bearer(asked))})
            self._identify(asked)
            if self._failures and not is_cancel(asked):  # those are said by clients themselves, at any moment
                raise self._failures.pop(0)
            return self._files.answer(asked) or self._calls.answer(asked) or json_answer({"detail": "Not Found"}, 404)
        except GatewayError as error:
            return error_answer(error)

    def _identify(self, asked: Asked) -> None:
        """Find out who asks: a token that was made from an API key is that of a program outside an agent."""
        token = asked.headers.get("x-internal-token")
        if self.tokens is not None and token not in self.tokens:
            raise AuthenticationError("the internal token is missing, wrong or has expired")
        asked.agent = None if token in self.api_keys.values() else self.agent

    def _converted(self, api_key: str) -> str:
        if api_key not in self.api_keys:
            raise AuthenticationError("the API key is not known")
        return self.api_keys[api_key]


def _bearer(asked: Asked) -> str:
    return asked.headers.get("authorization", "").removeprefix("Bearer ")
