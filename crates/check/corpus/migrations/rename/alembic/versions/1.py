from alembic import op
import sqlalchemy as sa

def upgrade():
    op.alter_column("t", "a", new_column_name="b")  # expect LZ-DB-021

def downgrade():
    op.drop_table("t")
