"""Deliveries know their receiver; tasks are found by their end."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("receiver", sa.Text, nullable=False, server_default=""))
    op.create_index("tasks_by_end", "tasks", ["finished_at"])
