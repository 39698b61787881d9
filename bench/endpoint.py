"""Something that can be asked over HTTP on this machine, and whether it answers as it should."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

HOST = "127.0.0.1"
TEXT = "hello world, this is a small payload"
"""What is echoed; an answer without it is no answer."""


@dataclass(frozen=True)
class Endpoint:
    """A POST with a JSON body that stays the same."""

    port: int
    path: str = "/echo"
    body: bytes = json.dumps({"text": TEXT}).encode()
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_body(self, body: object) -> "Endpoint":
        """The same place, asked something else."""
        return replace(self, body=json.dumps(body).encode())

    def head(self, extra: str = "") -> bytes:
        """The request up to its body, as bytes for a socket."""
        fields = {"Host": f"{HOST}:{self.port}", "Content-Type": "application/json", **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}{extra}Content-Length: {len(self.body)}\r\n\r\n".encode()

    def text(self, extra: str = "") -> str:
        """The whole request, as text for a program that sends it."""
        return (self.head(extra) + self.body).decode()

    def ask(self, timeout: float = 60.0) -> tuple[int, bytes]:
        """One request on a connection of its own: status and body of the answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            connection.request("POST", self.path, self.body, {"Content-Type": "application/json", **self.headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def check(self) -> None:
        """Asks once, and makes sure that the function has run.

        Raises:
            RuntimeError: the answer is no success.
        """
        status, body = self.ask()
        if status != 200 or TEXT.encode() not in body:
            raise RuntimeError(f"{self.path} answers {status}: {body[:300]!r}")
