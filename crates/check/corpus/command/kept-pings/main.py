import uvicorn

uvicorn.run("app:app", ws_ping_interval=20.0, ws_ping_timeout=300)
