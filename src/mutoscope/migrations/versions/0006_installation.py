"""An installation has an id, by which it knows its own folder of files."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    installation = op.create_table("installation", sa.Column("id", sa.String(32), primary_key=True))
    op.bulk_insert(installation, [{"id": uuid.uuid4().hex}])
