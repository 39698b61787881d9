"""Listings: exact pages, whatever is stored meanwhile."""

from __future__ import annotations

import random

import pytest

from gateway_server.errors import Invalid, MissingAgentContext, PermissionDenied
from gateway_server.files import listing
from gateway_server.files.keys import Area
from gateway_server.files.listing import Query

from .conftest import PRINCIPALS, House

pytestmark = pytest.mark.anyio
AGENT = PRINCIPALS["agent"]


async def pages(house: House, prefix: str, limit: int, who: str = "agent") -> list[list[str]]:
    found, token = [], None
    while True:
        page = await house.library.page(PRINCIPALS[who], Query(prefix=prefix, limit=limit, token=token))
        found.append([file.name for file in page.files])
        if (token := page.next_token) is None:
            return found


async def test_pages_are_full_and_the_last_one_says_so(house: House) -> None:
    mine = listing.of_agent(AGENT, Area.OUTPUTS, "")
    assert await pages(house, mine, 2) == [[]]
    for number in range(4):
        house.clock.forward(seconds=1)
        await house.put(name=str(number))
        await house.put(name="other", who="other-agent")
        await house.put(name="temporary", area=Area.WORKSPACE)
    assert await pages(house, mine, 2) == [["0", "1"], ["2", "3"]]
    assert await pages(house, mine, 3) == [["0", "1", "2"], ["3"]]


async def test_files_stored_while_a_listing_is_read_neither_hide_nor_double_others(house: House) -> None:
    chance = random.Random(7)
    names = {f"名{number}" for number in range(40)}
    for name in sorted(names):
        house.clock.forward(days=chance.randint(0, 3))
        await house.put(name=name)
    seen: list[str] = []
    token = None
    mine = listing.of_agent(AGENT, Area.OUTPUTS, "")
    while True:
        page = await house.library.page(AGENT, Query(prefix=mine, limit=7, token=token))
        seen += [file.name for file in page.files if file.name != "new"]
        if (token := page.next_token) is None:
            break
        house.clock.forward(days=chance.randint(-60, 1))
        await house.put(name="new")
    assert sorted(seen) == sorted(names)


async def test_a_prefix_is_relative_to_the_area(house: House) -> None:
    await house.put(name="november")
    house.clock.forward(days=60)
    await house.put(name="january")
    assert await pages(house, listing.of_agent(AGENT, Area.OUTPUTS, "2025/11/07/"), 10) == [["november"]]
    assert await pages(house, listing.of_agent(AGENT, Area.OUTPUTS, "202"), 10) == [["november", "january"]]
    assert await pages(house, listing.of_agent(AGENT, Area.OUTPUTS, "%"), 10) == [[]]


async def test_sessions_are_listed_apart(house: House) -> None:
    for session in ("s", "s2", None):
        await house.put(name=f"of {session}", area=Area.WORKSPACE, session=session)
    assert await pages(house, listing.of_agent(AGENT, Area.WORKSPACE, "", "s"), 10) == [["of s"]]
    assert await pages(house, listing.of_agent(AGENT, Area.WORKSPACE, ""), 10) == [["of None", "of s", "of s2"]]


async def test_a_user_sees_everything_and_an_agent_only_its_own_areas(house: House) -> None:
    for who in ("agent", "other-agent", "stranger"):
        await house.put(name=f"of {who}", who=who)
    await house.put(name="input", who="person", area=Area.INPUTS)
    everything = listing.of_user(AGENT, None, "")
    assert await pages(house, everything, 10, "person") == [["input", "of other-agent", "of agent"]]
    assert await pages(house, everything, 10, "agent") == [["input", "of agent"]]
    assert await pages(house, "agent-outputs/mallory/", 10, "person") == [[]]
    assert await pages(house, listing.of_user(AGENT, Area.OUTPUTS, "reader/"), 10, "person") == [["of other-agent"]]


async def test_expired_files_are_not_listed(house: House) -> None:
    await house.put(name="short", area=Area.WORKSPACE, ttl=1)
    await house.put(name="long", area=Area.WORKSPACE, ttl=100)
    house.clock.forward(seconds=1)
    assert await pages(house, listing.of_agent(AGENT, Area.WORKSPACE, ""), 10) == [["long"]]


async def test_bad_limits_and_tokens_are_refused(house: House) -> None:
    mine = listing.of_agent(AGENT, Area.OUTPUTS, "")
    foreign = listing.token("agent-outputs/mallory/writer/2025")
    for query, pointer in [
        (Query(prefix=mine, limit=0, token=None), "/limit"),
        (Query(prefix=mine, limit=1001, token=None), "/limit"),
        (Query(prefix=mine, limit=1, token="?"), "/continuation_token"),
        (Query(prefix=mine, limit=1, token="_w"), "/continuation_token"),
        (Query(prefix=mine, limit=1, token=foreign), "/continuation_token"),
    ]:
        with pytest.raises(Invalid) as caught:
            await house.library.page(AGENT, query)
        assert caught.value.problems[0].pointer == pointer


async def test_listings_are_not_for_code_in_a_call_nor_without_an_agent(house: House) -> None:
    with pytest.raises(PermissionDenied):
        listing.of_agent(PRINCIPALS["agent-call"], Area.OUTPUTS, "")
    with pytest.raises(MissingAgentContext):
        listing.of_agent(PRINCIPALS["person"], Area.OUTPUTS, "")
    with pytest.raises(PermissionDenied):
        await house.library.page(PRINCIPALS["call"], Query(prefix="", limit=1, token=None))
