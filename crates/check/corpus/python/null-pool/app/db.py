engine = create_async_engine(url, poolclass=NullPool)
