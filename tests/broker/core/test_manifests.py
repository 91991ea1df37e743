"""Every kind of manifest that registries give, and what is none."""

import json
from typing import Any

import pytest

from broker.core.manifests import (
    ACCEPT,
    Descriptor,
    ManifestError,
    Platform,
    is_digest,
    parse_manifest,
    parse_platform,
)

OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def content(number: int, media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(number), "size": number, **more}


def entry(number: int, platform: str, media_type: str = OCI) -> dict[str, Any]:
    os, architecture, *variant = platform.split("/")
    named = {"os": os, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
    return {**content(number, media_type), "platform": named}


def body(**document: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, **document}).encode()


@pytest.mark.parametrize("kind", [OCI, DOCKER])
def test_config_and_layers_of_any_media_type(kind: str) -> None:
    layers = [
        content(2),
        content(3, "application/vnd.oci.image.layer.v1.tar+zstd"),
        content(4, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", urls=["https://cdn.example/a"]),
        content(5, "application/x-nobody-knows"),
        content(2),
    ]
    found = parse_manifest(body(mediaType=kind, config=content(1, "application/x-config"), layers=layers), kind)
    assert [each.digest for each in found.blobs] == [digest(number) for number in (1, 2, 3, 4, 5)]
    assert [each.size for each in found.blobs] == [1, 2, 3, 4, 5]
    assert found.blobs[3].urls == ("https://cdn.example/a",)
    assert found.manifests == ()
    assert found.is_addressed


def test_an_artifact_with_an_empty_config_and_the_withdrawn_artifact_manifest() -> None:
    empty = content(1, "application/vnd.oci.empty.v1+json", data="e30=")
    assert len(parse_manifest(body(config=empty, layers=[content(2)], artifactType="a/b"), OCI).blobs) == 2
    assert [each.digest for each in parse_manifest(body(blobs=[content(3)]), ARTIFACT).blobs] == [digest(3)]


def test_schema_1_names_layers_without_sizes_and_is_not_addressed() -> None:
    told = json.dumps({"schemaVersion": 1, "fsLayers": [{"blobSum": digest(1)}, {"blobSum": digest(2)}, {"blobSum": digest(1)}]})
    for kind in (SCHEMA_1, "application/json", "text/plain"):
        found = parse_manifest(told.encode(), kind)
        assert [(each.digest, each.size) for each in found.blobs] == [(digest(1), None), (digest(2), None)]
        assert not found.is_addressed


@pytest.mark.parametrize("kind", [INDEX, DOCKER_LIST])
def test_an_index_and_its_platforms(kind: str) -> None:
    entries = [
        entry(1, "linux/amd64"),
        entry(2, "linux/arm64/v8"),
        entry(3, "linux/arm/v7"),
        entry(4, "linux/arm/v6"),
        entry(5, "unknown/unknown"),
        entry(6, "windows/amd64", DOCKER),
    ]
    found = parse_manifest(body(mediaType=kind, manifests=entries), kind)
    assert found.blobs == ()

    def chosen(*names: str) -> list[int]:
        return [int(each.digest[7:], 16) for each in found.chosen(tuple(map(parse_platform, names)))]

    assert chosen() == [1, 2, 3, 4, 5, 6], "all, attestations too"
    assert chosen("linux/amd64") == [1]
    assert chosen("linux/arm64") == chosen("linux/arm64/v8") == [2]
    assert chosen("linux/arm") == chosen("linux/arm/v7") == [3]
    assert chosen("linux/arm/v6", "LINUX/AMD64") == [4, 1]
    with pytest.raises(ManifestError, match=r"no platform linux/s390x; it has linux/amd64, linux/arm/v6"):
        chosen("linux/amd64", "linux/s390x")


def test_an_index_in_an_index_is_read_whatever_the_platform() -> None:
    found = parse_manifest(body(manifests=[content(1, INDEX), content(2, "application/x-other")]), INDEX)
    assert [each.is_manifest for each in found.chosen((parse_platform("linux/amd64"),))] == [True]
    assert [each.is_manifest for each in found.manifests] == [True, False]


def test_the_platform_filter_does_not_concern_a_manifest() -> None:
    found = parse_manifest(body(config=content(1), layers=[]), OCI)
    assert found.chosen((parse_platform("linux/s390x"),)) == ()


def test_variants() -> None:
    amd = Platform(os="linux", architecture="amd64", variant="v2")
    assert not amd.matches(parse_platform("linux/amd64"))
    assert amd.matches(parse_platform("linux/amd64/v2"))
    assert Platform(os="linux", architecture="ppc64le", variant="power9").matches(parse_platform("linux/ppc64le"))
    assert str(amd) == "linux/amd64/v2"


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        (b"not json", OCI, "no JSON"),
        (b"[" * 100_000, OCI, "no JSON"),
        (b"[]", OCI, "no manifest"),
        (body(), "text/html", "no manifest that is known"),
        (body(layers=[]), OCI, "names no blob"),
        (body(config=content(1), layers=[], manifests=[]), OCI, "both"),
        (body(config=content(1), layers={}), OCI, "names no blob|no list"),
        (body(config=content(1), layers="x"), OCI, "no list"),
        (body(config=content(1), layers=[1]), OCI, "no descriptors"),
        (body(config="x", layers=[]), OCI, "no descriptor"),
        (body(config={**content(1), "digest": "sha256:../../etc/passwd"}), OCI, "without a digest"),
        (body(config={**content(1), "digest": None}), OCI, "without a digest"),
        (body(config={**content(1), "size": -1}), OCI, "without its size"),
        (body(config={**content(1), "size": True}), OCI, "without its size"),
        (body(config={**content(1), "size": "1"}), OCI, "without its size"),
        (body(config=content(1, urls="http://x")), OCI, "urls"),
        (body(config=content(1, urls=[1])), OCI, "urls"),
        (json.dumps({"schemaVersion": 1, "fsLayers": [{}]}).encode(), SCHEMA_1, "without a digest"),
    ],
)
def test_what_is_no_manifest(text: bytes, kind: str, told: str) -> None:
    if text == body(config=content(1), layers={}):
        assert len(parse_manifest(text, kind).blobs) == 1, "nothing is nothing, however it is spelled"
        return
    with pytest.raises(ManifestError, match=told):
        parse_manifest(text, kind)


def test_the_body_tells_its_type_where_the_registry_does_not() -> None:
    assert parse_manifest(body(mediaType=DOCKER_LIST, manifests=[content(1, OCI)]), "application/json").media_type == DOCKER_LIST
    assert parse_manifest(body(manifests=[content(1, OCI)]), "").media_type == INDEX
    assert parse_manifest(body(layers=[content(1)]), "application/octet-stream").media_type == OCI
    assert parse_manifest(body(layers=[content(1, 7)]), OCI).blobs[0].media_type == ""  # type: ignore[arg-type]


@pytest.mark.parametrize("told", [None, "x", {"os": 1, "architecture": "a"}, {"os": "x" * 65, "architecture": "a"}])
def test_a_platform_that_is_none_is_no_platform(told: Any) -> None:
    found = parse_manifest(body(manifests=[content(1, OCI, platform=told)]), INDEX)
    assert found.manifests[0].platform is None
    with pytest.raises(ManifestError, match="none that is named"):
        found.chosen((parse_platform("linux/amd64"),))


@pytest.mark.parametrize("text", ["linux", "", "linux/", "linux/amd64/v1/x", "linux/am d64", "a/b\n"])
def test_what_is_no_platform(text: str) -> None:
    if text == "a/b\n":
        assert parse_platform(text) == Platform(os="a", architecture="b")
        return
    with pytest.raises(ValueError, match="no platform"):
        parse_platform(text)


def test_digests_and_the_accept_field() -> None:
    assert is_digest(digest(1))
    assert is_digest("sha512:" + "a" * 128)
    assert not is_digest("latest")
    assert not is_digest("sha256:short")
    for kind in (OCI, INDEX, DOCKER, DOCKER_LIST, SCHEMA_1):
        assert kind in ACCEPT
    assert Descriptor(digest=digest(1), size=1, media_type="").is_manifest
