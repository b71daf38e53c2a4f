"""What a Redis or Valkey server must be set to before "acknowledged" may mean "durable".

Pure functions over CONFIG GET and INFO answers; imports the standard library only.
"""

import re
from collections.abc import Iterable, Mapping

VERSION_MIN = (6, 2)
_FIGURES = {"memory": "used_memory", "memory_max": "maxmemory", "log": "aof_current_size"}

_WRONG = {
    "appendonly": (
        "yes",
        "writes live in memory only: set appendonly to yes (and restart the server with it)",
    ),
    "appendfsync": (
        "always",
        "acknowledged commits can be lost: set appendfsync to always "
        "(CONFIG SET appendfsync always, and the same line in the server's file)",
    ),
    "no-appendfsync-on-rewrite": (
        "no",
        "no write is synced while the log is rewritten: set no-appendfsync-on-rewrite to no "
        "(CONFIG SET no-appendfsync-on-rewrite no)",
    ),
    "maxmemory-policy": (
        "noeviction",
        "days can be evicted: set maxmemory-policy to noeviction "
        "(CONFIG SET maxmemory-policy noeviction)",
    ),
}

SETTINGS = tuple(_WRONG)
UNREADABLE = "unreadable"
AWAY = "away"
"""One of several stores does not answer, which stops its own days only."""
_SERVER = ("role", "aof_last_write_status", "redis_version")
KINDS = (*SETTINGS, *_SERVER, UNREADABLE, "shard", AWAY, "contract")
"""What a problem can be about: the name that its sentence starts with, after the shard it is of."""
_SHARD = re.compile(r"shard \d+: ")


def find_problems(config: Mapping[str, str], info: str, fsync_required: str) -> list[str]:
    """One sentence for each setting that breaks durability, naming what to change.

    `config` holds CONFIG GET answers for SETTINGS, `info` is the text of INFO, and
    `fsync_required` the value demanded of appendfsync.
    """
    return _setting_problems(config, fsync_required) + _server_problems(_facts(info))


def _facts(info: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)


def kind(problem: str) -> str:
    """Which of KINDS a problem's sentence is about."""
    name = _SHARD.sub("", problem, count=1).partition(" ")[0]
    return name if name in KINDS else UNREADABLE


def blocking(problems: Iterable[str]) -> list[str]:
    """Those problems for which no process may serve: all but a shard that is away."""
    return [problem for problem in problems if kind(problem) != AWAY]


def figures(info: str) -> dict[str, int]:
    """Bytes that INFO tells: ``memory`` used, ``memory_max`` allowed (0: any), ``log`` on disk.

    A figure that the server does not tell is left out.
    """
    facts = _facts(info)
    found = {name: facts.get(field, "") for name, field in _FIGURES.items()}
    return {name: int(value) for name, value in found.items() if value.isdigit()}


def unreadable(reason: str) -> str:
    """The problem of a server that does not let its settings be read."""
    return (
        "the server's settings cannot be read: allow this user CONFIG GET and INFO "
        f"(ACL SETUSER <user> +config|get +info); it answered: {reason}"
    )


def _setting_problems(config: Mapping[str, str], fsync_required: str) -> list[str]:
    problems = []
    for name, (right, sentence) in _WRONG.items():
        wanted = fsync_required if name == "appendfsync" else right
        found = config.get(name)
        if found is None:
            problems.append(unreadable(f"no value for {name}"))
        elif found != wanted:
            problems.append(f"{name} is {found}: {sentence}")
    return problems


def _server_problems(facts: Mapping[str, str]) -> list[str]:
    problems = []
    if (role := facts.get("role")) != "master":
        problems.append(
            f"role is {role}: acknowledged commits do not survive a failover, so connect to a "
            "single master (REPLICAOF NO ONE)"
        )
    if (status := facts.get("aof_last_write_status")) != "ok":
        problems.append(
            f"aof_last_write_status is {status}: the log cannot be written, so free or repair "
            "the disk under the server's dir"
        )
    if _version(facts.get("redis_version", "")) < VERSION_MIN:
        wanted = ".".join(map(str, VERSION_MIN))
        problems.append(
            f"redis_version is {facts.get('redis_version')}: upgrade the server to {wanted} "
            "or later, or to Valkey"
        )
    return problems


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
