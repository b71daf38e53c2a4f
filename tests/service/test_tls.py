"""HTTPS by the service itself, and callers who must show a certificate; authorities made here."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from service.settings import Settings, SettingsRefused, from_environment
from tests.service.test_api_server import Server

trustme = pytest.importorskip("trustme")
HOST = "127.0.0.1"


class Secured(Server):
    """The service with a certificate; it asks callers for theirs."""

    def environment(self) -> dict[str, str]:
        folder = self.data_dir
        return super().environment() | {
            "CONCORD_TLS_CERT_FILE": str(folder / "server.pem"),
            "CONCORD_TLS_KEY_FILE": str(folder / "server.key"),
            "CONCORD_TLS_CLIENT_CA_FILE": str(folder / "clients.pem"),
        }

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    def ready(self) -> bool:
        try:
            return self.ask("/readyz", "known").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, path: str, caller: str | None, key: str = "") -> httpx.Response:
        context = ssl.create_default_context(cafile=self.data_dir / "authority.pem")
        if caller is not None:
            context.load_cert_chain(self.data_dir / f"{caller}.pem")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(verify=context, trust_env=False) as client:
            return client.get(self.url + path, headers=headers)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs, strangers = (trustme.CA() for _ in range(3))
    ours.cert_pem.write_to_path(folder / "authority.pem")
    theirs.cert_pem.write_to_path(folder / "clients.pem")
    own = ours.issue_cert(HOST)
    own.cert_chain_pems[0].write_to_path(folder / "server.pem")
    own.private_key_pem.write_to_path(folder / "server.key")
    past = datetime.now(UTC) - timedelta(days=1)
    for name, cert in {
        "known": theirs.issue_cert("oms"),
        "stranger": strangers.issue_cert("oms"),
        "expired": theirs.issue_cert("oms", not_after=past, not_before=past - timedelta(days=1)),
    }.items():
        cert.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    server = Secured(folder)
    server.start()
    yield server
    server.stop(15)


def test_a_known_caller_with_a_key_is_served(secured: Secured) -> None:
    key = (secured.data_dir / "dev.key").read_text().strip()
    assert secured.ask("/v1/days/none", "known", key).json()["code"] == "DAY_NOT_FOUND"


def test_a_certificate_is_no_key(secured: Secured) -> None:
    assert secured.ask("/v1/days/none", "known").json()["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("caller", [None, "stranger", "expired"])
def test_without_a_valid_certificate_nobody_connects(secured: Secured, caller: str | None) -> None:
    key = (secured.data_dir / "dev.key").read_text().strip()
    with pytest.raises(httpx.TransportError):
        secured.ask("/livez", caller, key)


def test_plain_http_is_not_answered(secured: Secured) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{HOST}:{secured.port}/livez", trust_env=False)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"TLS_CERT_FILE": "c"}, "TLS_KEY_FILE"),
        ({"TLS_KEY_FILE": "k"}, "TLS_CERT_FILE"),
        ({"TLS_CLIENT_CA_FILE": "a"}, "needs CONCORD_TLS_CERT_FILE"),
        ({"TLS_CERTFILE": "c"}, "no such setting: CONCORD_TLS_CERTFILE"),
    ],
)
def test_half_of_it_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], told: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"CONCORD_{name}", value)
    with pytest.raises(SettingsRefused, match=told):
        from_environment()


def test_a_service_on_loopback_needs_none_of_it() -> None:
    assert Settings().tls_cert_file is None
