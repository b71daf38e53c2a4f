"""The servers that the benchmark compares, each one uvicorn with the service's own options.

    python -m tests.bench.servers service|noop|durable PORT STORE_URL FSYNC KEYS [MODELS RETIRE_S]

``noop`` reads a body and answers constant bytes of a given length; ``durable`` does the same after
one compare-and-set of a given size. Both read the two sizes from the request's headers.
The service takes the models of a folder, and how soon it lets go of versions that are not listed.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response

from service import auth, rack
from service.app import create_app
from service.commits import Commit
from service.rack import Folder
from service.settings import Settings
from service.store import RedisStore
from service.telemetry import configure_logs

KEY_DIR = "CONCORD_BENCH_KEYS"


def service(url: str, fsync: str, keys: Path, models: Path = Path("models")) -> FastAPI:
    """The whole service over a store at ``fsync``."""
    configure_logs("error")
    store = RedisStore(url, fsync_required=fsync)
    return create_app(Settings(), store, Folder(models), auth.load(keys))


def floor(url: str | None) -> FastAPI:
    """A route that does nothing, or nothing but one durable compare-and-set."""
    store = RedisStore(url) if url else None
    seq = -1

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if store is not None:
            await store.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/days/{day_id}/steps/{n}")
    async def nothing(request: Request, day_id: str, n: str) -> Response:
        nonlocal seq
        await request.body()
        reply = b"x" * int(request.headers["x-reply-bytes"])
        if store is not None:
            fields = {"state": b"x" * int(request.headers["x-commit-bytes"])}
            commit = Commit("bench", "noop", seq, f"n{seq}", b"", "ACTIVE", b"", fields)
            await store.commit(commit)
            seq += 1
        return Response(reply, media_type="application/json")

    return app


def main() -> None:
    """Serve one of them."""
    sys.setswitchinterval(rack.SWITCH_S)
    kind, port, url, fsync, keys, *models = sys.argv[1:]
    if models:
        rack.RETIRE_S = float(models.pop())
    app = (
        service(url, fsync, Path(keys), *map(Path, models))
        if kind == "service"
        else floor(url if kind == "durable" else None)
    )
    uvicorn.run(
        app,
        port=int(port),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="error",
        server_header=False,
    )


if __name__ == "__main__":
    main()
