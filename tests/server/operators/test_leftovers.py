"""What a gateway that was killed has left behind."""

from pathlib import Path

from gateways import running_gateway


def test_archives_on_their_way_in_are_removed_at_the_next_start(tmp_path: Path):
    left = tmp_path / "data" / "incoming" / "publish-abc"
    left.mkdir(parents=True)
    (left / "package.tar.gz").write_bytes(b"half")
    (tmp_path / "data").chmod(0o700)
    with running_gateway(tmp_path / "data"):
        assert not left.exists()
