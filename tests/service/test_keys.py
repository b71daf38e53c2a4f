"""Keys that come and go while the service runs, and how often their clients may ask."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from service import auth, keys
from service.auth import KeysRefused, Scope, Watched
from service.errors import Code, Problem
from tests.service.api import DESK, OTHER, Api, assert_problem, day, encoded

TRADING = [Scope.TRADE, Scope.OBSERVE]


def name_of(ring: auth.Keyring | Watched, key: str) -> str | None:
    """The client behind a key; None where it is not let in."""
    try:
        return ring.client(f"Bearer {key}").name
    except Problem as problem:
        return None if problem.code is Code.UNAUTHENTICATED else problem.code


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "private" / "keys.json"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of the file hold with the next request."""
    monkeypatch.setattr(auth, "CHANGES_S", 0.0)


def test_a_key_is_made_shown_once_and_revoked(file: Path) -> None:
    key = keys.make(file, "desk", TRADING)
    key_id, _, secret = key.partition(".")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert secret not in file.read_text()
    assert keys.listed(file) == [f"{key_id}  desk  observe,trade"]
    assert name_of(auth.load(file), key) == "desk"
    keys.revoke(file, key_id)
    assert name_of(auth.load(file), key) is None
    assert keys.listed(file) == []


def test_a_key_is_replaced_without_a_moment_in_which_none_works(file: Path, at_once: None) -> None:
    old = keys.make(file, "desk", TRADING)
    ring = Watched(file)
    new = keys.make(file, "desk", TRADING)
    assert [name_of(ring, key) for key in (old, new)] == ["desk", "desk"]
    keys.revoke(file, old.partition(".")[0])
    assert [name_of(ring, key) for key in (old, new)] == [None, "desk"]


def test_a_client_has_two_live_keys_of_a_kind_and_no_more(file: Path) -> None:
    for _ in range(keys.LIVE_KEYS_MAX):
        keys.make(file, "desk", TRADING)
    before = file.read_bytes()
    with pytest.raises(KeysRefused, match="revoke one of"):
        keys.make(file, "desk", reversed(TRADING))  # type: ignore[arg-type]
    assert file.read_bytes() == before
    keys.make(file, "desk", [Scope.HALT])
    keys.make(file, "other", TRADING)


@pytest.mark.parametrize("client", ["", "a b", "*", "x" * 65])
def test_a_client_that_cannot_own_days_gets_no_key(file: Path, client: str) -> None:
    kept = keys.make(file, "desk", TRADING)
    with pytest.raises(KeysRefused):
        keys.make(file, client, TRADING)
    assert name_of(auth.load(file), kept) == "desk"
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]


def test_a_file_that_is_spoilt_locks_nobody_out_and_lets_nobody_in(
    file: Path, at_once: None
) -> None:
    key, told = keys.make(file, "desk", TRADING), []
    ring = Watched(file, told.append)
    whole = file.read_bytes()
    for spoilt in (b"", b"{", b'{"keys": [{}]}'):
        file.write_bytes(spoilt)
        assert name_of(ring, key) == "desk"
    file.unlink()
    assert name_of(ring, key) == "desk"
    assert [bool(problem) for problem in told] == [True] * 4
    file.write_bytes(whole)
    file.chmod(0o600)
    assert (name_of(ring, key), told[-1]) == ("desk", "")


def test_a_change_holds_within_a_second(file: Path) -> None:
    key = keys.make(file, "desk", TRADING)
    ring = Watched(file)
    keys.revoke(file, key.partition(".")[0])
    deadline = time.monotonic() + 10 * auth.CHANGES_S
    while name_of(ring, key) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    "limits", [{"rate_per_s_max": 0}, {"rate_per_s_max": 1e6}, {"body_bytes_max": 0}, {"rate": 1}]
)
def test_limits_of_a_client_are_checked(file: Path, limits: dict[str, float]) -> None:
    keys.make(file, "desk", TRADING)
    held = json.loads(file.read_text()) | {"clients": {"desk": limits}}
    file.write_text(json.dumps(held))
    with pytest.raises(KeysRefused, match="not a keys file"):
        auth.load(file)


@pytest.mark.parametrize(
    "change",
    [
        {"clients": {"dsek": {"rate_per_s_max": 1}}},
        {"clients": {"desk": {"rate_per_s_max": True}}},
        {"clients": {"desk": {"body_bytes_max": 1.5}}},
        {"clients": 5},
        {"cleints": {}},
        {"keys": {}},
    ],
)
def test_what_a_keys_file_says_in_vain_is_refused(file: Path, change: dict[str, object]) -> None:
    keys.make(file, "desk", TRADING)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(KeysRefused, match="not a keys file"):
        auth.load(file)


def test_an_id_is_one_keys(file: Path) -> None:
    keys.make(file, "desk", TRADING)
    held = json.loads(file.read_text())
    held["keys"] *= 2
    file.write_text(json.dumps(held))
    with pytest.raises(KeysRefused, match="twice"):
        auth.load(file)


def test_a_key_is_revoked_through_a_link(file: Path, tmp_path: Path) -> None:
    key = keys.make(file, "desk", TRADING)
    link = tmp_path / "link.json"
    link.symlink_to(file)
    keys.revoke(link, key.partition(".")[0])
    assert link.is_symlink()
    assert name_of(auth.load(file), key) is None


def test_the_command_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> tuple[int, str, str]:
        code = keys.main(["--file", str(file), *words])
        return (code, *capsys.readouterr())

    code, key, _ = said("make", "--client", "desk", "--scopes", "trade", "observe")
    assert (code, name_of(auth.load(file), key.strip())) == (0, "desk")
    key_id = key.partition(".")[0]
    assert said("list") == (0, f"{key_id}  desk  observe,trade\n", "")
    assert said("revoke", "nobody")[0] == 1
    assert said("revoke", key_id) == (0, "", "")


# how often, and how much


class Limited(Api):
    """The client desk may send 5 requests a second of 600 bytes; the client other as it likes."""

    def _start(self) -> None:
        super()._start()
        held = self.parts["keyring"]._keys
        for key_id, key in held.items():
            if key.client.name == "desk":
                client = auth.Client("desk", key.client.scopes, 5.0, 600)
                held[key_id] = auth._Key(key.digest, client)


def test_whoever_stops_trading_is_never_told_to_wait() -> None:
    with Limited() as api:
        while api.call("GET", "/v1/days/d").status != 429:
            pass
        assert api.trading("HALTED").status == 200


def test_a_client_that_asks_too_often_is_told_when_to_come_again() -> None:
    with Limited() as api:
        replies = [api.call("GET", "/v1/days/d") for _ in range(8)]
        assert [reply.status for reply in replies[:5]] == [404] * 5
        late = [reply for reply in replies if reply.status == 429]
        assert late
        assert_problem(late[0], 429, "RATE_LIMITED")
        assert late[0].headers["retry-after"] == "1"
        others = [api.call("GET", "/v1/days/d", key=OTHER) for _ in range(20)]
        assert {reply.status for reply in others} == {404}
        time.sleep(0.5)
        assert api.call("GET", "/v1/days/d", key=DESK).status == 404


def test_a_client_sends_so_many_bytes_and_no_more() -> None:
    body = encoded(day())
    with Limited() as api:
        small = body + b" " * (600 - len(body))
        assert api.open(small).status == 200
        assert_problem(api.open(small + b" ", "e"), 413, "BODY_TOO_LARGE")
        assert api.open(small + b" ", "e", key=OTHER).status == 200
