"""Alembic runs this: with the connection that it was given, or for `alembic revision` with one on an empty database."""

from alembic import context
from sqlalchemy import create_engine

from gateway_server.store.schema import metadata

given = context.config.attributes.get("connection")
connection = given if given is not None else create_engine("sqlite://").connect()
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
