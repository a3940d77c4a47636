Base.metadata.create_all(engine)
