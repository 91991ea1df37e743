"""Who may change something over the supernode's HTTP, or see its jobs and stores: one door, as `preheat` in supernode.yml says.

Driver, Tornado.
"""

from hmac import compare_digest

from broker.http_handlers import ApiHandler, Told
from broker.preheat.config import PreheatConfig
from worker_peer.host.source_rules import basic_of


def may_enter(config: PreheatConfig, authorization: str, field: str) -> bool:
    """Whether a request with these values of Authorization and of the operator's own field may use the API of jobs."""
    if config.is_open:
        return True
    let_in = False
    # All are compared, and in constant time: how long it takes tells nothing.
    if config.basic:
        let_in |= _is_same(authorization, basic_of(config.basic))
    if config.bearer:
        let_in |= _is_same(authorization, f"Bearer {config.bearer}")
    if config.header:
        let_in |= _is_same(field, config.header.partition(":")[2].strip())
    return let_in


def _is_same(given: str, wanted: str) -> bool:
    kind, _, value = given.partition(" ")
    if value:
        given = f"{kind.title()} {value}"  # RFC 9110 §11.1: the scheme's case does not count
    return compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode("utf-8", "surrogateescape"))


class DoorHandler(ApiHandler):
    """A handler behind the door."""

    def prepare(self) -> None:
        """Refuses whom it must."""
        super().prepare()
        if self.parts.preheat is None:
            return
        config = self.parts.preheat.config
        name = config.header.partition(":")[0]
        field = self.request.headers.get(name, "") if name else ""
        if not may_enter(config, self.request.headers.get("Authorization", ""), field):
            if config.basic:
                self.set_header("WWW-Authenticate", 'Basic realm="supernode"')
            elif config.bearer:
                self.set_header("WWW-Authenticate", 'Bearer realm="supernode"')
            raise Told(401, "this supernode wants credentials for jobs: set them in the client, as preheat in supernode.yml says")
