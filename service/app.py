"""The application: its parts put together, its errors answered. Imports fastapi and the service.

``create_app`` is a factory: nothing happens at import.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Protocol, TypedDict

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service import __version__
from service.auth import Keyring, Watched
from service.commits import Store, StoreUnavailable
from service.core.policy import Policy
from service.core.units import InvariantViolation
from service.desk import Desk, unavailable
from service.durability import blocking
from service.errors import MEDIA_TYPE, RETRY_AFTER_S, Code, Problem
from service.fleet import Fleet, Member, Shared, this_process
from service.measured import MeasuredStore, measured
from service.meters import METRICS_TYPE
from service.openapi import completed
from service.quota import Quotas
from service.rack import Models, Source
from service.records import Records
from service.routes import router
from service.settings import Settings
from service.telemetry import Asgi, Observed, Telemetry, note
from service.vitals import Vitals

_HTTP_CODES = {404: Code.PATH_NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}


Keys = Keyring | Watched


class Parts(TypedDict):
    """What every request can reach."""

    desk: Desk
    records: Records
    models: Models
    keyring: Keys
    quotas: Quotas
    settings: Settings


class Unsafe(Exception):
    """The service must not start: its store would not keep what it acknowledges."""


class Tracing(Protocol):
    """What can be put around the parts to follow a request through them (service/tracing.py)."""

    def requests(self, app: Asgi) -> Asgi:
        """``app`` with a span for each request."""

    def store(self, store: Store) -> Store:
        """``store`` with a span for each call of a request."""

    def policy(self, name: str, policy: Policy) -> Policy:
        """``policy`` with a span for each wish."""


def create_app(
    settings: Settings,
    shared: Shared,
    source: Source,
    keyring: Keys,
    tracing: Tracing | None = None,
    member: Member | None = None,
) -> FastAPI:
    """The service over ``shared``, as ``member`` of those that serve it.

    Raises ModelRefused; at start-up Unsafe if the store may forget, MixedFleet beside another
    contract.
    """
    telemetry = Telemetry(__version__)
    telemetry.meters.watch_disk(settings.data_dir)
    fleet = Fleet(shared, member or this_process())
    store = _watched(shared, telemetry, tracing)
    models = Models(source, store.pins, _dress(tracing), telemetry.models_looked_at)
    vitals = Vitals(store, keyring.trading(), telemetry.meters, fleet.problems)
    desk = Desk(store, models, settings.days_cached_max, telemetry.committed)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Parts]:
        if problems := await vitals.problems():
            raise Unsafe("; ".join(problems))
        note("ready", version=__version__, url=_url(settings), policies=sorted(models.rack.current))
        watching = asyncio.create_task(models.watch())
        async with fleet.beating():
            yield {
                "desk": desk,
                "records": Records(store),
                "models": models,
                "keyring": keyring,
                "quotas": Quotas(),
                "settings": settings,
            }
        watching.cancel()
        await store.close()

    app = _framework(lifespan)
    app.include_router(router)
    _add_probes(app, vitals, telemetry)
    _add_error_handlers(app, telemetry)
    _describe(app)
    if tracing is not None:
        app.add_middleware(tracing.requests)
    app.add_middleware(Observed, telemetry=telemetry, requests_max=settings.connections_max)
    return app


def _framework(lifespan: Any) -> FastAPI:
    """FastAPI without its pages; a route's function names it in the OpenAPI document."""
    return FastAPI(
        title="Concord",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        # one switch for traces, ours: the framework's own would tell paths and exceptions
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )


def _url(settings: Settings) -> str:
    scheme = "https" if settings.tls_cert_file else "http"
    return f"{scheme}://{settings.host}:{settings.port}"


def _watched(store: Store, telemetry: Telemetry, tracing: Tracing | None) -> Store:
    """The store with its time counted, and traced where that is on."""
    measured_store = MeasuredStore(store, telemetry.meters.store, telemetry.state_set)
    return measured_store if tracing is None else tracing.store(measured_store)


def _dress(tracing: Tracing | None) -> Callable[[str, Policy], Policy]:
    """What counts the time of a policy, and traces it where that is on."""

    def dress(name: str, policy: Policy) -> Policy:
        return measured(policy) if tracing is None else tracing.policy(name, measured(policy))

    return dress


def _add_probes(app: FastAPI, vitals: Vitals, telemetry: Telemetry) -> None:
    @app.get("/livez")
    async def livez() -> Response:
        """The process answers."""
        return Response(b"ok\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        """The policies are warm and the store keeps what it acknowledges."""
        problems = await vitals.problems()
        if blocking(problems):
            raise Problem(Code.NOT_READY, "the store is not safe", problems=problems)
        return Response("\n".join(["ready", *problems, ""]), media_type="text/plain")

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics."""
        await vitals.refresh()
        return Response(telemetry.meters.expose(), headers={"content-type": METRICS_TYPE})


def _add_error_handlers(app: FastAPI, telemetry: Telemetry) -> None:
    def handler(translate: Callable[[Any], Problem]) -> Callable[[Request, Exception], Response]:
        def answer(request: Request, error: Exception) -> Response:
            problem = translate(error)
            telemetry.refused(problem.code)
            return _problem(request, problem)

        return answer

    def law_broken(error: InvariantViolation) -> Problem:
        telemetry.failed("law broken", error)
        return Problem(Code.LAW_BROKEN, "nothing was changed; report this with the instance")

    def internal(error: Exception) -> Problem:
        telemetry.failed("failure", error)
        return Problem(Code.INTERNAL, "repeat the request; report this with the instance")

    def store_away(error: StoreUnavailable) -> Problem:
        note("store unavailable", "error", problem=str(error))
        return unavailable(error)

    app.add_exception_handler(Problem, handler(lambda problem: problem))
    app.add_exception_handler(HTTPException, handler(_http_problem))
    app.add_exception_handler(ClientDisconnect, handler(_gone))
    app.add_exception_handler(InvariantViolation, handler(law_broken))
    app.add_exception_handler(StoreUnavailable, handler(store_away))
    app.add_exception_handler(Exception, handler(internal))


def _http_problem(error: HTTPException) -> Problem:
    code = _HTTP_CODES.get(error.status_code, Code.PATH_NOT_FOUND)
    return Problem(code, "see docs/api.md for paths and methods")


def _gone(_: ClientDisconnect) -> Problem:
    return Problem(Code.BODY_TOO_SLOW, "send the whole body; nobody is there to read this")


def _problem(request: Request, problem: Problem) -> Response:
    headers = {}
    if problem.status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    if problem.status == 429:
        headers["retry-after"] = str(problem.extra["retry_after_s"])
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    body = problem.body(request.state.request_id)
    return Response(body, problem.status, headers=headers, media_type=MEDIA_TYPE)


def _describe(app: FastAPI) -> None:
    """Complete the OpenAPI document: routes read their bodies and write their replies themselves,
    so the framework knows only where they are."""
    draft = app.openapi

    @cache
    def openapi() -> dict[str, Any]:
        return completed(draft())

    app.openapi = openapi  # type: ignore[method-assign]
