from alembic import op
import sqlalchemy as sa

def upgrade():
    op.drop_column("t", "c")  # expect LZ-DB-021

def downgrade():
    op.drop_table("t")
