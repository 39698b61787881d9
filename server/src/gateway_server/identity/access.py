"""The one place that decides who may do what. Every refusal of an identified caller comes from here."""

import re

from gateway_server.errors import Invalid, MissingAgentContext, PermissionDenied, Problem
from gateway_server.models import Principal, Scope

_PREFAB = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")


def check_name(value: str, what: str, pointer: str = "") -> str:
    """The id of a user, an agent or a session, if it is one.

    Raises:
        Invalid: it has a form that no id has.
    """
    if not isinstance(value, str) or not _NAME.match(value):
        rule = "a letter or digit, then up to 63 letters, digits or any of . _ @ -"
        message = f"{what} {str(value)[:80]!r} is not valid: it must be {rule}."
        raise Invalid(message, [Problem(pointer or f"/{what.lower()}", message)])
    return value


def check_prefab_id(value: str, pointer: str) -> str:
    """The id of a prefab, if it is one; whether there is such a prefab is another matter.

    Raises:
        Invalid: it has a form that no id has.
    """
    if not (3 <= len(value) <= 64 and _PREFAB.match(value)):
        rule = "3 to 64 characters, lower-case words joined by single hyphens"
        message = f"{value[:80]!r} is no prefab id: {rule}."
        raise Invalid(message, [Problem(pointer, message)])
    return value


def is_admin(principal: Principal) -> bool:
    """Whether the caller may do everything that any scope allows."""
    return Scope.ADMIN in principal.scopes


def require_scope(principal: Principal, scope: Scope) -> None:
    """For what not every key may do, whoever holds it.

    Raises:
        PermissionDenied: the caller's key does not have the scope.
    """
    if scope not in principal.scopes and not is_admin(principal):
        raise PermissionDenied(
            f"This needs an API key with the scope {scope.value!r}. An admin makes one with: "
            f"gateway key create --user {principal.user} --scope {scope.value}"
        )


def require_operator(principal: Principal, scope: Scope) -> None:
    """For what operators do.

    Raises:
        PermissionDenied: the caller's key does not have the scope, or the caller is code inside a call.
    """
    require_person(principal)
    require_scope(principal, scope)


def require_person(principal: Principal) -> None:
    """For what belongs to a user rather than to a call.

    Raises:
        PermissionDenied: the caller is code inside a call.
    """
    if principal.job_id is not None:
        raise PermissionDenied("Code that runs inside a call may run prefabs and use files, and nothing else.")


def acting_user(principal: Principal, asked: str | None) -> str:
    """Whose things are meant: the caller's own, or for an admin anybody's.

    Raises:
        PermissionDenied: somebody else's, by one who is no admin.
    """
    require_person(principal)
    if asked is None or asked == principal.user:
        return principal.user
    if not is_admin(principal):
        raise PermissionDenied("Only an admin may do this for another user.")
    return check_name(asked, "User")


def user_or_all(principal: Principal, asked: str | None) -> str | None:
    """The same where an admin who names nobody means everybody, which is None.

    Raises:
        PermissionDenied: somebody else's, by one who is no admin.
    """
    user = acting_user(principal, asked)
    return None if asked is None and is_admin(principal) else user


def acting_caller(principal: Principal, asked: str | None) -> str:
    """Whose secrets or jobs are meant: those of users who call, so that a key for publishing alone does not reach them.

    Raises:
        PermissionDenied: somebody else's, by one who is no admin; or the key is not for calls.
    """
    require_scope(principal, Scope.CALL)
    return acting_user(principal, asked)


def require_agent(principal: Principal) -> str:
    """The agent whose area is meant.

    Raises:
        MissingAgentContext: the caller is no agent.
    """
    if principal.agent is None:
        raise MissingAgentContext(
            "This works only inside an agent that the gateway has called: the token must name an agent. "
            "Outside of one, use upload_input_file for inputs."
        )
    return principal.agent


def may_call(principal: Principal, prefab_id: str) -> None:
    """Calls need the scope, which tokens always have, and a key that reaches the prefab.

    Raises:
        PermissionDenied: the key is not for calls, or not for this prefab.
    """
    require_scope(principal, Scope.CALL)
    require_reach(principal, prefab_id)


def may_call_agents(principal: Principal) -> None:
    """Whoever calls may call agents, too; prefabs call prefabs.

    Raises:
        PermissionDenied: the key is not for calls, or the caller is code inside a call.
    """
    require_operator(principal, Scope.CALL)


def reaches(principal: Principal, prefab_id: str) -> bool:
    """Whether the key behind this identity is for this prefab; what that one calls in turn is for it to decide."""
    return principal.prefabs is None or prefab_id in principal.prefabs


def require_reach(principal: Principal, prefab_id: str) -> None:
    """For what concerns one prefab.

    Raises:
        PermissionDenied: the key behind this identity is limited to others.
    """
    if not reaches(principal, prefab_id):
        allowed = ", ".join(sorted(principal.prefabs or ()))
        raise PermissionDenied(f"This API key is limited to {allowed}; it does not reach {prefab_id[:80]}.")


def may_publish(principal: Principal, owner: str | None, prefab_id: str) -> None:
    """Versions of a prefab come from its owner, who is its first publisher, or from an admin.

    Raises:
        PermissionDenied: the caller is neither.
    """
    require_operator(principal, Scope.PUBLISH)
    require_reach(principal, prefab_id)
    if owner not in (None, principal.user) and not is_admin(principal):
        raise PermissionDenied("This prefab id belongs to another publisher.")


def may_see_job(principal: Principal, user: str, key_id: str | None) -> bool:
    """Jobs are their user's own, and admins'; `key_id` is that of the key that began it. A key that is limited to some
    prefabs sees what it began, a key for publishing alone and code inside a call see none."""
    mine = user == principal.user and Scope.CALL in principal.scopes and only_key(principal) in (None, key_id)
    return principal.job_id is None and (mine or is_admin(principal))


def only_key(principal: Principal) -> str | None:
    """The key whose jobs are meant, where that is one that is limited to some prefabs; None for all keys."""
    return None if principal.prefabs is None else principal.key_id


def may_end_call(principal: Principal, caller_id: str | None) -> bool:
    """Code inside a call may end the calls that this call made: `caller_id` is the job that made one."""
    return principal.job_id is not None and principal.job_id == caller_id


def require_no_agent(principal: Principal) -> None:
    """For what people do with their own hands: keys. An agent acts for its user, but not with the user's keys.

    Raises:
        PermissionDenied: the caller is an agent, or code inside a call.
    """
    require_person(principal)
    if principal.agent is not None:
        raise PermissionDenied("Agents may not see or change the API keys of their users.")


def may_revoke(principal: Principal, owner: str | None) -> bool:
    """Keys are revoked by their users, and by admins; `owner` is None for a key that is not there."""
    return owner == principal.user or is_admin(principal)


def may_change(principal: Principal, owner: str) -> bool:
    """Whether the caller may change what `owner` registered."""
    return principal.job_id is None and (principal.user == owner or is_admin(principal))


def may_read_file(principal: Principal, user: str, agent: str | None, in_tree: bool) -> None:
    """A file is read by its user, whichever agent acts. Code inside a call reads what was handed to its call tree or
    written by it (`in_tree`), and the files of the agent that it acts for.

    Raises:
        PermissionDenied: another user's, or out of the call's reach.
    """
    if user != principal.user:
        raise PermissionDenied("This file belongs to another user.")
    own_agent = principal.agent is not None and agent == principal.agent
    if principal.job_id is not None and not in_tree and not own_agent:
        raise PermissionDenied("Code that runs inside a call may read the files that the call was given or wrote.")


def may_continue_upload(principal: Principal, user: str, agent: str | None, root_id: str | None) -> bool:
    """An upload belongs to who began it: a user, or an agent of one, or the code of a call tree."""
    return (principal.user, principal.agent, principal.root_job_id) == (user, agent, root_id)


def may_change_file(principal: Principal, user: str, agent: str | None) -> None:
    """A file is deleted by its user; an agent deletes none of another agent's.

    Raises:
        PermissionDenied: somebody else's, or the caller is code inside a call.
    """
    require_person(principal)
    if user != principal.user:
        raise PermissionDenied("This file belongs to another user.")
    if principal.agent is not None and agent not in (None, principal.agent):
        raise PermissionDenied("This file belongs to another agent.")
