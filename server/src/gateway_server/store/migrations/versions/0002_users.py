"""Users, the audit log, the history of usage, manners of the catalogue, limits of agents."""

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
    op.execute(_REGISTER_USERS)
