"""Who may read the read model: it has balances and card tokens in clear."""

import os
import stat

import pytest

from switch.projection.readmodel import ReadModel


@pytest.fixture
def generous_umask():
    before = os.umask(0o000)
    yield
    os.umask(before)


@pytest.mark.usefixtures("generous_umask")
def test_it_is_its_owners_alone(tmp_path):
    model = ReadModel(
        tmp_path / "readmodel.db", journal_identity=bytes(16), journal_head=0
    )
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()
    }
    model.close()
    assert modes.keys() >= {"readmodel.db", "readmodel.db-wal"}
    assert set(modes.values()) == {0o600}
