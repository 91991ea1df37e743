"""Registries of every kind, and some that lie: what is found in an image, with which credentials, and what is refused."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.core.manifests import MAX_MANIFEST_BYTES, parse_platform
from broker.preheat.registry_client import Access, RegistryClient
from broker.preheat.resolver import Found, find_file, find_image
from tests.support.small_registry import INDEX, LAYER, OCI, SmallRegistry, described, digest_of, small_registry, task_of
from wire.errors import ErrorCode
from wire.ids import task_id
from worker_peer.host.allowed_hosts import AllowedHosts, parse_allowed
from worker_peer.host.clock import SystemClock
from worker_peer.host.source_rules import SourceError

A, B, C = b"a" * 10, b"b" * 20, b"c" * 30
BASIC = "Basic " + base64.b64encode(b"alice:secret").decode()


@pytest.fixture
async def registry() -> AsyncIterator[SmallRegistry]:
    async with small_registry() as made:
        yield made


class SteppedClock(SystemClock):
    """Goes on when it is told to."""

    __slots__ = ("ahead_s",)

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


class Client:
    """One for a test."""

    def __init__(self, allowed: AllowedHosts | None = None) -> None:
        self.clock = SteppedClock()
        self.inner = RegistryClient(clock=self.clock, user_agent="test/1", allowed=allowed or AllowedHosts())

    async def find(
        self, registry: SmallRegistry, access: Access | None = None, *platforms: str, tag: str = "1"
    ) -> dict[str, Found]:
        url = f"{registry.root}/v2/team/app/manifests/{tag}"
        found = await find_image(self.inner, url, tuple(map(parse_platform, platforms)), access or Access())
        assert all(each.places[0] == each.blob.url for each in found)
        return {each.blob.task: each for each in found}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    made = Client()
    yield made
    await made.inner.close()


def bearer(registry: SmallRegistry) -> None:
    """The registry wants a token."""
    registry.challenge = f'Bearer realm="{registry.root}/token",service="r",scope="repository:team/app:pull"'
    registry.wanted = "Bearer the-token"
    registry.token = {"token": "the-token", "expires_in": 100}


async def failure(client: Client, registry: SmallRegistry, access: Access | None = None, tag: str = "1") -> SourceError:
    with pytest.raises(SourceError) as caught:
        await client.find(registry, access, tag=tag)
    assert "secret" not in str(caught.value)
    return caught.value


async def test_manifest_config_and_layers_are_tasks_by_their_digests(client: Client, registry: SmallRegistry) -> None:
    digest = registry.image("team/app", "1", [A, B, A], config=C)
    found = await client.find(registry)
    assert found.keys() == {task_of(each) for each in (digest, digest_of(A), digest_of(B), digest_of(C))}
    blob = found[task_of(digest_of(A))].blob
    assert (blob.url, blob.size, blob.media_type) == (f"{registry.root}/v2/team/app/blobs/{digest_of(A)}", 10, LAYER)
    # The task that a pull has, by whatever URL it comes: S3's is an example.
    text = digest_of(A)[7:]
    signed = f"https://s3.example/docker/registry/v2/blobs/sha256/{text[:2]}/{text}/data?Signature=x"
    from wire.ids import digest_in_url

    assert blob.task == task_id(signed, digest=digest_in_url(signed))
    assert found[task_of(digest)].blob.url == f"{registry.root}/v2/team/app/manifests/{digest}"
    (asked,) = registry.asked
    assert INDEX in asked.accept
    assert OCI in asked.accept


async def test_an_index_one_platform_or_all_with_attestations(client: Client, registry: SmallRegistry) -> None:
    entries = []
    for content, platform in ((A, "linux/amd64"), (B, "linux/arm64"), (C, "unknown/unknown")):
        os, architecture = platform.split("/")
        digest = registry.image("team/app", "", [content], config=content + b"config")
        entries.append({"mediaType": OCI, "digest": digest, "size": 1, "platform": {"os": os, "architecture": architecture}})
    inner = registry.manifest("team/app", {"manifests": entries[:2]}, INDEX)
    nested = [
        {"mediaType": INDEX, "digest": inner, "size": 1},
        entries[2],
        {"mediaType": "application/x-other", **described(b"x", "")},
    ]
    nested[2]["mediaType"] = "application/x-other"
    registry.manifest("team/app", {"manifests": nested}, INDEX, "1")
    everything = await client.find(registry)
    assert {task_of(digest_of(each)) for each in (A, B, C)} < everything.keys()
    assert len(everything) == 2 + 3 * 3
    one = await client.find(registry, None, "linux/arm64/v8")
    assert task_of(digest_of(B)) in one
    assert not {task_of(digest_of(each)) for each in (A, C)} & one.keys()
    error = None
    try:
        await client.find(registry, None, "linux/s390x")
    except SourceError as caught:
        error = caught
    assert error is not None
    assert "no platform linux/s390x" in str(error)


async def test_zstd_foreign_layers_and_other_digests(client: Client, registry: SmallRegistry) -> None:
    foreign = described(
        B, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls=["https://cdn.example/b?sig=secret", "ftp://x"]
    )
    long = {"mediaType": LAYER, "digest": "sha512:" + "a" * 128, "size": 3}
    layers = [described(A, "application/vnd.oci.image.layer.v1.tar+zstd"), foreign, long]
    registry.manifest("team/app", {"config": described(C), "layers": layers}, tag="1")
    found = await client.find(registry)
    of_foreign = found[task_of(digest_of(B))]
    assert of_foreign.places == (f"{registry.root}/v2/team/app/blobs/{digest_of(B)}", "https://cdn.example/b?sig=secret")
    assert of_foreign.blob.places == 2
    other = next(each for each in found.values() if "sha512" in each.blob.url)
    assert other.blob.digest is None
    assert other.blob.task == task_id(other.blob.url)


async def test_schema_1(client: Client, registry: SmallRegistry) -> None:
    told = json.dumps({"schemaVersion": 1, "fsLayers": [{"blobSum": digest_of(A)}]}).encode()
    registry.raw_manifest("team/app", told, "application/vnd.docker.distribution.manifest.v1+prettyjws", "1")
    found = await client.find(registry)
    assert found.keys() == {task_of(digest_of(A))}


@pytest.mark.parametrize("authorization", [None, BASIC, "Bearer pull-token"])
async def test_the_token_flow(client: Client, registry: SmallRegistry, authorization: str | None) -> None:
    registry.image("team/app", "1", [A])
    bearer(registry)
    if authorization == BASIC:
        registry.token_wants = BASIC
    access = Access(headers=(("Authorization", authorization), ("X-Own", "1")) if authorization else ())
    assert await client.find(registry, access)
    first, asked, again = registry.asked
    assert first.authorization == (authorization or "")
    assert (asked.path, asked.query) == ("/token", "service=r&scope=repository:team/app:pull")
    assert asked.authorization == (BASIC if authorization == BASIC else ""), "a token of the registry's is no token server's"
    assert again.authorization == "Bearer the-token"
    assert ("Authorization", "Bearer the-token") in access.request_headers()
    # It is used until it is about to end.
    await client.inner.refresh(registry.root, access)
    assert len(registry.asked) == 3
    client.clock.ahead_s = 95.0
    await client.inner.refresh(registry.root, access)
    assert [each.path for each in registry.asked[3:]] == ["/token"]


async def test_the_operator_s_credentials_are_used_where_the_caller_has_none(client: Client, registry: SmallRegistry) -> None:
    registry.image("team/app", "1", [A])
    registry.challenge, registry.wanted = 'Basic realm="r"', BASIC
    assert await client.find(registry, Access(basic=BASIC))
    own = "Basic " + base64.b64encode(b"bob:x").decode()
    error = await failure(client, registry, Access(basic=BASIC, headers=(("authorization", own),)))
    assert (error.code, error.status) == (ErrorCode.SOURCE_NEEDS_AUTH, 401)


async def test_tokens_that_are_not_given(client: Client, registry: SmallRegistry) -> None:
    registry.image("team/app", "1", [A])
    bearer(registry)
    registry.token = None
    error = await failure(client, registry, Access(headers=(("Authorization", BASIC),)))
    assert error.code is ErrorCode.SOURCE_NEEDS_AUTH
    assert "gives no token (HTTP 401): check the name and password" in str(error)
    registry.token = {"token": "another"}
    error = await failure(client, registry)
    assert error.status == 401
    registry.challenge = "Negotiate"
    assert (await failure(client, registry)).status == 401


async def test_credentials_do_not_follow_a_redirect_to_another_origin(client: Client, registry: SmallRegistry) -> None:
    async with small_registry() as other:
        digest = registry.image("team/app", "2", [A])
        path = f"/v2/team/app/manifests/{digest}"
        other.answers[path] = registry.answers[path]
        registry.redirects["/v2/team/app/manifests/1"] = f"{other.root}{path}"
        await client.find(registry, Access(headers=(("Authorization", BASIC), ("X-Api-Key", "secret"), ("X-Plain", "1"))))
        (asked,) = other.asked
        assert asked.authorization == ""
        registry.redirects[path] = path
        error = await failure(client, registry, tag=digest)
        assert "redirected more than 5 times" in str(error)


async def test_hosts_that_are_not_allowed_are_not_asked_nor_followed_to(registry: SmallRegistry) -> None:
    async with small_registry() as other:
        registry.image("team/app", "2", [A])
        registry.redirects["/v2/team/app/manifests/1"] = f"{other.root}/v2/team/app/manifests/1"
        guarded = Client(parse_allowed((f"127.0.0.1:{registry.port}",)))
        # 127.0.0.1 with a port is a name here; the literal address is looked at all the same.
        assert await guarded.find(registry, tag="2")
        error = await failure(guarded, registry)
        assert error.code is ErrorCode.SOURCE_FORBIDDEN
        assert "preheat.allow" in str(error)
        assert other.asked == []
        registry.challenge, registry.wanted = f'Bearer realm="{other.root}/token"', "x"
        assert (await failure(guarded, registry, tag="2")).code is ErrorCode.SOURCE_FORBIDDEN
        assert other.asked == [], "nor is a token server"
        with pytest.raises(SourceError, match=r"preheat\.allow"):
            await guarded.inner.check("http://localhost:1/x")
        await guarded.inner.close()


async def test_link_local_addresses_are_never_asked(client: Client) -> None:
    for url in ("http://169.254.169.254/latest/meta-data", "http://[fe80::1]/x", "http://0.0.0.0/x"):
        with pytest.raises(SourceError, match="which no registry has"):
            await client.inner.check(url)
        with pytest.raises(SourceError, match="which no registry has"):
            await client.inner.manifest(url, Access())
    await client.inner.check("http://127.0.0.1/x")
    await client.inner.check("http://no-such-host.invalid/x")


async def test_a_registry_that_gives_another_manifest_is_found_out(client: Client, registry: SmallRegistry) -> None:
    registry.image("team/app", "1", [A])
    wanted = "sha256:" + "f" * 64
    registry.answers[f"/v2/team/app/manifests/{wanted}"] = registry.answers["/v2/team/app/manifests/1"]
    assert "not sha256:fff" in str(await failure(client, registry, tag=wanted))
    registry.digest_header = "sha256:" + "e" * 64
    assert "not sha256:eee" in str(await failure(client, registry))


async def test_bounds(client: Client, registry: SmallRegistry) -> None:
    registry.raw_manifest("team/app", b" " * (MAX_MANIFEST_BYTES + 1), OCI, "1")
    error = await failure(client, registry)
    assert error.code is ErrorCode.TOO_LARGE
    assert "4 MiB" in str(error)
    deepest = registry.image("team/app", "", [A])
    for _ in range(5):
        deepest = registry.manifest("team/app", {"manifests": [{"mediaType": INDEX, "digest": deepest, "size": 1}]}, INDEX, "1")
    assert "deeper than 3" in str(await failure(client, registry))
    many = [{"mediaType": OCI, "digest": f"sha256:{number:064x}", "size": 1} for number in range(600)]
    registry.manifest("team/app", {"manifests": many}, INDEX, "1")
    assert await failure(client, registry)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:1/v2/a/manifests/1", "cannot be reached"),
        ("http://no-such-host.invalid/v2/a/manifests/1", "cannot be reached"),
    ],
)
async def test_a_registry_that_is_not_there(client: Client, url: str, told: str) -> None:
    with pytest.raises(SourceError, match=told) as caught:
        await find_image(client.inner, url, (), Access())
    assert caught.value.code is ErrorCode.SOURCE_UNREACHABLE
    assert caught.value.retryable


def test_a_file() -> None:
    (found,) = find_file("http://h/f?a=1&sig=secret", filters=("sig",), identifier="me")
    assert found.blob.task == task_id("http://h/f?a=1&sig=secret", filters=("sig",), identifier="me")
    assert found.blob.url == "http://h/f?..."
    assert found.places == ("http://h/f?a=1&sig=secret",)
    digest = digest_of(A)
    (by_digest,) = find_file(f"http://h/v2/a/blobs/{digest}", filters=(), identifier=None)
    assert by_digest.blob.task == task_of(digest)


def test_secrets_are_not_shown() -> None:
    told: Any = repr(Access(headers=(("Authorization", BASIC),), basic=BASIC, token="secret-token"))
    assert "secret" not in told
    assert BASIC not in told
