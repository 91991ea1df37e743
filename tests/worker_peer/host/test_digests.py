"""Known answers: the digests are the ones that everybody else computes."""

import hashlib

import pytest

from worker_peer.host.digests import ContentDigest, block_digest


def test_blake3_of_nothing_and_of_a_view() -> None:
    # The BLAKE3 authors' test vector for an empty input.
    assert block_digest(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert block_digest(memoryview(b"xabcx")[1:4]).hex() == "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"


def test_content_digest_streams() -> None:
    content = bytes(range(256)) * 1000
    digest = ContentDigest(with_md5=True)
    for start in range(0, len(content), 777):
        digest.update(memoryview(content)[start : start + 777])
    assert digest.length == len(content)
    assert digest.sha256() == "sha256:" + hashlib.sha256(content).hexdigest()
    assert digest.md5() == hashlib.md5(content).hexdigest()


def test_md5_only_where_asked_for() -> None:
    with pytest.raises(ValueError, match="md5"):
        ContentDigest().md5()
