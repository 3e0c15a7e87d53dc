import os

import pytest


@pytest.fixture(autouse=True)
def no_real_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is durable, the simulated disk says; the real one need not be waited for."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
