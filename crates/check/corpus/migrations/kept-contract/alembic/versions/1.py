from alembic import op
import sqlalchemy as sa

def upgrade():
    op.drop_column("t", "c")  # lazuli: contract since release 7

def downgrade():
    op.drop_table("t")
