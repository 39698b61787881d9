"""A server that answers every run at once with the same success: what is left is what the client costs.

`python -m bench.stub PORT`
"""

import asyncio
import json
import sys

OUTPUT = {"status": "SUCCESS", "output": {"success": True, "echo": "hello"}, "files": {}}
RESULT = {"status": "SUCCESS", "output": OUTPUT, "error": None, "job_id": "j", "version": "1.0.0"}
BODY = json.dumps({"job_id": "j", "status": "COMPLETED", "results": [RESULT]}, separators=(",", ":")).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)


class Stub(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            lines = self._buffer[:end].lower().split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(HEAD + BODY)


async def main() -> None:
    """Serves until it is ended."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
