"""A client's request for a blob, as the peer's request for a content. Pure.

The task's id is derived in wire (a URL that names a digest is the task of that digest); what is chosen here is which
of the client's header fields reach the source.
"""

from dataclasses import dataclass, field

from gateway.core.headers import Headers, first, to_source
from gateway.core.rules import Decision, Trust
from worker_peer.api import DownloadRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadDefaults:
    """What every download of this gateway has in common (`dfget_flags` and the command line)."""

    filters: tuple[str, ...] = ()
    headers: Headers = field(default=(), repr=False)
    supernodes: tuple[str, ...] = ()
    rate: int = 0
    caller: str = "dfdaemon"
    trust: Trust = Trust()
    """For sources that no rule of the gateway speaks of."""


def download_request(decision: Decision, headers: Headers, defaults: DownloadDefaults) -> DownloadRequest:
    """The content that the client's request is about: the whole of it, whatever range the client wants."""
    mine = to_source(headers)
    trust = defaults.trust if decision.trust == Trust() else decision.trust
    # The client's own fields win over the operator's: a token of the client must never be replaced by somebody else's.
    added = tuple(each for each in defaults.headers if first(mine, each[0]) is None)
    return DownloadRequest(
        url=decision.url,
        headers=(*mine, *to_source(added)),
        filters=defaults.filters,
        insecure=trust.insecure,
        certificates=trust.certificates,
        supernodes=defaults.supernodes,
        caller=defaults.caller,
        rate=defaults.rate,
    )
