from alembic import op
import sqlalchemy as sa

def upgrade():
    op.create_table("t", sa.Column("id", sa.Integer()))

def downgrade():
    op.drop_table("t")
