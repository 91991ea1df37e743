"""Kraken's side of a registry: /health and /registry/notifications, for Harbor's Kraken driver and docker-registry itself.

A notification of docker's ("envelope" of events) names what was pushed; each pushed manifest becomes a job. There is
nothing to poll: who wants to know how it ended asks /jobs. Credentials are not in a notification, so they are the
operator's (preheat.credentials in supernode.yml).
"""

from typing import Any, Final

from broker.core.image_name import parse_manifest_url
from broker.core.manifests import Descriptor, is_digest
from broker.http_handlers import ApiHandler, Told
from broker.preheat.http_common import JobHandler, request_of

_MAX_EVENTS: Final = 500


class _Health(ApiHandler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("OK")


class _Notifications(JobHandler):
    async def post(self) -> None:
        events = self.document().get("events")
        if not isinstance(events, list) or len(events) > _MAX_EVENTS or not all(isinstance(each, dict) for each in events):
            raise Told(400, f"events must be a list of at most {_MAX_EVENTS} events")
        urls = dict.fromkeys(filter(None, map(_pushed, events)))
        requests = [request_of({"type": "image", "url": url}, asked_by="notification") for url in urls]
        jobs = [self.begin(request) for request in requests]
        await self.preheat.on_disk()
        self.finish({"jobs": [job.number for job in jobs]})


def _pushed(event: dict[str, Any]) -> str:
    """The URL of the manifest that an event says was pushed; empty: it says something else."""
    target = event.get("target")
    if event.get("action") != "push" or not isinstance(target, dict):
        return ""
    url, digest, media_type = (target.get(key) for key in ("url", "digest", "mediaType"))
    if not isinstance(url, str) or not isinstance(media_type, str) or len(url) > 16384:
        return ""
    # Layers and configs are told of too: they come with their manifest.
    if not Descriptor(digest="", size=None, media_type=media_type).is_manifest:
        return ""
    try:
        image = parse_manifest_url(url)
    except ValueError:
        return ""
    # What was pushed, though the tag may have moved since.
    return image.manifest(digest) if isinstance(digest, str) and is_digest(digest) else url


ROUTES: Final[list[tuple[str, type[ApiHandler]]]] = [
    (r"/health", _Health),
    (r"/registry/notifications", _Notifications),
]
