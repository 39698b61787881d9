"""Who may do what, one function at a time. These run without fixtures, as scripts/mutate.py calls them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway_server.errors import GatewayFault, Invalid, MissingAgentContext, PermissionDenied
from gateway_server.identity import access
from gateway_server.models import Principal, Scope

CALL, PUBLISH, ADMIN = (Principal(user="ann", scopes=frozenset({scope})) for scope in Scope)
NOTHING = Principal(user="ann", scopes=frozenset())
AGENT = Principal(user="ann", agent="helper")
INSIDE = Principal(user="ann", agent="helper", job_id="j1", root_job_id="r1")
POWERFUL_INSIDE = Principal(user="ann", scopes=frozenset(Scope), job_id="j1", root_job_id="r1")
LIMITED = Principal(user="ann", scopes=frozenset({Scope.CALL, Scope.PUBLISH}), prefabs=frozenset({"one"}), key_id="k1")
PEOPLE = (CALL, PUBLISH, ADMIN, NOTHING, AGENT, LIMITED)


def refused(act: Callable[[], Any], fault: type[GatewayFault] = PermissionDenied) -> GatewayFault:
    with pytest.raises(fault) as caught:
        act()
    assert type(caught.value) is fault
    return caught.value


def pointer(act: Callable[[], Any]) -> str:
    fault = refused(act, Invalid)
    assert isinstance(fault, Invalid)
    (problem,) = fault.problems
    assert problem.message == fault.message
    return problem.pointer


def test_names() -> None:
    for name in ("a", "Z", "0", "a.b_c@d-e", "a" * 64):
        assert access.check_name(name, "User") == name
    for name in ("", "a" * 65, ".a", "-a", "a b", "a/b", "a\n", "ä", None, 7):
        assert pointer(lambda name=name: access.check_name(name, "User")) == "/user"  # type: ignore[misc]
    assert pointer(lambda: access.check_name("", "User", "/id")) == "/id"
    told = refused(lambda: access.check_name("a b", "User"), Invalid).message
    assert "User 'a b'" in told
    assert "up to 63 letters, digits or any of . _ @ -" in told


def test_prefab_ids() -> None:
    for prefab_id in ("abc", "a-b", "a1-2b", "a" * 64):
        assert access.check_prefab_id(prefab_id, "/p") == prefab_id
    for prefab_id in ("", "ab", "a" * 65, "A-b", "a--b", "-ab", "ab-", "a_b", "abc\n"):
        assert pointer(lambda prefab_id=prefab_id: access.check_prefab_id(prefab_id, "/p")) == "/p"  # type: ignore[misc]
    assert "3 to 64 characters" in refused(lambda: access.check_prefab_id("ab", "/p"), Invalid).message


def test_admins() -> None:
    assert [principal for principal in PEOPLE if access.is_admin(principal)] == [ADMIN]


def test_scopes() -> None:
    for scope, principal in zip(Scope, (CALL, PUBLISH, ADMIN), strict=True):
        access.require_scope(principal, scope)
        access.require_scope(ADMIN, scope)
        access.require_operator(ADMIN, scope)
        access.require_operator(principal, scope)
        refused(lambda scope=scope: access.require_scope(NOTHING, scope))  # type: ignore[misc]
        refused(lambda scope=scope: access.require_operator(NOTHING, scope))  # type: ignore[misc]
        refused(lambda scope=scope: access.require_operator(POWERFUL_INSIDE, scope))  # type: ignore[misc]
    access.require_scope(POWERFUL_INSIDE, Scope.PUBLISH)
    assert "--user ann --scope publish" in refused(lambda: access.require_scope(CALL, Scope.PUBLISH)).message


def test_persons() -> None:
    for principal in PEOPLE:
        access.require_person(principal)
    refused(lambda: access.require_person(INSIDE))


def test_whose_things_are_meant() -> None:
    for whose in (access.acting_user, access.acting_caller):
        assert whose(CALL, None) == whose(CALL, "ann") == whose(ADMIN, None) == "ann"
        assert whose(ADMIN, "bob") == "bob"
        assert pointer(lambda whose=whose: whose(ADMIN, "not a name")) == "/user"  # type: ignore[misc]
        refused(lambda whose=whose: whose(CALL, "bob"))  # type: ignore[misc]
        refused(lambda whose=whose: whose(INSIDE, None))  # type: ignore[misc]
        refused(lambda whose=whose: whose(POWERFUL_INSIDE, "bob"))  # type: ignore[misc]
    assert access.acting_user(PUBLISH, None) == "ann"
    refused(lambda: access.acting_caller(PUBLISH, None))


def test_everybodys_things() -> None:
    assert access.user_or_all(ADMIN, None) is None
    assert (
        access.user_or_all(ADMIN, "ann") == access.user_or_all(CALL, None) == access.user_or_all(CALL, "ann") == "ann"
    )
    assert access.user_or_all(ADMIN, "bob") == "bob"
    refused(lambda: access.user_or_all(CALL, "bob"))
    refused(lambda: access.user_or_all(POWERFUL_INSIDE, None))


def test_agents_are_agents() -> None:
    assert access.require_agent(AGENT) == access.require_agent(INSIDE) == "helper"
    refused(lambda: access.require_agent(ADMIN), MissingAgentContext)


def test_calls() -> None:
    for principal in (CALL, ADMIN, AGENT, INSIDE):
        access.may_call(principal, "any")
    for principal in (PUBLISH, NOTHING):
        refused(lambda principal=principal: access.may_call(principal, "any"))  # type: ignore[misc]
    access.may_call(LIMITED, "one")
    assert "limited to one" in refused(lambda: access.may_call(LIMITED, "two")).message


def test_calls_of_agents() -> None:
    for principal in (CALL, ADMIN, AGENT, LIMITED):
        access.may_call_agents(principal)
    for principal in (PUBLISH, NOTHING, INSIDE):
        refused(lambda principal=principal: access.may_call_agents(principal))  # type: ignore[misc]


def test_reach() -> None:
    assert access.reaches(LIMITED, "one")
    assert access.reaches(CALL, "two")
    assert not access.reaches(LIMITED, "two")
    access.require_reach(CALL, "two")
    access.require_reach(LIMITED, "one")
    refused(lambda: access.require_reach(LIMITED, "two"))
    two = replace(LIMITED, prefabs=frozenset({"one", "two"}))
    assert "limited to one, two;" in refused(lambda: access.require_reach(two, "three")).message


def test_publishing() -> None:
    for owner in (None, "ann"):
        for principal in (PUBLISH, ADMIN, LIMITED):
            access.may_publish(principal, owner, "one")
        refused(lambda owner=owner: access.may_publish(CALL, owner, "one"))  # type: ignore[misc]
        refused(lambda owner=owner: access.may_publish(LIMITED, owner, "two"))  # type: ignore[misc]
        refused(lambda owner=owner: access.may_publish(POWERFUL_INSIDE, owner, "one"))  # type: ignore[misc]
    access.may_publish(ADMIN, "bob", "one")
    refused(lambda: access.may_publish(PUBLISH, "bob", "one"))


def test_jobs() -> None:
    for principal in (CALL, ADMIN, AGENT):
        assert access.may_see_job(principal, "ann", "k2") is True
    assert access.may_see_job(ADMIN, "bob", None) is True
    for principal in (PUBLISH, NOTHING, INSIDE, POWERFUL_INSIDE):
        assert access.may_see_job(principal, "ann", None) is False
    assert access.may_see_job(CALL, "bob", None) is False
    assert access.may_see_job(LIMITED, "ann", "k1") is True
    for key_id in ("k2", None):
        assert access.may_see_job(LIMITED, "ann", key_id) is False
    assert access.only_key(LIMITED) == "k1"
    assert access.only_key(Principal(user="ann", key_id="k1")) is None


def test_ends_of_calls() -> None:
    assert access.may_end_call(INSIDE, "j1") is True
    for principal, caller_id in ((INSIDE, "j2"), (INSIDE, None), (CALL, "j1"), (CALL, None)):
        assert access.may_end_call(principal, caller_id) is False


def test_keys() -> None:
    for principal in (CALL, PUBLISH, ADMIN, LIMITED):
        access.require_no_agent(principal)
    for principal in (AGENT, INSIDE, POWERFUL_INSIDE):
        refused(lambda principal=principal: access.require_no_agent(principal))  # type: ignore[misc]
    assert access.may_revoke(CALL, "ann") is access.may_revoke(ADMIN, "bob") is access.may_revoke(ADMIN, None) is True
    assert access.may_revoke(CALL, "bob") is access.may_revoke(CALL, None) is False


def test_what_somebody_registered() -> None:
    assert access.may_change(CALL, "ann") is access.may_change(ADMIN, "bob") is True
    for principal, owner in ((CALL, "bob"), (INSIDE, "ann"), (POWERFUL_INSIDE, "bob")):
        assert access.may_change(principal, owner) is False


def test_reading_files() -> None:
    for in_tree in (False, True):
        for principal in (CALL, AGENT):
            access.may_read_file(principal, "ann", "other", in_tree)
        access.may_read_file(INSIDE, "ann", "helper", in_tree)
        refused(lambda in_tree=in_tree: access.may_read_file(ADMIN, "bob", None, in_tree))  # type: ignore[misc]
        refused(lambda in_tree=in_tree: access.may_read_file(INSIDE, "bob", "helper", in_tree))  # type: ignore[misc]
    for agent in ("other", None):
        access.may_read_file(INSIDE, "ann", agent, True)
        access.may_read_file(POWERFUL_INSIDE, "ann", agent, True)
        refused(lambda agent=agent: access.may_read_file(INSIDE, "ann", agent, False))  # type: ignore[misc]
        refused(lambda agent=agent: access.may_read_file(POWERFUL_INSIDE, "ann", agent, False))  # type: ignore[misc]


def test_changing_files() -> None:
    for agent in (None, "helper"):
        access.may_change_file(AGENT, "ann", agent)
    access.may_change_file(CALL, "ann", "other")
    refused(lambda: access.may_change_file(AGENT, "ann", "other"))
    refused(lambda: access.may_change_file(INSIDE, "ann", "helper"))
    for principal, agent in ((ADMIN, None), (AGENT, "helper"), (AGENT, None)):
        refused(lambda principal=principal, agent=agent: access.may_change_file(principal, "bob", agent))  # type: ignore[misc]


def test_uploads() -> None:
    assert access.may_continue_upload(INSIDE, "ann", "helper", "r1") is True
    for whose in (("bob", "helper", "r1"), ("ann", "other", "r1"), ("ann", None, "r1"), ("ann", "helper", None)):
        assert access.may_continue_upload(INSIDE, *whose) is False
    assert access.may_continue_upload(CALL, "ann", None, None) is True
