"""Entries know the model that was asked for, and are found by when they were made."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("entries", sa.Column("model", sa.Text, nullable=False, server_default=""))
    op.execute(
        "UPDATE entries SET model = coalesce((SELECT tasks.model FROM tasks WHERE tasks.id = entries.task_id), '')"
    )
    op.drop_index("entries_by_account", "entries")
    op.drop_index("entries_by_key", "entries")
    op.create_index("entries_by_account", "entries", ["account_id", "created_at", "seq", "kind"])
    op.create_index("entries_by_key", "entries", ["key_id", "created_at", "seq", "kind"])
