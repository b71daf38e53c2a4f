"""One exported network for all parity tests, as loud as a trained one."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training.export import write_model  # noqa: E402
from training.policy import Network, NetworkConfig  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def loud(rounds: int, channel: str) -> Network:
    torch.manual_seed(0)
    network = Network(NetworkConfig(rounds=rounds, channel=channel))  # type: ignore[arg-type]
    torch.nn.init.orthogonal_(network.decide.weight, gain=1.0)
    if network.channel is not None:
        torch.nn.init.orthogonal_(network.channel.update[-1].weight, gain=0.5)
    return network


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> tuple[Network, Path]:
    """A network and the folder of models that it was exported to."""
    network, folder = loud(3, "attention"), tmp_path_factory.mktemp("models")
    write_model(folder, network, "iac", "iac-attention", {"training": {}, "scores": []})
    return network, folder
