from alembic import op
import sqlalchemy as sa

def upgrade():
    op.create_index("i", "t", ["c"])

def downgrade():
    op.drop_table("t")
