"""Settings of the service, read from the environment (prefix CONCORD_). Imports pydantic only.

There is no bypass flag, no default secret and no value that means "unlimited".
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsRefused(Exception):
    """A setting is wrong; the message names it and what it must be, never its value."""


class Settings(BaseSettings):
    """Frozen; every field is described in docs/configuration.md."""

    model_config = SettingsConfigDict(env_prefix="CONCORD_", frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8000, ge=0, le=65_535, description="Port to listen on; 0 picks a free one."
    )
    data_dir: Path = Field(
        default=Path("var/concord"),
        description="Folder of the embedded store and of the key files.",
    )
    models_dir: Path = Field(
        default=Path("models"), description="Folder with manifest.json and the ONNX files it names."
    )
    redis_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("CONCORD_REDIS_URL", "REDIS_URL"),
        description="External Redis >= 6.2 or Valkey, or several with commas between, in a fixed "
        "order; the embedded store is used without it.",
    )
    keys_file: Path | None = Field(
        default=None, description="API keys (digests only); default keys.json in the data folder."
    )
    bootstrap_key_file: Path | None = Field(
        default=None,
        description="Where a first key is written (mode 0600) when there are none; default "
        "dev.key in the data folder on a loopback address, required to be set elsewhere.",
    )
    body_bytes_max: int = Field(
        default=4_194_304, ge=1_024, le=67_108_864, description="Largest request body in bytes."
    )
    body_wait_s_max: float = Field(
        default=10.0,
        gt=0,
        le=120,
        description="Longest time for a request body to arrive, in seconds.",
    )
    store_wait_s_max: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Longest time for one exchange with the store, in seconds.",
    )
    connections_max: int = Field(
        default=256, ge=1, le=65_535, description="Requests served at once; further ones get 503."
    )
    days_cached_max: int = Field(
        default=256, ge=1, le=65_536, description="Days kept in memory beside the store."
    )
    log_level: str = Field(
        default="info",
        pattern="^(debug|info|warning|error)$",
        description="Least severe log line written.",
    )
    otel_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$",
        description="Base address of an OTLP/HTTP collector; no traces without it.",
    )

    tls_cert_file: Path | None = Field(
        default=None, description="Certificate chain (PEM) to serve HTTPS; plain HTTP without it."
    )
    tls_key_file: Path | None = Field(
        default=None, description="Private key (PEM) of the certificate."
    )
    tls_client_ca_file: Path | None = Field(
        default=None,
        description="CA certificates (PEM); only callers with a certificate of one may connect.",
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("set CONCORD_TLS_CERT_FILE and CONCORD_TLS_KEY_FILE, or neither")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("CONCORD_TLS_CLIENT_CA_FILE needs CONCORD_TLS_CERT_FILE")
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def from_environment() -> Settings:
    """The settings of this process; raises SettingsRefused, for names that nothing reads too."""
    known = {f"CONCORD_{name.upper()}" for name in Settings.model_fields}
    ours = sorted(name for name in os.environ if name.upper().startswith("CONCORD_"))
    unknown = [name for name in ours if name.upper() not in known]
    if unknown:
        raise SettingsRefused(f"no such setting: {', '.join(unknown)}; see docs/configuration.md")
    try:
        return Settings()
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
    told = (f"{_named(item['loc'])}{item['msg']}" for item in wrong)
    raise SettingsRefused("; ".join(told))


def _named(loc: tuple[object, ...]) -> str:
    return f"CONCORD_{'.'.join(map(str, loc)).upper()}: " if loc else ""
