"""A prefab in `gateway dev`: published, and published again whenever it changes."""

import asyncio
import time
from pathlib import Path

from gateway_server.app import Gateway
from gateway_server.cli import samples, terminal
from gateway_server.cli.failures import refused
from gateway_server.cli.package import PUBLISHER, USER
from gateway_server.cli.watching import watched
from gateway_server.engine.local.zygotes import ImportFailed
from gateway_server.errors import GatewayFault
from gateway_server.prefabs.versions import Version


async def follow(gateway: Gateway, package: Path, prefix: str) -> None:
    """Publishes a package, and again after every change; also after those that come while it is being published.

    `prefix` comes before the commands that are shown.
    """
    shown: Version | None = None
    served: Version | None = None
    async with watched(package) as changed:
        while True:
            changed.clear()
            shown = await _publish(gateway, package, shown, prefix)
            if shown is None and served is not None:
                terminal.say(f"{served.prefab_id}@{served.version} is still served as it was before.")
            served = shown or served
            importing = asyncio.create_task(_import(gateway, shown)) if shown is not None else None
            try:
                await changed.wait()
            finally:
                if importing is not None:
                    importing.cancel()


async def _import(gateway: Gateway, version: Version) -> None:
    """Has a worker made ready, so that an import that fails is told now, and the first call finds it warm."""
    assert version.deployment is not None
    try:
        with await gateway.engine.worker(version.deployment, USER):
            pass
    except ImportFailed as error:
        told = error.told
        terminal.say(f"{told['traceback'].rstrip()}\n{version.prefab_id}@{version.version} cannot be imported: {error}")
    except GatewayFault as fault:  # a call would say the same
        terminal.say(f"{version.prefab_id}@{version.version}: {fault.message}")


async def _publish(gateway: Gateway, package: Path, shown: Version | None, prefix: str) -> Version | None:
    """The version that is there now; told, unless it is the one that was shown last."""
    began = time.monotonic()
    try:
        version = await gateway.publisher.publish(package, PUBLISHER, replacing=True)
    except GatewayFault as fault:
        terminal.say(f"{package}: {refused(fault.status, fault.detail()).message}")
        return None
    except Exception as error:  # such as a file that vanished while it was read; the next change tries again
        terminal.say(f"{package}: {type(error).__name__}: {error}")
        return None
    if shown is not None and shown.digest == version.digest:
        return version
    for warning in version.warnings:
        terminal.say(f"{package}: warning: {warning.pointer}: {warning.message}")
    terminal.say(f"{version.prefab_id}@{version.version} published in {time.monotonic() - began:.1f} s")
    if shown is None or shown.manifest != version.manifest:
        _show_commands(version, prefix)
    return version


def _show_commands(version: Version, prefix: str) -> None:
    assert version.manifest is not None
    for function in version.manifest.functions:
        if function.disabled is None:
            terminal.say(f"  {prefix}{samples.command(version.prefab_id, version.version, function)}")
