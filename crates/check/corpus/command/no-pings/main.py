import uvicorn

uvicorn.run(
    "app:app",
    ws_ping_interval=None,  # expect LZ-CMD-009
    ws_ping_timeout=60,
)
