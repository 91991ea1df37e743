"""The gateway as a registry of its own name: `docker pull localhost:65001/<registry>/<name>:<tag>`.

A client asks /v2/ which authentication there is before it says which image it wants. So the gateway answers with a
challenge of its own, and when a token is asked for, whose scope names the image, it asks the image's registry in turn: a
token of that registry's server is passed on as it is; a user's name and password for a registry with basic authentication
travel in the token, which names it; a registry that wants nothing gets nothing. Nothing of it is kept here.

All registries share one name here, so a client may send the credentials of one while it asks for an image of another. A
name `user@registry` is for that registry alone, whose server of tokens is the only other place that it reaches.
"""

import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qsl, urlencode

from gateway.client import Answer, ClientRequest
from gateway.core.gate import NotServed
from gateway.core.headers import Headers, first, to_upstream
from gateway.core.images import canonical_host
from gateway.core.mirror_target import host_in_name, scope_target
from gateway.core.rules import Decision, parse_authority
from gateway.upstream import Upstream, UpstreamBroke, UpstreamFailed, host_of

TOKEN_PATH: Final = "/_damselfly/token"  # noqa: S105
_PING_PATHS: Final = frozenset({"/v2/", "/v2"})
_SERVICE: Final = "damselfly"
_BASIC_TOKEN: Final = "damselfly-basic."  # noqa: S105
_NO_TOKEN: Final = "damselfly-anonymous"  # noqa: S105
_PARAMETER: Final = re.compile(r'([A-Za-z_]+)="([^"]*)"')
_MAX_TOKEN_BYTES: Final = 1 << 20
_JSON: Final[Headers] = (("Content-Type", "application/json"), ("Docker-Distribution-Api-Version", "registry/2.0"))
_REFUSED: Final = json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]})

#: `host[:port]` (empty: the mirror's), and a path, or the URL of its server of tokens, to the decision that asks it.
Resolve = Callable[[str, str], Awaitable[Decision]]


def is_own_name(headers: Headers) -> bool:
    """Whether the client calls this gateway by the name that makes it a registry."""
    authority = parse_authority(first(headers, "Host") or "", default_port=80)
    return authority is not None and authority.host == "localhost"


def with_registry_credentials(headers: Headers, place: str | None) -> Headers:
    """A client's fields for a registry in an image's name: this gateway's own tokens become what the registry knows.

    `place`: the registry (empty: the mirror's; None: it was not asked for by name). A token for another one ends here.
    """
    return tuple(each for name, value in headers for each in _translated(name, value, place))


def _translated(name: str, value: str, place: str | None) -> Headers:
    scheme, _, token = value.partition(" ")
    if name.lower() != "authorization" or scheme.lower() != "bearer":
        return ((name, value),)
    token = token.strip()
    if token == _NO_TOKEN:
        return ()
    if not token.startswith(_BASIC_TOKEN):
        return ((name, value),)
    of, _, basic = token.removeprefix(_BASIC_TOKEN).partition(".")
    return ((name, f"Basic {basic}"),) if place is not None and of == _sealed(place) else ()


def _sealed(place: str) -> str:
    """A registry's name in characters of a token (RFC 6750 §2.1)."""
    return base64.urlsafe_b64encode(place.lower().encode()).decode().rstrip("=")


class LocalRegistry:
    """Answers /v2/ and the tokens' path."""

    def __init__(self, upstream: Upstream, resolve: Resolve) -> None:
        self._upstream = upstream
        self._resolve = resolve

    def serves(self, request: ClientRequest) -> bool:
        """Whether this request is for this part."""
        path = request.target.partition("?")[0]
        return path == TOKEN_PATH or (path in _PING_PATHS and is_own_name(request.headers))

    async def answer(self, request: ClientRequest, answer: Answer, *, scheme: str) -> None:
        """Answer. `scheme`: by which the client has come. Raises ClientGone."""
        path, _, query = request.target.partition("?")
        if path == TOKEN_PATH:
            await self._token(request, query, answer)
        elif first(request.headers, "Authorization") is not None:
            await answer.say(200, "OK", "{}", _JSON)
        else:
            realm = f"{scheme}://{first(request.headers, 'Host')}{TOKEN_PATH}"
            challenge = ("WWW-Authenticate", f'Bearer realm="{realm}",service="{_SERVICE}"')
            await answer.say(401, "Unauthorized", _REFUSED, (*_JSON, challenge))

    async def _token(self, request: ClientRequest, query: str, answer: Answer) -> None:
        asked = parse_qsl(query)
        found = next((named for key, value in asked if key == "scope" and (named := scope_target(value)) is not None), None)
        if found is None:
            # A login: there is no image yet, so nobody to ask. The first pull shows what the password is worth.
            await _say_token(answer, _NO_TOKEN)
            return
        place, scope = found
        try:
            await self._token_of(request, place, scope, asked, answer)
        except NotServed as error:
            refusal = error.refusal
            await answer.say(refusal.status, refusal.reason, refusal.text, refusal.headers)
        except (UpstreamFailed, UpstreamBroke) as error:
            await answer.say(502, "Bad Gateway", str(error))

    async def _token_of(
        self, request: ClientRequest, place: str, scope: str, asked: list[tuple[str, str]], answer: Answer
    ) -> None:
        decision = await self._resolve(place, "/v2/")
        basic = _basic_of(request.headers, place, host_of(decision.url))
        challenge = await self._challenge(decision)
        if challenge is None:
            await _say_token(answer, _NO_TOKEN)
        elif challenge.lower().startswith("bearer "):
            kept = [pair for pair in asked if pair[0] in ("account", "client_id", "offline_token")]
            wanted = [("scope", scope), *kept]
            await self._ask(challenge, place, decision.url, wanted, basic, answer)
        elif basic is not None:
            await _say_token(answer, f"{_BASIC_TOKEN}{_sealed(place)}.{basic}")
        else:
            # Without a name it may still be that this image is for everybody.
            await _say_token(answer, _NO_TOKEN)

    async def _challenge(self, decision: Decision) -> str | None:
        """The registry's WWW-Authenticate, None: it wants none. Raises UpstreamFailed."""
        headers = to_upstream((("User-Agent", "damselfly"),), host=host_of(decision.url))
        async with self._upstream.request("GET", decision.url, headers, decision.trust) as response:
            return first(response.headers, "WWW-Authenticate") if response.status == 401 else None

    async def _ask(
        self, challenge: str, place: str, registry: str, wanted: list[tuple[str, str]], basic: str | None, answer: Answer
    ) -> None:
        """Ask the server of tokens that a registry (its URL) has named."""
        told = dict(_PARAMETER.findall(challenge))
        realm = told.get("realm", "").partition("#")[0]
        if not re.match(r"https?://[^/]+", realm, re.IGNORECASE):
            await answer.say(502, "Bad Gateway", "dfdaemon: the registry's challenge names no server of tokens\n")
            return
        if registry.startswith("https:") and not realm.lower().startswith("https:"):
            text = "dfdaemon: the registry speaks TLS and sends its clients to a server of tokens that does not\n"
            await answer.say(502, "Bad Gateway", text)
            return
        pairs = [("service", told["service"])] if "service" in told else []
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode([*pairs, *wanted])}"
        decision = await self._resolve(place, url)
        sent: Headers = (("User-Agent", "damselfly"), *((("Authorization", f"Basic {basic}"),) if basic else ()))
        headers = to_upstream(sent, host=host_of(url))
        async with self._upstream.request("GET", url, headers, decision.trust, led_by=registry) as response:
            body = b""
            async for chunk in response.chunks():
                body += chunk
                if len(body) > _MAX_TOKEN_BYTES:
                    raise UpstreamBroke("the token is larger than any token")
            typed = (("Content-Type", first(response.headers, "Content-Type") or "application/json"),)
            await answer.say(response.status, response.reason, body.decode("utf-8", "replace"), typed)


def _basic_of(headers: Headers, place: str, host: str) -> str | None:
    """The client's name and password for a registry, `host` as it is asked and `place` as the client names it (empty: the
    mirror's). A name `user@registry` means `user` there, and nobody anywhere else; a port is written `registry__port`."""
    scheme, _, coded = (first(headers, "Authorization") or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(coded.strip()).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, mark, registry = user.rpartition("@")
    meant = host_in_name(registry.lower()) if mark else None
    if meant is None:
        return coded.strip()
    known = {canonical_host(each.lower()) for each in (place, host) if each}
    return base64.b64encode(f"{name}:{password}".encode()).decode() if canonical_host(meant) in known else None


async def _say_token(answer: Answer, token: str) -> None:
    text = json.dumps({"token": token, "access_token": token, "expires_in": 300})
    await answer.say(200, "OK", text, (*_JSON, ("Cache-Control", "no-store")))
