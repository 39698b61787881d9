"""Users, the audit log, the history of usage, manners of the catalogue, limits of agents, durable jobs, quotas."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Everybody who has left a trace; since when is told by the first key, or not at all.
_REGISTER_USERS = """
INSERT INTO users (id, created_at)
SELECT names.id, COALESCE((SELECT MIN(created_at) FROM api_keys WHERE api_keys."user" = names.id), 0)
FROM (
    SELECT "user" AS id FROM api_keys
    UNION SELECT "user" FROM secrets
    UNION SELECT owner FROM prefabs
    UNION SELECT owner FROM agents
    UNION SELECT "user" FROM jobs
    UNION SELECT "user" FROM quotas
    UNION SELECT "user" FROM files
    UNION SELECT "user" FROM uploads
) AS names
"""

# What 1.0.0 charged: everything that began, unless it failed through a fault of the gateway.
_MARK_CHARGED = """
UPDATE jobs SET charged = true WHERE prefab_id IS NOT NULL AND started_at IS NOT NULL AND NOT (
    status = 'failed' AND (
        error LIKE '%"error_code":"SERVICE_UNAVAILABLE"%'
        OR error LIKE '%"error_code":"OVERLOADED"%'
        OR error LIKE '%"error_code":"INTERNAL_SERVER_ERROR"%'
    )
)
"""
_COUNT_BYTES = """
INSERT INTO counters ("user", key_id, metric, period, start, amount)
SELECT stored."user", '', 'bytes', '', 0, SUM(stored.size)
FROM (
    SELECT "user", size FROM files
    UNION ALL SELECT "user", size FROM uploads WHERE NOT completed
) AS stored
GROUP BY stored."user"
"""


def upgrade() -> None:
    """Adds tables and columns, and registers the users that there are."""
    op.create_table(
        "users",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("disabled_at", sa.Double()),
        sa.Column("deleted_at", sa.Double()),
        sa.Column("erased_at", sa.Double()),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(40)),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_table(
        "usage_history",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("agent", sa.String(64), nullable=False),
        sa.Column("prefab_id", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("day", "user", "agent", "prefab_id", "version"),
    )
    op.add_column("api_keys", sa.Column("prefabs", sa.Text()))
    op.add_column("versions", sa.Column("deprecated", sa.Text()))
    op.add_column("versions", sa.Column("yanked", sa.Text()))
    op.add_column("agents", sa.Column("timeout", sa.Double()))
    op.add_column("agents", sa.Column("health_path", sa.Text()))
    _add_durable_jobs()
    op.execute(_REGISTER_USERS)
    _widen_quotas()


def _add_durable_jobs() -> None:
    op.add_column("jobs", sa.Column("position", sa.Integer()))
    op.add_column("jobs", sa.Column("interruptions", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("request_key", sa.LargeBinary(16)))
    op.add_column("jobs", sa.Column("request_digest", sa.LargeBinary(16)))
    op.add_column("jobs", sa.Column("is_fault", sa.Boolean()))
    op.create_index("ix_jobs_request_key", "jobs", ["request_key"], unique=True)
    op.create_table(
        "job_queue",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("available_at", sa.Double(), nullable=False),
        sa.Column("deadline", sa.Double()),
        sa.Column("lease_owner", sa.String(40)),
        sa.Column("lease_until", sa.Double()),
        sa.Column("canceled", sa.Boolean(), nullable=False),
        sa.Column("order", sa.LargeBinary(), nullable=False),
    )
    op.create_index("job_queue_next", "job_queue", ["user", "lease_owner", sa.text("priority DESC"), "job_id"])
    op.create_index("job_queue_moments", "job_queue", ["lease_owner", "available_at"])
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("last_id", sa.Integer(), nullable=False),
        sa.Column("first_id", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("ends", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "last_id"),
    )
    op.create_index("ix_job_events_created_at", "job_events", ["created_at"])


def _widen_quotas() -> None:
    """From calls a day to calls, run time and bytes, of users and keys."""
    op.rename_table("quotas", "quotas_of_1_0")
    op.create_table(
        "quotas",
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("metric", sa.String(12), nullable=False),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user", "key_id", "metric", "period"),
    )
    op.execute(
        'INSERT INTO quotas ("user", key_id, metric, period, "limit") '
        "SELECT \"user\", '', 'calls', period, \"limit\" FROM quotas_of_1_0"
    )
    op.drop_table("quotas_of_1_0")
    counters = op.create_table(
        "counters",
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("metric", sa.String(12), nullable=False),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user", "key_id", "metric", "period", "start"),
    )
    op.create_index("counters_by_age", "counters", ["start"])
    kept = {"key_id": "", "metric": "calls", "period": "day"}
    days = op.get_bind().execute(sa.text('SELECT "user", day, calls FROM usage')).all()
    op.bulk_insert(
        counters,
        [kept | {"user": user, "start": _start_of(day), "amount": calls} for user, day, calls in days],
    )
    op.drop_table("usage")
    op.create_table(
        "reservations",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_reservations_user", "reservations", ["user"])
    op.create_table(
        "call_trees",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
    )
    op.create_index("ix_call_trees_touched_at", "call_trees", ["touched_at"])
    op.add_column("jobs", sa.Column("charged", sa.Boolean(), nullable=False, server_default=sa.false()))
    running = sa.text("ended_at IS NULL")
    op.create_index("jobs_open", "jobs", ["user"], sqlite_where=running, postgresql_where=running)
    for table in ("files", "uploads"):
        op.add_column(table, sa.Column("key_id", sa.String(40)))
        op.add_column(table, sa.Column("request_key", sa.LargeBinary(16)))
        op.add_column(table, sa.Column("request_digest", sa.LargeBinary(16)))
        op.create_index(f"ix_{table}_request_key", table, ["request_key"], unique=True)
    op.execute(_MARK_CHARGED)
    op.execute(_COUNT_BYTES)


def _start_of(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
