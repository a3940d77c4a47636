"""Settings, read once from the environment (App Service application settings)."""

from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _resolved(value: SecretStr) -> SecretStr:
    # App Service passes a Key Vault reference that it could not resolve as its literal text. Stop
    # here: as a password it would fail later and further away, as a signing key it would work.
    if value.get_secret_value().startswith("@Microsoft.KeyVault("):
        raise ValueError("the Key Vault reference was not resolved; see the setting's status on the site")
    return value


def _vault_of(site: str) -> str:
    return f"https://{site}-kv.vault.azure.net" if site else ""


Secret = Annotated[SecretStr, AfterValidator(_resolved)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", extra="ignore", hide_input_in_errors=True)

    app_env: str = "development"
    log_level: str = "info"

    database_url: Secret  # pooled: PgBouncer, port 6432
    redis_url: Secret
    jwt_secret: Annotated[Secret, Field(min_length=16)]
    api_key_salt: Annotated[Secret, Field(min_length=16)]

    # Set by App Service.
    website_site_name: str = ""
    website_slot_name: str = "local"
    website_instance_id: str = "local"
    identity_endpoint: str | None = None
    identity_header: SecretStr | None = None

    # The vault that the app itself reads from: by the standard's names, {app}-kv beside the site {app}.
    key_vault_url: str = Field(default_factory=lambda data: _vault_of(data["website_site_name"]))

    notes_per_minute: int = 600  # POST /api/notes, for each client


@lru_cache
def settings() -> Settings:
    return Settings()
