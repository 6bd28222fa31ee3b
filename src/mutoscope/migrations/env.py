"""How Alembic runs our migrations: on the connection it is handed, in that connection's transaction."""

from alembic import context

from mutoscope.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
