"""One call of a package, through a gateway that lives as long as the call."""

import asyncio
import codecs
import os
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gateway_sdk import GatewayClient
from gateway_sdk.models import name_in_url
from gateway_server.calls.logs import Log
from gateway_server.cli import http, server, terminal
from gateway_server.cli.calling import Files, Manner, call
from gateway_server.cli.failures import Failure
from gateway_server.cli.package import PUBLISHER, USER
from gateway_server.prefabs.versions import Version
from gateway_server.settings import Settings

Places = list[tuple[str, str | Path]]
AREA = "prefab-outputs"


def run(
    path: Path,
    function: str,
    parameters: dict[str, Any],
    places: Places,
    *,
    output: Path | None,
    force: bool,
    is_stream: bool,
    is_json: bool,
    timeout: float,
) -> None:
    """Publishes the package where nobody else sees it, runs the function, and shows what it gave."""

    def show_files(client: GatewayClient, files: Files) -> None:
        _show_files(client, files, output, force=force)

    manner = Manner(is_stream=is_stream, is_json=is_json, show_files=show_files, keeps_logs=False)
    with tempfile.TemporaryDirectory(prefix="gateway-") as data:
        settings = Settings(
            data=Path(data), port=0, default_user=USER, trust_same_host=True, allow_loopback=True, reload=True
        )
        server.run(_run(settings, path, function, parameters, places, timeout, manner))


async def _run(
    settings: Settings,
    path: Path,
    function: str,
    parameters: dict[str, Any],
    places: Places,
    seconds: float,
    manner: Manner,
) -> None:
    async with AsyncExitStack() as stack:
        with terminal.busy("Preparing"):
            gateway = await stack.enter_async_context(server.running(settings, grace=0))
            version = await gateway.publisher.publish(path, PUBLISHER)
        for name, value in _secrets(version, function).items():
            await gateway.vault.put(USER, version.prefab_id, name, value, PUBLISHER)
        gateway.pipeline.new_log = lambda: _Echo(settings.log_limit)
        http.pass_proxies_by(gateway.base_url)
        client = GatewayClient(base_url=gateway.base_url, timeout=seconds)
        prefab = (version.prefab_id, version.version)
        await asyncio.to_thread(call, client, prefab, function, parameters, places, manner)


def _secrets(version: Version, name: str) -> dict[str, str]:
    """What the environment has of the secrets that a function declares.

    Raises:
        Failure: it needs one that the environment has not.
    """
    function = version.manifest.function(name) if version.manifest else None
    declared = function.secrets if function else ()
    for secret in declared:
        if secret.required and secret.name not in os.environ:
            about = f" ({secret.description.rstrip('.')})" if secret.description else ""
            raise Failure(
                f"{name} needs the secret {secret.name}{about}. Here secrets are environment variables: "
                f"export {secret.name}=…"
            )
    return {secret.name: os.environ[secret.name] for secret in declared if secret.name in os.environ}


class _Echo(Log):
    """What a function prints, also to standard error."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, data: bytes) -> None:
        """Adds output."""
        super().write(data)
        terminal.say(self._decoder.decode(data), end="")


def _show_files(client: GatewayClient, files: Files, output: Path | None, *, force: bool) -> None:
    """Fetches what a function wrote before the gateway is gone, or says how to keep it.

    Raises:
        Failure: some are there already, and stay as they are.
    """
    if output is None:
        for key, urls in files.items():
            terminal.say(f"file {key}: {', '.join(map(name_in_url, urls))}")
        terminal.say("These files are gone now. To keep them, say where: -o DIR")
        return
    taken = []
    for key, urls in files.items():
        for url in urls:
            place = output / _path_in_url(url)
            if place.exists() and not force:
                taken.append(str(place))
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            terminal.say(f"file {key}: {client.save_file(url, place)}")
    if taken:
        raise Failure(f"Already there: {', '.join(taken)}. Overwrite with --force, or name another DIR.")


def _path_in_url(url: str) -> str:
    """Where the function wrote a file, with its folders: USER/YYYY/MM/DD/JOB/PATH stands in the URL of an output."""
    return url.partition(f"/{AREA}/")[2].split("/", 5)[5]
