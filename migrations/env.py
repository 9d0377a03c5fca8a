"""Run by Alembic. The program passes its connection; a developer's `alembic -x url=... revision` opens one."""

from alembic import context
from sqlalchemy import Connection, create_engine

from stream_ad.adapters.tables import Base


def migrate(connection: Connection) -> None:
    # batch mode: SQLite changes a table by copying it
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


if (given := context.config.attributes.get("connection")) is not None:
    migrate(given)
else:
    with create_engine(context.get_x_argument(as_dictionary=True)["url"]).begin() as opened:
        migrate(opened)
