"""REGISTER: what a download tells the supernode of what it wants and has."""

from wire.messages import Register
from worker_peer.api import DownloadRequest
from worker_peer.core.session_effects import RegisterTask


def registration(request: DownloadRequest, wanted: RegisterTask) -> Register:
    """The message. It carries the request's headers, which are secret."""
    layout = wanted.layout
    return Register(
        task=request.task,
        url=request.url,
        headers=request.headers,
        filters=request.filters,
        digest=request.wanted_digest,
        md5=request.md5,
        identifier=request.identifier,
        byte_range=(request.byte_range.first, request.byte_range.last) if request.byte_range else None,
        insecure=request.insecure,
        certificates=request.certificates,
        have=wanted.have.to_bytes() if wanted.have is not None else b"",
        length=layout.length if layout is not None else None,
        piece_length=layout.piece_length if layout is not None else 0,
        caller=request.caller,
        serves_only=wanted.serves_only,
    )
