"""Run by Alembic; the connection is handed over by `shared.jobs.migrations.migrate`."""

from alembic import context

from shared.jobs.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
