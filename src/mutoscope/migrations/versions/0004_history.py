"""Lists of a key's tasks are found by when those were made."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("tasks_by_key", "tasks")
    op.create_index("tasks_by_key", "tasks", ["key_id", "created_at", "seq", "status", "model", "is_favourite"])
