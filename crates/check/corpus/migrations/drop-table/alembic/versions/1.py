from alembic import op
import sqlalchemy as sa

def upgrade():
    op.drop_table("t")  # expect LZ-DB-021

def downgrade():
    op.drop_table("t")
