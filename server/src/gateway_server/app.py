"""The composition root: builds every part of a gateway and hands each what it needs. Nothing is built anywhere else."""

import asyncio
import contextlib
import ctypes
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import FastAPI

from gateway_server import __version__
from gateway_server.api import agents as agent_routes
from gateway_server.api import audit as audit_routes
from gateway_server.api import faults, openapi, publishing, viewer
from gateway_server.api import files as file_routes
from gateway_server.api import health as health_routes
from gateway_server.api import jobs as job_routes
from gateway_server.api import keys as key_routes
from gateway_server.api import prefabs as prefab_routes
from gateway_server.api import quotas as quota_routes
from gateway_server.api import secrets as secret_routes
from gateway_server.api import usage as usage_routes
from gateway_server.api import users as user_routes
from gateway_server.api.asgi import Application, Receive, Send
from gateway_server.api.auth import Authenticator
from gateway_server.api.calls import PATHS, RunRoutes
from gateway_server.api.doors import is_inside
from gateway_server.api.exchange import Exchanges
from gateway_server.api.intake import Intake
from gateway_server.api.job_events import PATH as EVENTS_PATH
from gateway_server.api.job_events import JobEvents
from gateway_server.api.keys import LONGEST_LIFE
from gateway_server.api.objects import SignedObjects
from gateway_server.api.replies import Recorded
from gateway_server.api.submitting import PATH as SUBMIT_PATH
from gateway_server.api.submitting import Submitting
from gateway_server.calls.agents import Agents
from gateway_server.calls.attempts import Attempts
from gateway_server.calls.dispatcher import Dispatcher
from gateway_server.calls.erasure import ADMIN, Erasure
from gateway_server.calls.events import Events
from gateway_server.calls.jobs import Jobs
from gateway_server.calls.ledger import Ledger
from gateway_server.calls.pipeline import Pipeline
from gateway_server.calls.preparation import Preparation
from gateway_server.calls.queue import Queue
from gateway_server.calls.quotas import Quotas
from gateway_server.calls.running import RunningCalls
from gateway_server.calls.standings import Standings
from gateway_server.calls.submissions import Submissions
from gateway_server.calls.vault import Vault
from gateway_server.engine.local.pool import LocalEngine
from gateway_server.errors import Invalid
from gateway_server.files.library import Library
from gateway_server.files.uploads import Uploads
from gateway_server.identity import audit
from gateway_server.identity.keys import Keys
from gateway_server.identity.signing import SigningKeys
from gateway_server.identity.tokens import Tokens
from gateway_server.identity.users import Users
from gateway_server.models import Scope
from gateway_server.prefabs.catalogue import Catalogue
from gateway_server.prefabs.environments import Environments, lay_out_support, sdk_wheel
from gateway_server.prefabs.publisher import Publisher
from gateway_server.prefabs.versions import Version
from gateway_server.settings import Settings
from gateway_server.store import master_key, sealed
from gateway_server.store.cipher import Cipher, write_private
from gateway_server.store.database import Database
from gateway_server.store.journal import Journal
from gateway_server.store.local_objects import LocalObjects
from gateway_server.store.objects import Objects
from gateway_server.store.s3_objects import S3Objects
from gateway_server.store.signatures import Signer

logger = logging.getLogger("gateway")
SWEEP_EVERY = 60.0
DRAIN = 5.0
"""Seconds for the records of the calls that a stop has ended."""


class Gateway:
    """One gateway, as an ASGI application. Its parts are built at once and started by the lifespan."""

    def __init__(self, settings: Settings) -> None:
        check_settings(settings)
        self.settings = settings
        data = settings.data
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        (data / ".gitignore").write_text("*\n")  # it holds keys, and may lie in somebody's repository
        self.local_url = f"http://{_reachable(settings.host)}:{settings.port}"
        """How programs on this machine reach the gateway, functions among them."""
        self.base_url = settings.public_url or self.local_url
        """How everybody else does."""
        self.database = Database(settings.database) if settings.database else Database.in_folder(data)
        self.cipher = Cipher(*master_key.read(data, os.environ))
        self.objects = self._open_objects()
        self.users = Users(self.database)
        self.library = Library(self.database, self.objects, settings, check_principal=self.users.check_principal)
        self.uploads = Uploads(self.library, self.database, self.objects, settings)
        self.keys = Keys(self.database, self.users)
        self.signing = SigningKeys(self.database, self.cipher)
        self.tokens = Tokens(self.database, self.signing, self.users)
        self.vault = Vault(self.database, self.cipher)
        self.quotas = Quotas(self.database, settings.default_quota, tree_limit=settings.tree_limit)
        self.standings = Standings(self.database, self.quotas)
        self.jobs = Jobs(self.database)
        self.events = Events(self.database)
        self.ledger = Ledger(self.database, self.quotas, lambda: Journal(data / "journal"))
        self.running = RunningCalls()
        self.environments = Environments(
            data / "environments", lambda: sdk_wheel(data / "support"), settings.allow_source_builds
        )
        self.catalogue = Catalogue(self.database, self.environments, data / "prefabs")
        self.publisher = Publisher(self.database, self.environments, self.catalogue, self.users.check_principal)
        self.engine = LocalEngine(
            settings,
            support=lay_out_support(data / "support"),
            workspaces=data / "work",
            base_url=lambda: self.local_url,
        )
        self.agents = Agents(self.database, self.users, self.tokens, settings)
        self.authenticator = Authenticator(settings, self.users, self.keys, self.tokens, self.running, self.engine.owns)
        self.exchanges = Exchanges()
        self.pipeline = Pipeline(
            log_limit=settings.log_limit,
            database=self.database,
            preparation=Preparation(
                settings=settings,
                database=self.database,
                catalogue=self.catalogue,
                library=self.library,
                vault=self.vault,
                users=self.users,
                quotas=self.quotas,
                standings=self.standings,
                running=self.running,
            ),
            attempts=Attempts(
                file_limit=settings.file_limit,
                outputs_limit=None if settings.sandbox == "off" else settings.workspace_limit,
                library=self.library,
                tokens=self.tokens,
                engine=self.engine,
            ),
            quotas=self.quotas,
            jobs=self.jobs,
            events=self.events,
            running=self.running,
            ledger=self.ledger,
            standings=self.standings,
        )
        queue = Queue(self.database, self.jobs)
        self.dispatcher = Dispatcher(
            workers=settings.workers,
            database=self.database,
            pipeline=self.pipeline,
            queue=queue,
            jobs=self.jobs,
            events=self.events,
            running=self.running,
            tokens=self.tokens,
        )
        self.erasure = Erasure(
            database=self.database,
            users=self.users,
            keys=self.keys,
            library=self.library,
            running=self.running,
            ledger=self.ledger,
        )
        self.erasure.end_requests = self._end_requests
        self.recorded = Recorded(self.jobs, self.events, self.catalogue)
        self._serve_runs(queue)
        self._signed_objects = SignedObjects(self.library, self.objects, settings)
        self.web = self._build_web()
        self._background: list[asyncio.Task[None]] = []

    def _serve_runs(self, queue: Queue) -> None:
        """What is served before the web framework."""
        intake = Intake(self.settings.request_limit)
        self._submitting = Submitting(
            settings=self.settings,
            authenticator=self.authenticator,
            submissions=Submissions(
                database=self.database,
                pipeline=self.pipeline,
                standings=self.standings,
                ledger=self.ledger,
                jobs=self.jobs,
                queue=queue,
                dispatcher=self.dispatcher,
            ),
            jobs=self.jobs,
            events=self.events,
            recorded=self.recorded,
            intake=intake,
        )
        self.runs = RunRoutes(
            settings=self.settings,
            authenticator=self.authenticator,
            pipeline=self.pipeline,
            jobs=self.jobs,
            events=self.events,
            running=self.running,
            database=self.database,
            exchanges=self.exchanges,
            recorded=self.recorded,
            submitting=self._submitting,
            intake=intake,
        )
        self._job_events = JobEvents(authenticator=self.authenticator, jobs=self.jobs, events=self.events)

    def _open_objects(self) -> Objects:
        if self.settings.store is not None:
            try:
                return S3Objects.from_url(self.settings.store, os.environ)
            except ValueError as error:
                raise Invalid(f"The store cannot be used: {error}.") from error
        return LocalObjects(
            self.settings.data / "objects",
            bucket=self.settings.bucket,
            signer=Signer.from_folder(self.settings.data),
            base_url=lambda: self.local_url if is_inside.get() else self.base_url,
        )

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI. The run routes and the objects come first, and know no framework."""
        bare = self._bare(scope) if scope["type"] == "http" else None
        if bare is not None:
            await faults.guard(bare, scope, receive, send)
        else:
            await self.web(scope, receive, send)  # type: ignore[arg-type]

    def _bare(self, scope: dict[str, Any]) -> Application | None:
        """Who answers a request without the framework."""
        path: str = scope["path"]
        if path in PATHS:
            return self.runs
        if path == SUBMIT_PATH and scope["method"] != "GET":
            return self._submitting
        if EVENTS_PATH.match(path):
            return self._job_events
        if path.startswith("/objects/"):
            return self._signed_objects
        return None

    async def start(self) -> None:
        """Opens the database, prepares what the first start needs, and takes work."""
        self.database.open()
        await self.ledger.open()
        await self.users.load()
        await self._open_sealed()
        self.tokens.revoked = await self.keys.revoked()
        await self._make_admin_key()
        await self._register_default_user()
        await self.jobs.end_orphans(self.quotas.release)
        await asyncio.to_thread(publishing.sweep, self.settings.data / publishing.INCOMING)
        await self.catalogue.start()
        self.catalogue.on_gone = self._forget
        await self.agents.start()
        await self.engine.start()
        if self.engine.isolation.value == "none":
            logger.warning("prefabs run without a sandbox: publish only what you trust (`gateway doctor` says why)")
        elif self.settings.sandbox == "required" and self.engine.network.no_firewall is not None:
            logger.warning("functions reach every address of this machine: %s", self.engine.network.no_firewall)
        await self.dispatcher.start()
        self._background.append(asyncio.create_task(self._sweep()))

    def drain(self, seconds: float) -> None:
        """Begins no further jobs; those that run get so long to end."""
        self.dispatcher.pause(seconds)
        self.events.let_go()

    async def stop(self) -> None:
        """Lets running calls end as far as the server has waited for them, then ends everything."""
        for task in self._background:
            task.cancel()
        self.drain(0)
        await self.dispatcher.stop()
        self.exchanges.cancel_all()
        await self.engine.close()
        await self.exchanges.drain(DRAIN)
        await self.agents.close()
        await self.objects.close()
        await self.ledger.close()
        await self.database.close()

    def _forget(self, version: Version) -> None:
        if version.deployment is not None:
            self.engine.forget(version.deployment.key)

    async def _register_default_user(self) -> None:
        if self.settings.trust_same_host or self.settings.trusted_networks:
            with contextlib.suppress(Invalid):  # disabled, and stays so
                await self.users.register(self.settings.default_user, None)

    async def _end_requests(self, user: str) -> None:
        await self.exchanges.end_user(user)
        self.engine.forget_user(user)

    async def _open_sealed(self) -> None:
        """Finishes a change of the master key, or leaves behind what a lost one sealed."""
        if self.cipher.is_changing:
            count, lost = await sealed.rewrap(self.database, self.cipher)
            logger.warning("%d sealed values are under the new master key now; the previous one has ended", count)
            if lost:
                logger.warning("%d sealed values are under neither key: gateway serve --forget-secrets", lost)
        master_key.forget_previous(self.settings.data)
        if self.settings.forget_secrets:
            count = await sealed.forget_lost(self.database, self.cipher)
            await self.database.write(lambda c: audit.record(c, None, "secret.forget", "master key", values=count))
            logger.warning("%d values that the master key does not open are forgotten", count)
        await self.signing.load()

    async def _make_admin_key(self) -> None:
        file = self.settings.data / "admin.key"
        if file.exists() and not await self.keys.has_admin():  # it is one of another database
            file.rename(file.with_name("admin.key.previous"))
        if not file.exists():
            text, _ = await self.keys.create(ADMIN, Scope, name="made at first start")
            write_private(file, text + "\n")

    async def _sweep(self) -> None:
        """Removes what has expired."""
        while True:
            for name, step in self._sweeping(time.time()).items():
                try:
                    await step()
                except Exception:  # the next round tries again; neither the gateway nor another step must end for it
                    logger.exception("sweeping %s failed", name)
            await asyncio.sleep(SWEEP_EVERY)

    def _sweeping(self, moment: float) -> dict[str, Callable[[], Awaitable[object]]]:
        settings, day = self.settings, 86400
        return {
            "files": self.library.sweep,
            "deleted users": self.erasure.finish,
            "quotas": self.quotas.sweep,
            "users": partial(self.users.forget, moment - LONGEST_LIFE),
            "signing keys": partial(self.signing.sweep, moment - LONGEST_LIFE),
            "the audit log": partial(audit.forget, self.database, moment - settings.keep_audit_days * day),
            "jobs": partial(
                self.jobs.sweep,
                records_before=moment - settings.keep_records_days * day,
                results_before=moment - settings.keep_results_hours * 3600,
                logs_before=moment - settings.keep_logs_days * day,
            ),
            "memory": partial(asyncio.to_thread, _give_memory_back),
        }

    def _build_web(self) -> FastAPI:
        @contextlib.asynccontextmanager
        async def lifespan(_web: FastAPI) -> AsyncIterator[None]:
            await self.start()
            try:
                yield
            finally:
                await self.stop()

        web = FastAPI(
            title="agent-builder gateway",
            version=__version__,
            lifespan=lifespan,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,  # a redirect would go to whatever host the request names
        )
        openapi.install(web)
        identify = self.authenticator
        faults.install(web, identify)
        web.include_router(viewer.routes())
        web.include_router(health_routes.routes(engine=self.engine, running=self.running))
        web.include_router(
            job_routes.routes(
                jobs=self.jobs,
                running=self.running,
                dispatcher=self.dispatcher,
                events=self.events,
                recorded=self.recorded,
                exchanges=self.exchanges,
                identify=identify,
            )
        )
        web.include_router(
            file_routes.routes(library=self.library, uploads=self.uploads, identify=identify, settings=self.settings)
        )
        web.include_router(
            prefab_routes.routes(
                catalogue=self.catalogue, publisher=self.publisher, identify=identify, settings=self.settings
            )
        )
        web.include_router(secret_routes.routes(vault=self.vault, users=self.users, identify=identify))
        web.include_router(
            key_routes.routes(
                keys=self.keys, tokens=self.tokens, signing=self.signing, users=self.users, identify=identify
            )
        )
        web.include_router(
            quota_routes.routes(quotas=self.quotas, standings=self.standings, users=self.users, identify=identify)
        )
        web.include_router(usage_routes.routes(database=self.database, identify=identify))
        web.include_router(user_routes.routes(users=self.users, erasure=self.erasure, identify=identify))
        web.include_router(audit_routes.routes(database=self.database, identify=identify))
        web.include_router(agent_routes.routes(agents=self.agents, identify=identify))
        return web


def create_app(settings: Settings) -> Gateway:
    """A gateway; run it with any ASGI server that speaks lifespan."""
    return Gateway(settings)


def check_settings(settings: Settings) -> None:
    """Looks at settings without doing anything.

    Raises:
        Invalid: one asks for what is not there.
    """
    if settings.engine != "local":
        raise Invalid(f"The engine {settings.engine} cannot be used yet: functions run on this machine.")
    if settings.database is not None and not settings.database.startswith("sqlite:"):
        raise Invalid("Only SQLite can be the database yet: sqlite:///PATH, or nothing for the data folder.")


def _give_memory_back() -> None:
    """What was needed at the busiest moment stays with the process otherwise, in holes between what it still needs."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
