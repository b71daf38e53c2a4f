"""One exported network for all parity tests, as loud as a trained one."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training.channels import NetworkConfig  # noqa: E402
from training.export import write_model  # noqa: E402
from training.methods import METHODS  # noqa: E402
from training.policy import Network  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def loud(rounds: int, method: str, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    network = Network(NetworkConfig(rounds=rounds), METHODS[method])  # type: ignore[index]
    torch.nn.init.orthogonal_(network.decide.weight, gain=1.0)
    if network.talk is not None:
        torch.nn.init.orthogonal_(network.talk.update[-1].weight, gain=0.5)
    return network


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> tuple[Network, Path]:
    """A network and the folder of models that it was exported to."""
    network, folder = loud(3, "iac-t"), tmp_path_factory.mktemp("models")
    write_model(folder, network, "iac", "iac-t", {"training": {}, "scores": []})
    return network, folder
