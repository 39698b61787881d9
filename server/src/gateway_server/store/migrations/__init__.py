"""The history of the schema. `HEAD` names its newest revision; a test holds it against the files beside this one."""

from pathlib import Path

from sqlalchemy import Connection

HEAD = "0003"


def upgrade(connection: Connection) -> None:
    """Brings an empty or older database to `HEAD`, within the connection's transaction."""
    from alembic import command  # late: a start with an up-to-date schema does not pay for it
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
