from alembic import command

def startup():
    command.upgrade(cfg, "head")  # expect LZ-DB-020
