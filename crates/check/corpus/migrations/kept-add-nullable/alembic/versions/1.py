from alembic import op
import sqlalchemy as sa

def upgrade():
    op.add_column("t", sa.Column("c", sa.Text(), nullable=True))

def downgrade():
    op.drop_table("t")
