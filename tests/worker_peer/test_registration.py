"""REGISTER says all that the user asked for, and what is here."""

from wire.bitmap import PieceSet
from wire.ids import ByteRange
from wire.messages import Register
from wire.pieces import PieceLayout
from worker_peer.api import DownloadRequest
from worker_peer.core.session_effects import RegisterTask
from worker_peer.registration import registration

NOTHING = RegisterTask(have=None, layout=None, serves_only=False)


def test_a_url_alone() -> None:
    request = DownloadRequest(url="http://h/f")
    assert registration(request, NOTHING) == Register(task=request.task, url="http://h/f")


def test_everything_that_can_be_asked_for() -> None:
    digest = "sha256:" + "1" * 64
    request = DownloadRequest(
        url="http://h/f?Signature=secret",
        headers=(("Authorization", "Bearer secret"),),
        filters=("Signature",),
        digest=digest,
        md5="0" * 32,
        identifier="mine",
        insecure=True,
        certificates=(b"pem",),
        caller="dfdaemon",
    )
    layout = PieceLayout(3 * 4096, 4096, 1024)
    wanted = RegisterTask(have=PieceSet.of(3, [0, 2]), layout=layout, serves_only=True)
    assert registration(request, wanted) == Register(
        task=request.task,
        url="http://h/f?Signature=secret",
        headers=(("Authorization", "Bearer secret"),),
        filters=("Signature",),
        digest=digest,
        md5="0" * 32,
        identifier="mine",
        insecure=True,
        certificates=(b"pem",),
        have=PieceSet.of(3, [0, 2]).to_bytes(),
        length=3 * 4096,
        piece_length=4096,
        caller="dfdaemon",
        serves_only=True,
    )


def test_a_part_is_named_and_the_wholes_digest_is_none_of_its_own() -> None:
    request = DownloadRequest(url="http://h/f", digest="sha256:" + "1" * 64, byte_range=ByteRange(5, 99))
    told = registration(request, NOTHING)
    assert (told.byte_range, told.digest) == ((5, 99), None)
    open_ended = DownloadRequest(url="http://h/f", byte_range=ByteRange(5, None))
    assert registration(open_ended, NOTHING).byte_range == (5, None)


def test_a_digest_in_the_url_is_the_wanted_one() -> None:
    hexadecimal = "2" * 64
    request = DownloadRequest(url=f"http://r/v2/x/blobs/sha256:{hexadecimal}?Signature=secret")
    assert registration(request, NOTHING).digest == request.wanted_digest == f"sha256:{hexadecimal}"
