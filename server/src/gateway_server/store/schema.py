"""Every table. Moments are POSIX seconds, sizes are bytes, JSON is text."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    desc,
    false,
)
from sqlalchemy.dialects.postgresql import TEXT

metadata = MetaData()
KEY = Text().with_variant(TEXT(collation="C"), "postgresql")
"""Keys of objects, in the order of their bytes, which makes a prefix a range."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256; the key itself is never stored
    Column("user", String(64), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("prefabs", Text),  # the ids that it is limited to, with blanks between; null for all
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("disabled_at", Double),
    Column("deleted_at", Double),  # when the last user of this name was deleted; the name may be in use again
    Column("erased_at", Double),  # when all that was that user's had been removed
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("actor", String(64), nullable=False),
    Column("key_id", String(40)),  # the API key that the actor came with
    Column("action", String(40), nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("retired_at", Double),
)

secrets = Table(
    "secrets",
    metadata,
    Column("user", String(64), nullable=False),
    Column("prefab_id", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("updated_at", Double, nullable=False),
    PrimaryKeyConstraint("user", "prefab_id", "name"),
)

prefabs = Table(
    "prefabs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("prefab_id", String(64), ForeignKey("prefabs.id"), nullable=False),
    Column("version", String(64), nullable=False),
    Column("status", String(16), nullable=False),  # building, deployed, failed
    Column("error", Text),
    Column("warnings", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("environment", String(80)),
    Column("settings", Text, nullable=False),
    Column("revision", Integer, nullable=False),  # grows when the settings change
    Column("published_by", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("deprecated", Text),  # what to use instead, in the publisher's words
    Column("yanked", Text),  # why nobody should begin to use it
    PrimaryKeyConstraint("prefab_id", "version"),
    Index("versions_by_age", "created_at"),
)

agents = Table(
    "agents",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("url", Text, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("timeout", Double),  # seconds for a whole exchange
    Column("health_path", Text),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("parent_id", String(36), index=True),  # the batch that a call came in
    Column("position", Integer),  # the call's place in its batch
    Column("root_id", String(36), nullable=False),  # the job at the top of the call tree
    Column("depth", Integer, nullable=False),
    Column("user", String(64), nullable=False),
    Column("agent", String(64)),
    Column("key_id", String(40)),
    Column("prefab_id", String(64)),  # null for a batch
    Column("version", String(64)),
    Column("function_name", String(256)),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("interruptions", Integer, nullable=False, server_default="0"),  # attempts that a gateway's end cut
    Column("request_key", LargeBinary(16), unique=True, index=True),  # of whoever may send the same request again
    Column("request_digest", LargeBinary(16)),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("error", Text),
    Column("is_fault", Boolean),  # whether the gateway failed it, and not its function
    Column("charged", Boolean, nullable=False, server_default=false()),  # counted among the calls of its created_at
    Index("jobs_of_user", "user", "created_at"),
    Index("jobs_by_age", "created_at"),
)
_open = jobs.c.ended_at.is_(None)
Index("jobs_open", jobs.c.user, sqlite_where=_open, postgresql_where=_open)

job_queue = Table(
    "job_queue",  # submitted jobs that have not ended
    metadata,
    Column("job_id", String(36), primary_key=True),
    Column("user", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("available_at", Double, nullable=False),  # when the next attempt may begin
    Column("deadline", Double),  # when the job as a whole is over
    Column("lease_owner", String(40)),  # the gateway that is at it
    Column("lease_until", Double),
    Column("canceled", Boolean, nullable=False),
    Column("order", LargeBinary, nullable=False),  # what to run, as whom and how often
    Index("job_queue_next", "user", "lease_owner", desc("priority"), "job_id"),
    Index("job_queue_moments", "lease_owner", "available_at"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", String(36), nullable=False),
    Column("last_id", Integer, nullable=False),  # events have numbers from 1 on; a row holds several
    Column("first_id", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),  # JSON texts, one a line
    Column("ends", Boolean, nullable=False),  # whether the last one ends the job
    Column("created_at", Double, nullable=False, index=True),
    PrimaryKeyConstraint("job_id", "last_id"),
)

job_results = Table(
    "job_results",
    metadata,
    Column("job_id", String(36), primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("ended_at", Double, nullable=False, index=True),
)

job_logs = Table(
    "job_logs",
    metadata,
    Column("job_id", String(36), primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("ended_at", Double, nullable=False, index=True),
)

journal = Table(
    "journal",  # how much of a gateway's journal of calls is in the tables above
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # of the journal
    Column("epoch", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
)

quotas = Table(
    "quotas",
    metadata,
    Column("user", String(64), nullable=False),
    Column("key_id", String(40), nullable=False),  # an API key of the user; empty for all that the user does
    Column("metric", String(12), nullable=False),  # calls, concurrent, seconds, bytes
    Column("period", String(8), nullable=False),  # minute, day, month; empty where it is about what there is now
    Column("limit", BigInteger, nullable=False),
    PrimaryKeyConstraint("user", "key_id", "metric", "period"),
)

counters = Table(
    "counters",
    metadata,
    Column("user", String(64), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("metric", String(12), nullable=False),
    Column("period", String(8), nullable=False),
    Column("start", BigInteger, nullable=False),  # of the period, UTC; 0 where there is none
    Column("amount", BigInteger, nullable=False),  # calls, milliseconds of run time, bytes
    PrimaryKeyConstraint("user", "key_id", "metric", "period", "start"),
    Index("counters_by_age", "start"),
)

reservations = Table(
    "reservations",  # run time that calls may still use
    metadata,
    Column("job_id", String(36), primary_key=True),
    Column("user", String(64), nullable=False, index=True),
    Column("key_id", String(40), nullable=False),
    Column("at", Double, nullable=False),  # in the periods of this moment it counts
    Column("amount", BigInteger, nullable=False),  # milliseconds
)

call_trees = Table(
    "call_trees",  # below one call or one request to an agent
    metadata,
    Column("id", String(36), primary_key=True),
    Column("calls", Integer, nullable=False),
    Column("touched_at", Double, nullable=False, index=True),
)

usage_history = Table(
    "usage_history",  # whole days of jobs, summed before their records go
    metadata,
    Column("day", String(10), nullable=False),
    Column("user", String(64), nullable=False),
    Column("agent", String(64), nullable=False),  # empty for none
    Column("prefab_id", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    PrimaryKeyConstraint("day", "user", "agent", "prefab_id", "version"),
)

files = Table(
    "files",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("area", String(20), nullable=False),
    Column("user", String(64), nullable=False),
    Column("agent", String(64)),
    Column("session", String(64)),
    Column("job_id", String(36)),  # the job that wrote it
    Column("root_id", String(36)),  # the call tree that it was written in
    Column("key_id", String(40)),  # the API key that it was stored with
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64)),
    Column("content_type", Text),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, index=True),  # from then on nobody sees it; 0 while it is being deleted
    Column("request_key", LargeBinary(16), unique=True, index=True),  # of whoever may send the same file again
    Column("request_digest", LargeBinary(16)),
    Index("files_of_user", "user", "key"),
)

job_files = Table(
    "job_files",
    metadata,
    Column("root_id", String(36), nullable=False),  # a call tree
    Column("key", KEY, nullable=False),  # a file that was handed to it
    Column("created_at", Double, nullable=False, index=True),
    PrimaryKeyConstraint("root_id", "key"),
)

pending_objects = Table(
    "pending_objects",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("key", KEY, nullable=False, index=True),  # an object that is about to be stored, and is not recorded yet
    Column("created_at", Double, nullable=False, index=True),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("key", KEY, nullable=False, index=True),
    Column("user", String(64), nullable=False),
    Column("agent", String(64)),
    Column("root_id", String(36)),
    Column("key_id", String(40)),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("part_size", BigInteger, nullable=False),
    Column("content_type", Text),
    Column("handle", Text),  # what the store calls it
    Column("ttl", Double),
    Column("completed", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    Column("request_key", LargeBinary(16), unique=True, index=True),
    Column("request_digest", LargeBinary(16)),
)
