"""``python -m service``: start the store if need be, load keys and policies, serve.

Every limit is explicit. A start that cannot be safe ends with one sentence and exit status 2.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from contextlib import ExitStack
from types import FrameType
from typing import Any

import uvicorn

from service import auth, fleet, sharding
from service.app import Tracing, create_app
from service.commits import StoreUnavailable
from service.embedded import EmbeddedError, EmbeddedValkey
from service.keys import bootstrap
from service.manifest import ModelRefused
from service.protocol import BoundedHttp
from service.rack import SWITCH_S, Folder
from service.settings import Settings, SettingsRefused, from_environment
from service.store import RedisStore
from service.telemetry import configure_logs, note

EXIT_UNSAFE = 2
EXIT_STORE_DIED = 3
KEEP_ALIVE_S = 65
BACKLOG = 512


class StartRefused(Exception):
    """The service cannot start safely; the message says what to change."""


# a folder or file that cannot be used is an OSError
REFUSALS = (
    StartRefused,
    SettingsRefused,
    EmbeddedError,
    ModelRefused,
    auth.KeysRefused,
    fleet.MixedFleet,
    sharding.WrongShards,
    OSError,
)


def main() -> None:
    """Serve until told to stop."""
    # uvicorn raises the signal again once it has stopped: then the store is stopped as well
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)
    try:
        with ExitStack() as stack:
            _serve(from_environment(), stack)
    except REFUSALS as refused:
        print(f"concord cannot start: {refused}", file=sys.stderr)
        sys.exit(EXIT_UNSAFE)


def _stop(_: int, __: FrameType | None) -> None:
    sys.exit(0)


def _serve(settings: Settings, stack: ExitStack) -> None:
    configure_logs(settings.log_level)
    sys.setswitchinterval(SWITCH_S)
    tracing = _tracing(settings.otel_endpoint, stack)
    keyring = _keyring(settings)
    url = settings.redis_url or _embedded(settings, stack)
    store, member = _store(url, settings.store_wait_s_max), fleet.this_process()
    # before the server, which would tell it with a trace
    asyncio.run(_check_store(url, settings.store_wait_s_max, member))
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings, store, Folder(settings.models_dir), keyring, tracing, member),
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http=BoundedHttp,
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="warning",
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            **_tls(settings),
        )
    )
    server.run()
    if not server.started:
        raise StartRefused("see the log line above")


def _tls(settings: Settings) -> dict[str, Any]:
    """Options of uvicorn for TLS; with a client CA nobody connects without a certificate of it."""
    if settings.tls_cert_file is None:
        return {}
    mutual = settings.tls_client_ca_file is not None
    return {
        "ssl_certfile": settings.tls_cert_file,
        "ssl_keyfile": settings.tls_key_file,
        "ssl_ca_certs": settings.tls_client_ca_file,
        "ssl_cert_reqs": ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE,
    }


def _tracing(endpoint: str | None, stack: ExitStack) -> Tracing | None:
    """Traces to ``endpoint``, sent to the end; without it not even their module is imported."""
    if endpoint is None:
        return None
    try:
        from service import tracing
    except ModuleNotFoundError as missing:
        raise StartRefused(
            f"CONCORD_OTEL_ENDPOINT is set, but {missing.name} is not installed: "
            "pip install 'concord-execution[otel]' (for the image: build it with "
            "LOCK=serve-otel.lock), or unset it"
        ) from None
    traces = tracing.to_collector(endpoint, note)
    stack.callback(traces.close)
    return traces


def _store(url: str, timeout_s: float) -> fleet.Shared:
    shards = _shards(url, timeout_s)
    return sharding.ShardedStore(shards) if len(shards) > 1 else shards[0]


def _shards(url: str, timeout_s: float, connections_max: int = 16) -> list[RedisStore]:
    try:
        return [
            RedisStore(address, timeout_s=timeout_s, connections_max=connections_max)
            for address in sharding.addresses(url)
        ]
    except ValueError:  # its text may hold a part of the password
        raise StartRefused(
            "REDIS_URL is no address: write redis://, rediss:// or unix://, and special characters "
            "of a password in percent-encoding; several addresses with commas between"
        ) from None


async def _check_store(url: str, timeout_s: float, member: fleet.Member) -> None:
    """Every shard is safe, they are one fleet in its order, and ``member`` may join it."""
    shards = _shards(url, timeout_s, connections_max=1)
    try:
        if problems := await sharding.unsafe(shards):
            raise StartRefused("; ".join(problems))
        await sharding.enrol(shards)
        await fleet.join(shards[0], member)
    except StoreUnavailable as error:
        raise StartRefused(str(error)) from error
    finally:
        for shard in shards:
            await shard.close()


def _embedded(settings: Settings, stack: ExitStack) -> str:
    """The embedded store's address; the store ends with this process."""
    store = EmbeddedValkey(settings.data_dir / "store", on_death=_store_died)
    stack.callback(store.stop)
    store.start()
    return store.url


def _store_died() -> None:
    """End at once: without its store the service can only refuse, and a restart mends both."""
    print("concord stops: its embedded store ended, see store/valkey.log", file=sys.stderr)
    os._exit(EXIT_STORE_DIED)


def _keyring(settings: Settings) -> auth.Watched:
    keys = settings.keys_file or settings.data_dir / "keys.json"
    if not keys.exists():
        secret = settings.bootstrap_key_file
        if secret is None and not settings.loopback:
            raise StartRefused(
                f"there are no API keys at {keys}: provide CONCORD_KEYS_FILE, or let a first key "
                "be written by setting CONCORD_BOOTSTRAP_KEY_FILE to a private path"
            )
        secret = secret or settings.data_dir / "dev.key"
        bootstrap(keys, secret)
    return auth.Watched(keys, _keys_changed)


def _keys_changed(problem: str) -> None:
    """Say that keys were read again, or that they could not be."""
    if problem:
        note("keys not read", "error", problem=problem)
    else:
        note("keys read")


if __name__ == "__main__":
    main()
