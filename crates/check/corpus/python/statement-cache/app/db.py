engine = create_async_engine(url, pool_pre_ping=True, pool_recycle=900)  # expect LZ-DB-017
