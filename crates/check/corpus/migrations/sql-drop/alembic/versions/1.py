from alembic import op
import sqlalchemy as sa

def upgrade():
    op.execute("ALTER TABLE t DROP COLUMN c")  # expect LZ-DB-021

def downgrade():
    op.drop_table("t")
