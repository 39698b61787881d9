"""What the product is compared with: each a server that runs the same echo, in an environment of its own."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.endpoint import HOST, TEXT, Endpoint
from bench.environments import environment, version
from bench.server import Server, free_port

APPS = Path(__file__).parent / "apps"
UVICORN = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning", "--host", HOST)


@dataclass(frozen=True)
class Peer:
    """A way to serve a function."""

    name: str
    packages: str
    """The environment, and the package that gives the version."""
    command: Callable[[Path, int], list[str]]
    """Of the folder of the environment's programs, and the port."""
    env: Callable[[Path, int, Path], dict[str, str]] = lambda _programs, _port, _work: {}
    path: str = "/echo"
    body: Callable[[str], object] = lambda text: {"text": text}
    is_serving_framework: bool = True
    """Whether it is there to serve functions of models, as the product is, and not a web framework."""

    @property
    def version(self) -> str:
        """The version that is compared with."""
        return version(*self.packages.split())

    def server(self, work: Path, programs: Path | None = None) -> tuple[Server, Endpoint]:
        """The server, not started, and where it will answer. `programs` is a folder that stands in for its own.

        Raises:
            Missing: its environment cannot be made.
        """
        port = free_port()
        programs = programs or environment(self.packages.split()[0])
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        env = {"PYTHONPATH": str(APPS), "PATH": path, **self.env(programs, port, work)}
        name = self.packages.split()[0]
        folder = work / name
        folder.mkdir(exist_ok=True)
        server = Server(self.name, self.command(programs, port), log=work / f"{name}.log", env=env, cwd=folder)
        return server, Endpoint(port, self.path).with_body(self.body(TEXT))


def _uvicorn(app: str) -> Callable[[Path, int], list[str]]:
    return lambda programs, port: [str(programs / "uvicorn"), app, "--port", str(port), *UVICORN]


def _script(name: str) -> Callable[[Path, int], list[str]]:
    return lambda programs, port: [str(programs / "python"), str(APPS / name), str(port)]


BARE = Peer("Starlette", "bare starlette", _uvicorn("starlette_app:app"), is_serving_framework=False)
"""The baseline: nothing between the request and the function, which runs in the server's own process."""

PEERS = (
    Peer("FastAPI", "fastapi fastapi", _uvicorn("fastapi_app:app"), is_serving_framework=False),
    Peer(
        "BentoML",
        "bentoml bentoml",
        lambda programs, port: [
            *(str(programs / "bentoml"), "serve", "bentoml_app:Echo", "--host", HOST, "--port", str(port)),
            *("--working-dir", str(APPS)),
        ],
        lambda _programs, _port, work: {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(work / "bentoml")},
    ),
    Peer("LitServe", "litserve litserve", _script("litserve_app.py")),
    Peer(
        "cog",
        "cog cog",
        lambda programs, _port: [str(programs / "python"), "-m", "cog.server.http", "--host", HOST],
        lambda _programs, port, _work: {
            "PORT": str(port),
            "COG_PREDICT_TYPE_STUB": f"{APPS / 'cog_app.py'}:Echo",
            "COG_MAX_CONCURRENCY": "1024",  # a place is lost whenever a caller hangs up
            "COG_LOG_LEVEL": "error",
            "RUST_LOG": "error",
        },
        path="/predictions",
        body=lambda text: {"input": {"text": text}},
    ),
    Peer(
        "Ray Serve",
        "ray ray",
        _script("ray_app.py"),
        lambda _programs, _port, work: {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(work / "r")},
    ),
)
