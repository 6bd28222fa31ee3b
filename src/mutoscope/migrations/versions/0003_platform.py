"""Accounts and their ledger, limits, the fair queue, idempotent submits, webhook deliveries, duties."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("is_unlimited", sa.Boolean, nullable=False),
        sa.Column("is_operator", sa.Boolean, nullable=False),
        sa.Column("floor_micros", sa.BigInteger, nullable=False),
        sa.Column("available_micros", sa.BigInteger, nullable=False),
        sa.Column("held_micros", sa.BigInteger, nullable=False),
        sa.Column("turn", sa.Float, nullable=False),
        sa.Column("served", sa.Float, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_index("accounts_by_served", "accounts", ["served"])
    # Whoever had a key before there were accounts goes on as before: the operator, whose balance refuses nothing.
    op.execute(
        sa.text(
            "INSERT INTO accounts (id, name, is_unlimited, is_operator, floor_micros, available_micros, held_micros, "
            "turn, served, created_at) VALUES ('default', 'default', :yes, :yes, 0, 0, 0, 0, 0, "
            "coalesce((SELECT min(created_at) FROM keys), 0))"
        ).bindparams(sa.bindparam("yes", True, sa.Boolean))
    )

    with op.batch_alter_table("keys") as keys:
        keys.add_column(sa.Column("account_id", sa.String(16), nullable=False, server_default="default"))
        keys.add_column(sa.Column("scopes", sa.JSON, nullable=False, server_default='["generate", "read"]'))
        keys.add_column(sa.Column("tier", sa.String(16), nullable=False, server_default="ultra"))
        keys.add_column(sa.Column("videos_per_minute", sa.Integer, nullable=False, server_default="5000"))
        keys.add_column(sa.Column("concurrency", sa.Integer, nullable=False, server_default="10000"))
        keys.add_column(sa.Column("daily_cap_micros", sa.BigInteger))
        keys.add_column(sa.Column("rate_until", sa.Float, nullable=False, server_default="0"))
        keys.add_column(sa.Column("webhook_generation", sa.Integer, nullable=False, server_default="0"))
        keys.add_column(sa.Column("expires_at", sa.Float))
        keys.create_foreign_key("keys_account", "accounts", ["account_id"], ["id"])
    op.create_index("keys_by_account", "keys", ["account_id"])

    with op.batch_alter_table("tasks", table_kwargs={"sqlite_autoincrement": True}) as tasks:
        tasks.add_column(sa.Column("account_id", sa.String(16), nullable=False, server_default="default"))
        tasks.add_column(sa.Column("preview", sa.Text))
        tasks.add_column(sa.Column("price_micros", sa.BigInteger, nullable=False, server_default="0"))
        tasks.add_column(sa.Column("charged_micros", sa.BigInteger))
        tasks.add_column(sa.Column("cost", sa.Float, nullable=False, server_default="0"))
        tasks.add_column(sa.Column("turn", sa.Float, nullable=False, server_default="0"))
        tasks.add_column(sa.Column("priority", sa.Integer, nullable=False, server_default="0"))
        tasks.add_column(sa.Column("deadline_at", sa.Float))
        tasks.add_column(sa.Column("webhook_url", sa.Text, nullable=False, server_default=""))
        tasks.add_column(sa.Column("base_url", sa.Text, nullable=False, server_default=""))
        tasks.add_column(sa.Column("is_favourite", sa.Boolean, nullable=False, server_default=sa.false()))
        tasks.create_foreign_key("tasks_account", "accounts", ["account_id"], ["id"])
    op.create_index("tasks_by_turn", "tasks", ["status", "engine", "turn"])
    op.create_index("tasks_by_priority", "tasks", ["status", "account_id", "priority", "seq"])
    op.create_index("tasks_by_account", "tasks", ["account_id", "seq"])
    op.create_index("tasks_by_deadline", "tasks", ["status", "deadline_at"])

    op.create_table(
        "submissions",
        sa.Column("key_id", sa.String(16), sa.ForeignKey("keys.id"), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("body_digest", sa.String(64), nullable=False),
        sa.Column("task_id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_index("submissions_by_age", "submissions", ["created_at"])

    op.create_table(
        "entries",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("account_id", sa.String(16), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("debit", sa.String(10), nullable=False),
        sa.Column("credit", sa.String(10), nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("task_id", sa.String(32)),
        sa.Column("key_id", sa.String(16)),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("entries_by_task", "entries", ["task_id", "kind"], unique=True)
    op.create_index("entries_by_account", "entries", ["account_id", "seq"])
    op.create_index("entries_by_key", "entries", ["key_id", "created_at"])

    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("task_id", sa.String(32), nullable=False, unique=True),
        sa.Column("key_id", sa.String(16), sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
    )
    op.create_index("deliveries_by_due", "deliveries", ["status", "due_at"])
    op.create_index("deliveries_by_key", "deliveries", ["key_id", "created_at"])
    op.create_table(
        "delivery_attempts",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("delivery_id", sa.String(32), sa.ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("status_code", sa.Integer),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("milliseconds", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("delivery_attempts_by_delivery", "delivery_attempts", ["delivery_id", "seq"])
    op.create_table(
        "duties",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
