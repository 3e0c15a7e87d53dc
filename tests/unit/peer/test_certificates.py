"""What nodes show each other: a certificate that nobody would take is refused at the
start."""

import pytest

from switch.peer.errors import PeerError
from switch.peer.sockets import Certificates, contexts
from tests.servers.certificates import Authority


@pytest.mark.parametrize("days", [-0.5, 1])
def test_one_that_has_expired_is_refused(tmp_path, days):
    authority = Authority(tmp_path)
    cert = str(authority.issue("a", days=days))
    files = Certificates(cert, cert, str(authority.ca))
    if days > 0:
        assert all(contexts(files))
        return
    with pytest.raises(PeerError, match="expected one that is valid now, got one from"):
        contexts(files)
