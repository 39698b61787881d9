"""Takes everything that a user has in the store: recorded or not, whole or in parts."""

from sqlalchemy import delete, select

from gateway_server.files import records
from gateway_server.files.keys import Area, after, area_prefix
from gateway_server.store.database import Database
from gateway_server.store.objects import Objects
from gateway_server.store.schema import files, job_files, pending_objects, uploads


async def erase(database: Database, objects: Objects, user: str) -> None:
    """Removes the objects of a user first and their records last, so that one that was cut is finished by the next."""
    rows = await database.read(lambda c: c.execute(select(uploads).where(uploads.c.user == user)).all())
    for row in rows:
        if not row.completed:
            await objects.discard(records.assembly_of(row))
    prefixes = [area_prefix(area, user) for area in Area]
    for prefix in prefixes:
        begun = select(pending_objects.c.key).where(
            pending_objects.c.key >= prefix, pending_objects.c.key < after(prefix)
        )
        cut = await database.read(lambda c, begun=begun: list(c.execute(begun).scalars()))  # type: ignore[misc]
        if cut:
            await objects.wipe(cut)  # parts of these are no objects yet
        await objects.delete_below(prefix)
    gone = [delete(uploads).where(uploads.c.user == user), delete(files).where(files.c.user == user)]
    for table in (job_files, pending_objects):
        gone += [delete(table).where(table.c.key >= prefix, table.c.key < after(prefix)) for prefix in prefixes]
    for statement in gone:
        await database.write(lambda c, statement=statement: c.execute(statement))  # type: ignore[misc]
