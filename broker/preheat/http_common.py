"""What the dialects of the job API share: how a request's document becomes a PreheatRequest.

Driver, Tornado. Nothing that a caller sends is trusted: sizes, types and URLs are looked at here, once for all dialects.
"""

from datetime import UTC, datetime
from typing import Any, Final

from broker.api_door import DoorHandler
from broker.core.image_name import manifest_url_of, parse_manifest_url
from broker.core.manifests import Platform, parse_platform
from broker.core.preheat_records import Job
from broker.http_handlers import Told
from broker.preheat.service import Preheat, PreheatRequest, TooMany
from worker_peer.host.source_rules import HeaderPairs, SourceError, basic_of, request_headers, target_of

_MAX_URL: Final = 16384
_MAX_HEADERS: Final = 100
_MAX_PLATFORMS: Final = 32
_MAX_HOSTS: Final = 10_000
_MAX_CERTIFICATES: Final = 32


class JobHandler(DoorHandler):
    """A handler of jobs."""

    @property
    def preheat(self) -> Preheat:
        """The jobs."""
        assert self.parts.preheat is not None
        return self.parts.preheat

    def begin(self, request: PreheatRequest) -> Job:
        """The request's job."""
        try:
            return self.preheat.ask(request)
        except TooMany as error:
            raise Told(503, str(error)) from None

    def found(self, name: str) -> Job | None:
        """The job of a number or of a key."""
        if len(name) == 64:
            return self.preheat.core.newest(name)
        if name.isascii() and name.isdigit() and len(name) < 16:
            return self.preheat.core.jobs.get(int(name))
        return None


def text_of(told: dict[str, Any], key: str, most: int = 1024) -> str:
    """A text of a document; empty where it is not there."""
    value = told.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most:
        raise Told(400, f"{key} must be a text of at most {most} characters")
    return value


def request_of(told: dict[str, Any], *, asked_by: str, **more: Any) -> PreheatRequest:
    """`type`, `url`, `headers`, `filter` and `identifier` as all dialects have them; `more` of PreheatRequest's own."""
    kind = text_of(told, "type")
    if kind not in ("image", "file"):
        raise Told(400, "type must be image or file")
    url = text_of(told, "url", _MAX_URL)
    if len(url) < 3:
        raise Told(400, "url must be a URL")
    try:
        target_of(url)
        if kind == "image":
            parse_manifest_url(url.partition("?")[0])
    except (SourceError, ValueError) as error:
        raise Told(400, str(error)) from None
    request = PreheatRequest(
        kind=kind,
        url=url,
        headers=headers_of(told.get("headers")),
        filter=text_of(told, "filter"),
        identifier=text_of(told, "identifier"),
        asked_by=asked_by,
        **more,
    )
    if len(request.filters) > 64 or any(len(each) > 256 for each in request.filters):
        raise Told(400, "filter must be at most 64 names of at most 256 characters, & between them")
    return request


def headers_of(told: Any) -> HeaderPairs:
    """Headers as a map; a value may be a list of values."""
    if told is None:
        return ()
    if not isinstance(told, dict):
        raise Told(400, "headers must be a map of names to values")
    pairs: list[tuple[str, str]] = []
    for name, value in told.items():
        for each in value if isinstance(value, list) else [value]:
            if each is None:
                continue
            if not isinstance(each, str | int | float):
                raise Told(400, f"headers: the value of {name[:64]!r} must be a text")
            pairs.append((name, str(each)))
    if len(pairs) > _MAX_HEADERS or any(len(name) > 256 or len(value) > _MAX_URL for name, value in pairs):
        raise Told(400, f"headers must be at most {_MAX_HEADERS}, each of at most {_MAX_URL} characters")
    try:
        request_headers(tuple(pairs), "", None)
    except SourceError as error:
        raise Told(400, str(error)) from None
    return tuple(pairs)


def with_password(headers: HeaderPairs, name: str, password: str) -> HeaderPairs:
    """The headers with a name and password, where they bring no Authorization of their own."""
    if not name or any(each[0].lower() == "authorization" for each in headers):
        return headers
    return (*headers, ("Authorization", basic_of(f"{name}:{password}")))


def platforms_of(told: Any) -> tuple[Platform, ...]:
    """One platform, several with commas between, or a list of them. `all` is none: all of them."""
    texts = told.split(",") if isinstance(told, str) else told or []
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts) or len(texts) > _MAX_PLATFORMS:
        raise Told(400, f"platforms must be a list of at most {_MAX_PLATFORMS} texts")
    try:
        return tuple(parse_platform(each) for each in texts if each.strip() not in ("", "all"))
    except ValueError as error:
        raise Told(400, str(error)) from None


def hosts_of(told: Any) -> str:
    """A scope of named hosts."""
    texts = told.split(",") if isinstance(told, str) else told or []
    if not isinstance(texts, list) or len(texts) > _MAX_HOSTS or not all(isinstance(each, str) for each in texts):
        raise Told(400, f"hosts must be a list of at most {_MAX_HOSTS} names or addresses")
    names = [each.strip() for each in texts if each.strip()]
    if any(len(each) > 256 or "," in each for each in names):
        raise Told(400, "a host's name or address has at most 256 characters, and no comma")
    return ",".join(names)


def certificates_of(told: Any) -> tuple[bytes, ...]:
    """PEM texts."""
    texts = [told] if isinstance(told, str) else told or []
    if not isinstance(texts, list) or len(texts) > _MAX_CERTIFICATES:
        raise Told(400, f"certificates must be a list of at most {_MAX_CERTIFICATES} PEM texts")
    for each in texts:
        if not isinstance(each, str) or not each.isascii() or not 0 < len(each) <= 1 << 16:
            raise Told(400, "a certificate must be a PEM text of at most 64 KiB")
    return tuple(each.encode() for each in texts)


def image_or_url(told: dict[str, Any]) -> dict[str, Any]:
    """A document in which `image`, docker's name, stands for `url`."""
    image = text_of(told, "image")
    if not image or told.get("url"):
        return told
    try:
        return {**told, "type": "image", "url": manifest_url_of(image, plain_http=told.get("plain_http") is True)}
    except ValueError as error:
        raise Told(400, str(error)) from None


def rfc3339(at: float, *, milliseconds: bool = True) -> str:
    """Unix seconds as `2006-01-02T15:04:05.000Z`; 0 is 1970."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds" if milliseconds else "seconds")
    return text.replace("+00:00", "Z")


def reason(job: Job) -> str:
    """Why a job is not SUCCESS, as dialects tell it that know no PARTIAL and no STOPPED."""
    if not job.error:
        return ""
    return f"{job.state.name}: {job.error}" if job.state.name in ("PARTIAL", "STOPPED") else job.error
