"""Whom the client believes, and how it proves who it is: over real TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from service.client import Concord, Unavailable
from service.client.transport import Cert, Verify

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


class Halting(BaseHTTPRequestHandler):
    """Answers every call as a trading state that was set."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"state":"HALTED"}')

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One certificate for both sides, which is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", "key.pem"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    both = (folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes()
    (folder / "both.pem").write_bytes(both)
    return folder


@pytest.fixture(scope="module")
def url(pem: Path) -> Iterator[str]:
    """A server that wants to see a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem / "both.pem")
    context.load_verify_locations(pem / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with HTTPServer(("127.0.0.1", 0), Halting) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def halted(url: str, verify: Verify, cert: Cert | None) -> bool:
    with Concord(url, "k.s", verify=verify, cert=cert, retry_s_max=0) as concord:
        return concord.set_state("HALTED").state == "HALTED"


def test_both_sides_are_known(url: str, pem: Path) -> None:
    assert halted(url, str(pem / "cert.pem"), str(pem / "both.pem"))
    assert halted(url, pem / "cert.pem", (pem / "cert.pem", pem / "key.pem"))
    assert halted(url, ssl.create_default_context(cafile=pem / "cert.pem"), pem / "both.pem")
    assert halted(url, False, pem / "both.pem")


def test_a_stranger_is_not_believed(url: str, pem: Path) -> None:
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        halted(url, True, pem / "both.pem")


def test_who_does_not_prove_itself_is_not_served(url: str, pem: Path) -> None:
    with pytest.raises(Unavailable):
        halted(url, pem / "cert.pem", None)
