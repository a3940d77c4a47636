"""Secrets read from Key Vault by the app itself, as whoever runs it.

App Service hands secrets over as settings (Key Vault references), read when an instance starts. What
has to be seen to change while the app runs is read here. `DefaultAzureCredential` is the site's managed
identity on App Service and the developer's `az login` on a laptop; the code is the same.
https://learn.microsoft.com/azure/developer/python/sdk/authentication/overview
"""

import asyncio
from functools import lru_cache

from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient

from modules.backend.core.config import settings
from modules.backend.core.logging import log

SIGNING_SECRET = "notes-jwt-secret"


@lru_cache
def client() -> SecretClient:
    return SecretClient(settings().key_vault_url, DefaultAzureCredential(), retry_total=3)


async def check_signing_secret() -> None:
    """Says in the log whether sessions are signed with the newest version of the secret.

    An older one goes on working until a rotation's confirmation period is over; an instance that still
    has it then must be restarted.
    """
    if not settings().key_vault_url:
        return
    try:
        newest = await asyncio.to_thread(client().get_secret, SIGNING_SECRET)
    except AzureError as error:
        # The app has what it needs: it starts while Key Vault is away.
        log(__name__).warning("Key Vault cannot be asked", error=str(error).splitlines()[0])
        return
    current = newest.value == settings().jwt_secret.get_secret_value()
    say = log(__name__).info if current else log(__name__).warning
    say("read from Key Vault", secret=SIGNING_SECRET, version=newest.properties.version, current=current)
