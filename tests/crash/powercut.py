"""A Valkey whose power can be cut: killed, and its log cut back to what was really synced."""

from pathlib import Path

from service.embedded import EmbeddedValkey
from tests.crash.shim import shim_path


class SyncNotes:
    """What the server on `data_dir` really synced, noted by the shim that `environment` preloads.

    Directory entries are taken as durable, so no log rewrite may happen between cuts; it starts at
    64 MB of log.
    """

    def __init__(self, data_dir: Path) -> None:
        self._log_dir = data_dir / "appendonlydir"
        self._notes = data_dir.with_name(f"{data_dir.name}.fsyncs")
        self.environment = {"LD_PRELOAD": str(shim_path()), "FSYNC_NOTES": str(self._notes)}
        self.bytes_lost = 0

    def begin(self) -> None:
        """Before a start: all that the last cut left counts as synced."""
        files = list(self._log_dir.iterdir()) if self._log_dir.exists() else []
        stats = [path.stat() for path in files]
        self._notes.write_text("".join(f"{file.st_ino} {file.st_size}\n" for file in stats))

    def cut_back(self) -> None:
        """Once the server is gone: cut each log file back to its last synced length."""
        synced = self._synced_bytes()
        for path in self._log_dir.iterdir() if self._log_dir.exists() else ():
            file = path.stat()
            kept = min(file.st_size, synced.get(file.st_ino, 0))
            self.bytes_lost += file.st_size - kept
            with path.open("r+b") as log:
                log.truncate(kept)

    def _synced_bytes(self) -> dict[int, int]:
        lines = self._notes.read_text().splitlines()
        return {int(inode): int(size) for inode, size in map(str.split, lines)}


class PowerCutStore:
    """An embedded server under the fsync shim; `cut` and `restart` as often as needed."""

    def __init__(self, data_dir: Path, fsync: str = "always") -> None:
        self._notes = SyncNotes(data_dir)
        self.server = EmbeddedValkey(data_dir, fsync, extra_env=self._notes.environment)
        self.cuts = 0

    @property
    def url(self) -> str:
        """The server's address; the same after every restart."""
        return self.server.url

    @property
    def bytes_lost(self) -> int:
        """What all cuts together took from the log."""
        return self._notes.bytes_lost

    def start(self) -> None:
        """Start on what the last cut left."""
        self._notes.begin()
        self.server.start()

    def cut(self) -> None:
        """Kill the server and take what it had not synced."""
        self.server.kill()
        self._notes.cut_back()
        self.cuts += 1

    def restart(self) -> None:
        """Come back after a cut."""
        self.start()

    def stop(self) -> None:
        """End the server in order."""
        self.server.stop()
