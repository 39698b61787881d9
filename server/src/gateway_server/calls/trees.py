"""Call trees: everything that follows from one call, or from one request to an agent, has a size and a depth.

So a function or an agent that calls itself ends. The count is kept in the database: it holds after a restart, and for
all gateways together. What is at the top of a tree is not counted.
"""

from sqlalchemy import Connection, delete, select

from gateway_server.errors import QuotaExceeded
from gateway_server.models import Principal
from gateway_server.store.database import inserting
from gateway_server.store.schema import call_trees

KEPT = 2 * 86400.0
"""Seconds after its last call for which a tree is known; no token lives as long."""


def check_depth(depth: int, limit: int) -> None:
    """Looks at how many calls stand above one.

    Raises:
        QuotaExceeded: more than there may be.
    """
    if depth > limit:
        message = f"Functions and agents call each other more than {limit} levels deep: does one of them call itself?"
        raise QuotaExceeded(message, limit=limit, used=depth - 1, quota_type="call_depth", subject="tree")


def check(connection: Connection, principal: Principal, limit: int) -> None:
    """Looks whether the caller's tree may grow by a call.

    Raises:
        QuotaExceeded: it has as many as it may have.
    """
    tree = _tree(principal)
    if tree is not None and (calls := _calls(connection, tree)) >= limit:
        raise _full(calls, limit)


def grow(connection: Connection, principal: Principal, limit: int, moment: float) -> None:
    """Counts a call in the caller's tree; `moment` in POSIX seconds.

    Raises:
        QuotaExceeded: it has as many as it may have; nothing is counted.
    """
    tree = _tree(principal)
    if tree is None:
        return
    insert = inserting(connection)(call_trees)
    total = call_trees.c.calls + 1
    change = insert.on_conflict_do_update(
        index_elements=["id"], set_={"calls": total, "touched_at": moment}, where=total <= limit
    )
    row = {"id": tree, "calls": 1, "touched_at": moment}
    if limit < 1 or not connection.execute(change, row).rowcount:
        raise _full(_calls(connection, tree), limit)


def sweep(connection: Connection, moment: float) -> None:
    """Forgets trees in which nothing can happen any more."""
    connection.execute(delete(call_trees).where(call_trees.c.touched_at < moment - KEPT))


def _tree(principal: Principal) -> str | None:
    return principal.tree_id or principal.root_job_id


def _calls(connection: Connection, tree: str) -> int:
    return connection.execute(select(call_trees.c.calls).where(call_trees.c.id == tree)).scalar() or 0


def _full(calls: int, limit: int) -> QuotaExceeded:
    message = f"One call has led to {limit} others, as many as it may: does a function or agent call itself?"
    return QuotaExceeded(message, limit=limit, used=calls, quota_type="calls_per_tree", subject="tree")
