"""The baseline: Starlette with the functions in its own process."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

FILE = Path("uploaded")  # in the folder that it was started in


def frame(number: int) -> str:
    event = {"type": "content", "data": f"token {number}"}
    return f"data: {json.dumps(event)}\n\n"


async def events_async(n: int, delay: float) -> AsyncIterator[str]:
    for number in range(n):
        if number and delay:
            await asyncio.sleep(delay)
        yield frame(number)


def events(n: int, delay: float) -> Iterator[str]:
    for number in range(n):
        if number and delay:
            time.sleep(delay)
        yield frame(number)


async def echo(request: Request) -> Response:
    body = await request.json()
    return JSONResponse({"success": True, "echo": body["text"]})


async def stream(request: Request) -> Response:
    body = await request.json()
    generate = events_async if body["async"] else events
    return StreamingResponse(generate(body["n"], body["delay"]), media_type="text/event-stream")


async def put_file(request: Request) -> Response:
    with FILE.open("wb") as file:
        async for data in request.stream():
            file.write(data)
    return Response()


async def get_file(_request: Request) -> Response:
    return FileResponse(FILE)


app = Starlette(
    routes=[
        Route("/echo", echo, methods=["POST"]),
        Route("/stream", stream, methods=["POST"]),
        Route("/file", put_file, methods=["PUT"]),
        Route("/file", get_file, methods=["GET"]),
    ]
)
