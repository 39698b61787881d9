"""Many requests by several callers at once, their statistics, and everything that was wrong."""

import http.client
import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.judge import Judge
from fuzz.mutations import mutate
from fuzz.operations import MAKERS, learn
from fuzz.wire import Answer, Line, Request
from fuzz.world import World
from gateways import command_line, descendants, running_gateway
from web_agent import WebAgent

VALID = 0.4
"""The share of requests that are sent as they are; some of the others succeed, too."""
ENOUGH = 20
"""Findings after which it makes no sense to go on."""


@dataclass
class Tally:
    """What became of the requests to one operation."""

    requests: int = 0
    successes: int = 0
    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def share(self) -> float:
        """Of requests that succeeded."""
        return self.successes / max(1, self.requests)


class Campaign:
    """A run of the fuzzer against one gateway."""

    def __init__(self, url: str, admin_key: str, agent_url: str, folder: Path, seed: int) -> None:
        self._url, self._admin_key, self._agent_url, self._folder, self.seed = url, admin_key, agent_url, folder, seed
        self._lock = threading.Lock()
        line = Line(url)
        self.judge = Judge(line.send(Request(method="GET", template="/openapi.json")).json())
        line.close()
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.findings: list[str] = []

    def run(self, requests: int, callers: int, tell: Callable[[int], None] = lambda _: None) -> None:
        """Sends that many requests; `tell` hears after each how many there were."""
        done = iter(range(1, requests + 1))

        def work(number: int) -> None:
            rng = random.Random(f"{self.seed}-{number}")
            line = Line(self._url)
            try:
                world = World(line, self._admin_key, number, self._folder, self._agent_url, rng)
                operations = [f"{method} {path}" for method, path in self.judge.operations]
                for at in range(number, requests, callers):
                    if len(self.findings) >= ENOUGH:
                        return
                    self.one(world, operations[at // callers % len(operations)])
                    with self._lock:
                        tell(next(done))
            except Exception as error:
                self._note(None, f"caller {number} came to its end: {error!r}")
            finally:
                line.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def one(self, world: World, operation: str) -> None:
        """One request to an operation, valid or not."""
        world.begin()
        request = MAKERS[operation](world)
        if world.rng.random() >= VALID:
            request = mutate(request, world.rng)
        try:
            answer = world.line.send(request)
        except (OSError, http.client.HTTPException) as error:
            self._note(request, f"no answer: {error!r}")
            return
        with self._lock:
            tally = self.tallies[operation]
            tally.requests += 1
            tally.successes += answer.ok
            tally.statuses[answer.status] += 1
        for wrong in self.judge.blame(request, answer) + changed(request, answer):
            self._note(request, wrong)
        learn(world, request, answer)
        if request.note == "valid" and answer.status == 401:
            world.sign_in()
        elif request.note == "valid" and not answer.ok:
            world.forget()

    def _note(self, request: Request | None, wrong: str) -> None:
        with self._lock:
            told = "" if request is None else f"\n    {request.note}\n    {request.curl(self._url)}"
            self.findings.append(wrong + told)

    def table(self) -> str:
        """Operations with what became of them."""
        lines = [
            f"{tally.share:6.0%} of {tally.requests:5}  {operation}  {dict(sorted(tally.statuses.items()))}"
            for operation, tally in sorted(self.tallies.items())
        ]
        return "\n".join(lines)


def changed(request: Request, answer: Answer) -> list[str]:
    """Whether a value came back otherwise than it was sent."""
    if request.expected is None or answer.status != 200 or answer.kind != "application/json":
        return []
    (result,) = json.loads(answer.body)["results"]  # which keeps what numbers are
    if result["status"] != "SUCCESS":
        return [f"a valid call failed: {str(result['error'])[:300]}"]
    sent, got = repr(request.expected), repr(result["output"]["output"])
    return [] if sent == got else [f"a value was changed: {sent[:300]} became {got[:300]}"]


def fuzz(
    folder: Path, *, seed: int, requests: int, callers: int, tell: Callable[[int], None] = lambda _: None
) -> Campaign:
    """A campaign against a gateway of its own, which is looked at when everything has been sent."""
    with WebAgent() as agent, running_gateway(folder / "data") as gateway:
        campaign = Campaign(gateway.url, gateway.admin_key, agent.url, folder / "packages", seed)
        campaign.run(requests, callers, tell)
        if gateway.request("GET", "/ready").status_code != 200:
            campaign.findings.append("the gateway takes no work any more")
        below = descendants(gateway.pid)
        if gateway.stop() != 0:
            campaign.findings.append("the gateway did not end well")
        if left := [pid for pid in below if Path(f"/proc/{pid}").exists()]:
            campaign.findings.append(f"processes are left: {[command_line(pid) for pid in left]}")
        if "Traceback" in gateway.log():
            campaign.findings.append("the log holds a traceback: ..." + gateway.log().partition("Traceback")[2][:3000])
    return campaign
