"""Models side by side: swapped by a pointer, pinned by days, rolled back, refused as a whole."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service import manifest, models, rack
from service.commits import Commit, MemoryStore, StoreUnavailable
from service.core.contract import fingerprint
from service.core.policy import Intent, Policy
from service.files import locked
from service.manifest import MODELS_MAX, ModelRefused
from service.rack import Folder, Installed, Models, Rack
from tests.service.api import (
    ADMIN,
    DESK,
    HALTER,
    WATCHER,
    Api,
    Json,
    assert_problem,
    day,
    step,
)
from tests.service.versions import add_version

SHIPPED = Path("models")


class Shelf:
    """A source whose versions a test sets: name -> the versions, the last one current."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names
        self.refuses = False
        self.loaded: list[tuple[str, str]] = []

    def stamp(self) -> object:
        return json.dumps(self.names), self.refuses

    def load(self, held: Any) -> Rack:
        if self.refuses:
            raise ModelRefused("the file is torn; restore it")
        made = {}
        for name, versions in self.names.items():
            for version in versions:
                if (name, version) not in held:
                    self.loaded.append((name, version))
                made[name, version] = held.get((name, version)) or policy(name, version)
        return Rack({name: made[name, versions[-1]] for name, versions in self.names.items()}, made)


def policy(name: str, version: str) -> Installed:
    told = {"name": name, "version": version, "fingerprint": version * 4}

    def decide(day: Any, observation: Any) -> Intent:
        share = int(version, 16) % 7 + 1
        return Intent(day.orders.order_qty * share // 10)

    return Installed(decide, told)


@pytest.fixture
def source() -> Shelf:
    return Shelf(iac=["a1"], other=["b1"])


@pytest.fixture
def api(source: Shelf) -> Iterator[Api]:
    with Api(source=source) as started:
        yield started


def reload(api: Api) -> Any:
    return api.call("POST", "/v1/models/reload", key=ADMIN)


def rows(reply: Any) -> dict[str, Json]:
    return {f"{row['name']}@{row['version']}": row for row in reply.json["models"]}


def listed(api: Api) -> dict[str, Json]:
    return rows(api.call("GET", "/v1/models"))


def open_days(api: Api) -> dict[str, int]:
    return {name: row["open_days"] for name, row in rows(reload(api)).items()}


def test_a_day_keeps_its_version_and_the_next_day_gets_the_new_one(api: Api, source: Shelf) -> None:
    assert api.open(day(policy="iac")).json["model"]["version"] == "a1"
    first = api.step(1, step(1)).json
    source.names["iac"].append("a2")
    reply = reload(api)
    assert (reply.status, reply.json["changed"]) == (200, True)
    assert rows(reply)["iac@a1"] | {"fingerprint": ""} == {
        "name": "iac", "version": "a1", "fingerprint": "", "current": False, "listed": True,
        "open_days": 1,
    }  # fmt: skip
    assert rows(reply)["iac@a2"]["current"]
    second = api.step(2, step(2)).json
    assert first["model"] == second["model"]
    assert api.open(day(policy="iac"), "e").json["model"]["version"] == "a2"
    assert api.open(day(policy="iac@a1"), "f").json["model"]["version"] == "a1"
    assert api.open(day(policy="iac@a1"), "g").json["policy"] == "iac"
    assert_problem(api.open(day(policy="iac@a3"), "h"), 422, "UNKNOWN_POLICY")
    assert list(open_days(api).values()) == [3, 1, 0]


def test_what_is_loaded_is_not_loaded_again(api: Api, source: Shelf) -> None:
    source.names["iac"].append("a2")
    assert reload(api).json["changed"]
    assert not reload(api).json["changed"]
    assert source.loaded == [("iac", "a1"), ("other", "b1"), ("iac", "a2")]


def test_rolling_back_is_a_reload_too(api: Api, source: Shelf) -> None:
    source.names["iac"] = ["a1", "a2"]
    reload(api)
    source.names["iac"] = ["a2", "a1"]
    assert reload(api).json["changed"]
    assert api.open(day(policy="iac")).json["model"]["version"] == "a1"


def test_a_folder_that_is_refused_changes_nothing(api: Api, source: Shelf) -> None:
    api.open(day(policy="iac"))
    before = listed(api)
    source.names["iac"].append("a2")
    source.refuses = True
    refused = reload(api)
    assert_problem(refused, 409, "MODEL_REFUSED")
    assert refused.json["detail"] == "the file is torn; restore it"
    assert listed(api) == before
    assert api.step(1, step(1)).status == 200
    metrics = api.call("GET", "/metrics").body.decode()
    assert 'concord_model_loads_total{outcome="refused"} 1.0' in metrics
    source.refuses = False
    assert reload(api).json["changed"]


@pytest.mark.parametrize("key", [DESK, WATCHER])
def test_only_an_admin_reloads(api: Api, key: str) -> None:
    assert_problem(api.call("POST", "/v1/models/reload", key=key), 403, "SCOPE_MISSING")


def test_what_others_have_open_is_the_operators_business(api: Api) -> None:
    reply = api.call("GET", "/v1/models", key=WATCHER)
    assert rows(reply)["iac@a1"] == {
        "name": "iac", "version": "a1", "fingerprint": "a1a1a1a1", "current": True, "listed": True,
    }  # fmt: skip
    assert_problem(api.call("GET", "/v1/models", key=HALTER), 403, "SCOPE_MISSING")


def registry(source: Shelf, store: MemoryStore, **more: Any) -> Models:
    return Models(source, store.pins, **more)


def pin(store: MemoryStore, day_id: str, by: int) -> None:
    commit = Commit(
        "c", day_id, -1, "open", b"d", "ACTIVE", b"r", pins={"iac@a1": by}
    )  # fmt: skip
    asyncio.run(store.commit(commit))


def test_a_version_goes_when_it_is_not_listed_and_no_day_is_pinned() -> None:
    source, store = Shelf(iac=["a1"]), MemoryStore()
    held = registry(source, store, retire_s=0.0)
    pin(store, "d", 1)
    pinned = held.named("iac")
    source.names["iac"] = ["a2"]
    assert asyncio.run(held.reload())
    assert pinned is not None
    assert held.pinned(pinned.model) is pinned
    assert held.rack.since_s.keys() == {("iac", "a1")}
    pin(store, "e", -1)
    asyncio.run(held.reload())
    assert held.pinned(pinned.model) is None
    assert held.rack.held.keys() == {("iac", "a2")}


def test_a_version_stays_a_while_for_those_who_have_not_heard() -> None:
    source = Shelf(iac=["a1"])
    held = registry(source, MemoryStore(), retire_s=60.0)
    source.names["iac"] = ["a2"]
    asyncio.run(held.reload())
    assert ("iac", "a1") in held.rack.held
    source.names["iac"] = ["a1"]
    asyncio.run(held.reload())
    assert source.loaded == [("iac", "a1"), ("iac", "a2")]  # it had never gone


def test_a_store_that_is_away_lets_no_version_go() -> None:
    source = Shelf(iac=["a1"])

    async def away() -> dict[str, int]:
        raise StoreUnavailable("away")

    held = Models(source, away, retire_s=0.0)
    source.names["iac"] = ["a2"]
    asyncio.run(held.reload())
    assert ("iac", "a1") in held.rack.held


def test_a_change_is_seen_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rack, "WATCH_S", 0.01)
    source, told = Shelf(iac=["a1"]), list[object]()
    held = registry(source, MemoryStore(), told=told.append, retire_s=0.0)

    async def change() -> None:
        watching = asyncio.create_task(held.watch())
        source.refuses = True
        await _until(lambda: isinstance(told[-1], ModelRefused))
        assert held.named("iac@a1") is not None
        source.refuses, source.names["iac"] = False, ["a2"]
        await _until(lambda: held.rack.held.keys() == {("iac", "a2")})
        watching.cancel()

    asyncio.run(change())
    assert [type(each) for each in told[:2]] == [Rack, ModelRefused]


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_each_policy_is_dressed_once() -> None:
    source, dressed = Shelf(iac=["a1"]), list[str]()

    def dress(name: str, policy: Policy) -> Policy:
        dressed.append(name)
        return policy

    held = registry(source, MemoryStore(), dress=dress)
    source.names["iac"].append("a2")
    asyncio.run(held.reload())
    asyncio.run(held.reload())
    assert dressed == ["iac", "iac"]


# the folder and its manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped model, and a copy of it as an older version."""
    shutil.copytree(SHIPPED, tmp_path / "models")
    return tmp_path / "models"


def test_the_shipped_folder_and_its_rules() -> None:
    found = Folder(SHIPPED).load({})
    row = manifest.read(SHIPPED).row("iac")
    assert found.current.keys() == {"twap", "vwap", "ac", "iac"}
    assert found.current["iac"].model == {
        "name": "iac", "version": row["version"], "fingerprint": row["sha256"][:16],
    }  # fmt: skip
    assert found.current["twap"].model["fingerprint"] == fingerprint()[:16]


def test_versions_of_a_folder_lie_side_by_side(folder: Path) -> None:
    version = add_version(folder, "other")
    with Api(source=Folder(folder)) as api:
        shipped = manifest.read(SHIPPED).row("iac")["version"]
        assert api.open(day(policy="iac")).json["model"]["version"] == shipped
        assert models.main(["--folder", str(folder), "use", "iac", version]) == 0
        assert reload(api).json["changed"]
        assert api.open(day(policy="iac"), "e").json["model"]["version"] == version
        assert models.main(["--folder", str(folder), "drop", "iac", shipped]) == 0
        assert reload(api).status == 200
        assert not listed(api)[f"iac@{shipped}"]["listed"]
        assert api.step(1, step(1)).json["model"]["version"] == shipped


def test_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = add_version(folder, "other")
    shipped = manifest.read(folder).row("iac")["version"]
    command = ["--folder", str(folder)]
    assert models.main([*command, "list"]) == 0
    assert f"iac@{shipped}  iac.onnx  current\n" in capsys.readouterr().out
    assert models.main([*command, "drop", "iac", shipped]) == 1
    assert "is current: use another version first" in capsys.readouterr().err
    assert models.main([*command, "use", "iac", "f" * 12]) == 1
    assert f"lists no model 'iac@{'f' * 12}'" in capsys.readouterr().err
    assert models.main([*command, "drop", "iac", version]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["iac.onnx", "manifest.json"]
    assert models.main(["--folder", str(folder / "none"), "list"]) == 1


def test_using_a_version_that_would_be_refused_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = json.loads((folder / "manifest.json").read_text())
    torn = dict(held["models"][0]) | {"version": "0" * 12, "sha256": "0" * 64, "file": "torn.onnx"}
    (folder / "torn.onnx").write_bytes(b"torn")
    held["models"].append(torn)
    held["current"] = {"iac": held["models"][0]["version"]}
    (folder / "manifest.json").write_text(json.dumps(held))
    before = (folder / "manifest.json").read_bytes()
    assert models.main(["--folder", str(folder), "use", "iac", "0" * 12]) == 1
    assert "SHA-256" in capsys.readouterr().err
    assert (folder / "manifest.json").read_bytes() == before


def test_a_file_that_comes_after_its_manifest_is_seen(folder: Path) -> None:
    source = Folder(folder)
    before = source.stamp()
    assert source.stamp() == before
    (folder / "late.onnx").write_bytes(b"late")
    assert source.stamp() != before


def test_nobody_opens_a_day_with_a_version_that_is_not_listed(api: Api, source: Shelf) -> None:
    api.open(day(policy="iac"))
    source.names["iac"] = ["a2"]
    reload(api)
    assert_problem(api.open(day(policy="iac@a1"), "e"), 422, "UNKNOWN_POLICY")
    assert api.step(1, step(1)).status == 200


def test_a_day_that_is_opened_while_its_version_goes_keeps_it() -> None:
    """Its commit lands between the count of open days and the end of the reload."""
    source, store = Shelf(iac=["a1"]), MemoryStore()

    async def slow_pins() -> Any:
        counted = await store.pins()
        commit = Commit("c", "d", -1, "open", b"d", "ACTIVE", b"r", pins={"iac@a1": 1})
        await store.commit(commit)
        return counted

    held = Models(source, slow_pins)
    source.names["iac"] = ["a2"]
    asyncio.run(held.reload())
    assert held.rack.held.keys() == {("iac", "a1"), ("iac", "a2")}


def test_a_model_that_another_process_heard_of_first_is_looked_for(source: Shelf) -> None:
    store = MemoryStore()
    with Api(source=source, store=store) as first, Api(source=source, store=store) as second:
        source.names["iac"].append("a2")
        reload(first)
        assert first.open(day(policy="iac", shadows=["iac@a1", "other"])).status == 200
        reply = second.step(1, step(1))
        assert (reply.status, reply.json["model"]["version"]) == (200, "a2")
        assert [each["stopped"] for each in second.state()["shadows"]] == [None, None]


def test_a_folder_is_looked_at_again_only_when_it_changed(source: Shelf) -> None:
    held = registry(source, MemoryStore())
    looks = len(source.loaded)
    asyncio.run(held.missing([{"name": "iac", "version": "zz", "fingerprint": "zz"}]))
    assert len(source.loaded) == looks


def test_a_watch_outlives_a_bad_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rack, "WATCH_S", 0.01)
    source, told = Shelf(iac=["a1"]), list[object]()

    async def broken() -> dict[str, int]:
        raise ValueError("a foreign value")

    held = Models(source, broken, told=told.append, retire_s=0.0)

    async def change() -> None:
        watching = asyncio.create_task(held.watch())
        source.names["iac"] = ["a2"]
        await _until(lambda: any("foreign" in str(each) for each in told))
        source.names["iac"] = ["a3"]
        await _until(lambda: held.named("iac") is held.named("iac@a3") is not None)
        watching.cancel()

    asyncio.run(change())


def test_reloads_that_meet_load_once(source: Shelf) -> None:
    held = registry(source, MemoryStore())
    source.names["iac"].append("a2")

    async def both() -> None:
        await asyncio.gather(held.reload(), held.reload())

    asyncio.run(both())
    assert source.loaded.count(("iac", "a2")) == 1


def test_a_refused_folder_is_not_tried_again_until_it_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rack, "WATCH_S", 0.005)
    source, told = Shelf(iac=["a1"]), list[object]()
    held = registry(source, MemoryStore(), told=told.append, retire_s=0.05)
    source.names["iac"] = ["a2"]
    asyncio.run(held.reload())
    source.refuses = True

    async def wait() -> None:
        watching = asyncio.create_task(held.watch())
        await _until(lambda: held.rack.held.keys() == {("iac", "a2")})
        await asyncio.sleep(0.1)
        watching.cancel()

    asyncio.run(wait())
    assert sum(isinstance(each, ModelRefused) for each in told) == 1


def test_a_pinned_version_is_counted_again_after_as_long() -> None:
    counts = 0
    source, store = Shelf(iac=["a1"]), MemoryStore()
    pin(store, "d", 1)

    async def counting() -> Any:
        nonlocal counts
        counts += 1
        return await store.pins()

    held = Models(source, counting, retire_s=0.05)
    source.names["iac"] = ["a2"]
    asyncio.run(held.reload())
    time.sleep(0.06)
    for _ in range(3):
        asyncio.run(held.reload())
    assert counts == 1


def test_a_defect_while_loading_is_a_refusal() -> None:
    class Broken(Shelf):
        def load(self, held: Any) -> Rack:
            if self.refuses:
                raise MemoryError("no memory")
            return super().load(held)

    source = Broken(iac=["a1"])
    held = registry(source, MemoryStore())
    source.refuses = True
    with pytest.raises(ModelRefused, match="no memory"):
        asyncio.run(held.reload())
    assert held.named("iac") is not None


def test_nothing_new_is_no_change(folder: Path) -> None:
    with Api(source=Folder(folder)) as api:
        assert not reload(api).json["changed"]
        add_version(folder, "other")
        assert reload(api).json["changed"]
        assert not reload(api).json["changed"]


def test_a_file_that_is_spoiled_after_it_was_loaded_is_refused(folder: Path) -> None:
    """The next start would read it again."""
    with Api(source=Folder(folder)) as api:
        (folder / "iac.onnx").write_bytes(b"torn")
        assert_problem(reload(api), 409, "MODEL_REFUSED")
        assert api.open(day(policy="iac")).status == 200


def test_odd_files_in_the_folder_blind_nobody(folder: Path) -> None:
    source = Folder(folder)
    (folder / ".#manifest.json").symlink_to("nowhere")
    before = source.stamp()
    add_version(folder, "other")
    assert source.stamp() != before
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(ModelRefused, match="no regular file"):
        source.load({})


@pytest.mark.parametrize("change", [{"version": "0" * 12}, {"sha256": "f" * 64}])
def test_a_version_is_its_digest(folder: Path, change: Json) -> None:
    _spoiled(folder, lambda held: held["models"][0].update(change))
    with pytest.raises(ModelRefused, match="is not its SHA-256"):
        manifest.read(folder)


def test_nobody_changes_the_folder_at_once(folder: Path) -> None:
    """What training writes between the reading and the writing of `use` must not be lost."""
    version, done = add_version(folder, "other"), list[int]()
    command = ["--folder", str(folder), "use", "iac", version]
    with locked(folder):
        waiting = threading.Thread(target=lambda: done.append(models.main(command)))
        waiting.start()
        time.sleep(0.1)
        latest = add_version(folder, "latest")
        assert not done
    waiting.join()
    assert done == [0]
    assert {v for _, v in manifest.read(folder).rows} >= {version, latest}


def test_more_versions_than_may_be_listed_are_not_written(folder: Path) -> None:
    row = manifest.read(folder).row("iac")
    rows = {("iac", f"{i:012x}"): row for i in range(MODELS_MAX + 1)}
    with pytest.raises(ModelRefused, match="drop some first"):
        manifest.write(folder, manifest.Manifest(rows, {"iac": f"{0:012x}"}))
    assert len(manifest.read(folder).rows) == 1


def test_a_model_may_not_take_the_name_of_a_rule(folder: Path) -> None:
    add_version(folder, "other", "twap")
    with pytest.raises(ModelRefused, match="may not be called 'twap'"):
        Folder(folder).load({})


def _spoiled(folder: Path, change: Callable[[Json], None]) -> None:
    held = json.loads((folder / "manifest.json").read_text())
    change(held)
    (folder / "manifest.json").write_text(json.dumps(held))


def test_a_manifest_that_is_unclear_is_refused(folder: Path) -> None:
    add_version(folder, "other")
    _spoiled(folder, lambda held: held.pop("current"))
    with pytest.raises(ModelRefused, match=r"which version of 'iac' is current: python -m"):
        manifest.read(folder)
    shipped = json.loads((folder / "manifest.json").read_text())["models"][0]["version"]
    assert models.main(["--folder", str(folder), "use", "iac", shipped]) == 0
    assert manifest.read(folder).current == {"iac": shipped}
    _spoiled(folder, lambda held: held.update(current={"iac": "f" * 12}))
    with pytest.raises(ModelRefused, match="which version"):
        manifest.read(folder)
    _spoiled(folder, lambda held: held["models"].append(held["models"][0]))
    with pytest.raises(ModelRefused, match="lists a version twice"):
        manifest.read(folder)


@pytest.mark.parametrize(("count", "ok"), [(MODELS_MAX, True), (MODELS_MAX + 1, False)])
def test_so_many_versions_may_be_listed(folder: Path, count: int, ok: bool) -> None:
    def many(held: Json) -> None:
        row = held["models"][0] | {"golden": {}}
        names = [f"{i:012x}" for i in range(count)]
        held["models"] = [row | {"version": name, "sha256": name + "0" * 52} for name in names]
        held["current"] = {"iac": f"{0:012x}"}

    _spoiled(folder, many)
    if ok:
        assert len(manifest.read(folder).rows) == count
    else:
        with pytest.raises(ModelRefused, match=f"must list 1 to {MODELS_MAX}"):
            manifest.read(folder)


def test_a_manifest_appears_whole_or_not_at_all(folder: Path, monkeypatch: Any) -> None:
    before = manifest.read(folder)

    def fails(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no space"):
        manifest.write(folder, before)
    assert manifest.read(folder) == before
    assert not list(folder.glob("*.new"))


def test_the_numbers_of_open_days_follow_opens_and_closes(api: Api) -> None:
    api.open(day(policy="iac"))
    api.open(day(policy="iac"))  # a repetition opens nothing
    assert open_days(api)["iac@a1"] == 1
    api.step(1, step(1))
    assert api.close().status == 200
    assert api.close().status == 200
    assert open_days(api)["iac@a1"] == 0
