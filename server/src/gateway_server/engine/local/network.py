"""What functions reach: never this machine nor its cloud's metadata, always the gateway, and the rest if they may."""

import asyncio
import logging
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from gateway_server.engine.local import firewall, uids
from gateway_server.engine.local.firewall import Address, Firewall, Subjects
from gateway_server.engine.local.isolation import Isolation
from gateway_server.engine.local.protections import Protection
from gateway_server.settings import Settings

logger = logging.getLogger("gateway")
_PORTS = {"http": 80, "https": 443}


class Network:
    """The firewall around functions, and the addresses of the gateway, which stay open."""

    def __init__(self, settings: Settings) -> None:
        self.addresses: tuple[Address, ...] = ()
        """Where functions meet the gateway; the first is the one that they are told."""
        self.no_firewall: str | None = "functions do not run yet"
        """Why there is none; None while it holds."""
        self.no_namespaces: str | None = "functions do not run yet"
        """Why prefabs with "network": false cannot be cut off; None while they are."""
        self._settings = settings
        self._open: tuple[Address, ...] = ()
        self._firewall: Firewall | None = None

    async def find_gateway(self, base_url: str) -> None:
        """Looks up where functions are to meet the gateway; `base_url` is how they are told."""
        self.addresses = await _addresses(base_url)

    async def close_ways(self, isolation: Isolation, first_uid: int) -> None:
        """Raises the firewall, as far as this machine offers one."""
        if isolation is not Isolation.UIDS:
            why = "is off" if isolation is Isolation.NONE else "gives them no uids of their own (run as root for that)"
            self.no_firewall = f"functions cannot be told from other programs: the sandbox {why}"
            return
        public = await _addresses(self._settings.public_url) if self._settings.public_url else ()
        self._open = self.addresses + public  # signed URLs lead to the public one
        try:
            subjects = Subjects(first_uid=first_uid, count=uids.COUNT, network=firewall.own_network())
            self._firewall = Firewall(subjects, self._rules())
        except OSError as error:
            self.no_firewall = str(error)
        else:
            self.no_firewall = None

    def protections(self) -> list[Protection]:
        """What holds of it."""
        apart = '"network": false in a manifest leaves the gateway alone within reach'
        closed = "link-local and metadata addresses" + ("" if self._settings.allow_loopback else " and this machine")
        return [
            Protection(name="network isolation", held=not self.no_namespaces, detail=self.no_namespaces or apart),
            Protection(name="firewall", held=not self.no_firewall, detail=self.no_firewall or f"closes {closed}"),
        ]

    def follow(self) -> None:
        """This machine's addresses and name servers may have become others."""
        if self._firewall is not None:
            try:
                self._firewall.follow(self._rules())
            except OSError:
                logger.exception("the firewall could not be brought up to date")

    def close(self) -> None:
        """Ends it."""
        if self._firewall is not None:
            self._firewall.close()
            self._firewall = None

    def _rules(self) -> firewall.Rules:
        return firewall.rules(self._open, allow_loopback=self._settings.allow_loopback)


async def _addresses(url: str) -> tuple[Address, ...]:
    """Every IP address and port that a URL may lead to; none if its name is not known."""
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme)
    found: dict[Address, None] = {}
    with suppress(OSError, UnicodeError):
        if parts.hostname and port:
            loop = asyncio.get_running_loop()
            for *_, place in await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM):
                found[str(place[0]).partition("%")[0], port] = None
    return tuple(found)
