"""Heartbeats: what the scheduler's task leaves behind each minute

Revision: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "heartbeats",
        sa.Column("task_id", sa.String(64), primary_key=True),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False, index=True),
        sa.Column("scheduler", sa.String(80), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )


def downgrade() -> None:
    op.drop_table("heartbeats")
