"""Every client, by every way, against every guard: what is pulled is right, cold and warm, and the registry is asked once."""

import json
import re

import pytest

from tests.support.client_lab import GATEWAY, PORT, Client, ClientLab, Mode
from tests.support.guarded_registry import STRANGER, TOKENS_NAME, TOKENS_PORT, USER, Auth

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


@pytest.mark.parametrize("auth", list(Auth), ids=lambda auth: auth.value)
@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("client", list(Client), ids=lambda client: client.value)
def test_an_image_is_pulled_twice_and_read_once(clients: ClientLab, client: Client, mode: Mode, auth: Auth) -> None:
    repository = f"team/{client.value}-{mode.value}-{auth.value}"
    image = clients.registries.push(f"{repository}:1", [300_000])
    tunnels = clients.metric('tunnels_total{outcome="passed"}')
    assert clients.pull(client, mode, auth, repository) == image.id
    assert clients.pull(client, mode, auth, repository) == image.id
    # Through the gateway even where it sees nothing. Clients try TLS first where plain http is meant, too.
    assert mode is not Mode.TUNNEL or clients.metric('tunnels_total{outcome="passed"}') > tunnels
    for digest, size in image.blobs.items():
        given = [access.body_bytes for access in clients.registries.gets(auth, digest, repository)]
        # Nobody sees into a tunnel: each pull through it reads the registry.
        assert given == ([size, size] if mode is Mode.TUNNEL else [size]), f"{digest} left the registry: {given}"


def _where(mode: Mode, auth: Auth, path: str) -> list[str]:
    """curl's words for a path of a registry, by a way through the gateway."""
    match mode:
        case Mode.PROXY:
            return ["--proxy", GATEWAY, f"http://{auth.host}{path}"]
        case Mode.HIJACK:
            return ["--proxy", GATEWAY, f"https://{auth.host}{path}"]
        case Mode.TUNNEL:
            return ["--proxy", GATEWAY, f"https://{auth.tunnelled}{path}"]
        case _:
            return [f"{GATEWAY}{path}?ns={auth.host}"]


def _answer(clients: ClientLab, words: list[str], *headers: str) -> tuple[int, str, str]:
    """Status, challenge and digest of the body that curl gets."""
    told = [word for header in headers for word in ("-H", header)]
    # A file of its own: the head on stdout is compared.
    body = clients.directory / "body"
    curl = ["curl", "-sS", "--noproxy", "none", "--cacert", str(clients.trusted), "-D", "-", "-o", str(body)]
    done = clients.run([*curl, *told, *words], Mode.MIRROR)
    assert done.returncode == 0, done.stderr
    # A proxy's own answer to CONNECT comes first.
    head = done.stdout.replace("\r", "").strip().split("\n\n")[-1]
    challenge = re.search(r"(?im)^www-authenticate: (.*)$", head)
    digest = clients.host.run(["sha256sum", str(body)]).split()[0]
    return int(head.split()[1]), challenge[1] if challenge else "", f"sha256:{digest}"


def _token(clients: ClientLab, user: str, repository: str) -> str:
    """A bearer token for pulling, as its server gives it to that user."""
    url = f"https://{TOKENS_NAME}:{TOKENS_PORT}/token?scope=repository:{repository}:pull&service=test-registry"
    done = clients.run(["curl", "-sSf", "--cacert", str(clients.trusted), "-u", user, url], Mode.MIRROR)
    return f"Authorization: Bearer {json.loads(done.stdout)['token']}"


@pytest.mark.parametrize("auth", [Auth.BASIC, Auth.TOKEN], ids=lambda auth: auth.value)
def test_who_has_no_access_gets_the_registrys_refusal_from_a_warm_cache_in_every_mode(clients: ClientLab, auth: Auth) -> None:
    repository = f"team/private-{auth.value}"
    image = clients.registries.push(f"{repository}:1", [200_000])
    digest = max(image.blobs, key=lambda each: image.blobs[each])
    path = f"/v2/{repository}/blobs/{digest}"
    if auth is Auth.BASIC:
        mine = f"Authorization: Basic {clients.basic(USER)}"
        others = [(), (f"Authorization: Basic {clients.basic('alice:wrong')}",)]
    else:
        mine = _token(clients, USER, repository)
        others = [(), (_token(clients, STRANGER, repository),), ("Authorization: Bearer nonsense",)]
    for mode in Mode:
        assert _answer(clients, _where(mode, auth, path), mine) == (200, "", digest), mode
    warm = clients.registries.gets(auth, digest, repository)
    # Once for all that see the request, and once for the tunnel.
    assert len(warm) == 2, warm
    local = [f"http://localhost:{PORT}/v2/{auth.host}{path.removeprefix('/v2')}"]
    for other in others:
        straight = _answer(clients, [f"https://{auth.host}{path}"], *other)
        assert straight[0] == 401
        assert straight[1]
        for words in [*(_where(mode, auth, path) for mode in Mode), local]:
            got = _answer(clients, words, *other)
            # The realm may name the host that was asked; everything else is the registry's own.
            assert got[:2] == straight[:2], words
            assert got[2] != digest
    assert _answer(clients, local, mine) == (200, "", digest)
    # And in another repository, which this user may read, the registry has no such blob.
    elsewhere = f"/v2/team/elsewhere-{auth.value}/blobs/{digest}"
    own = mine if auth is Auth.BASIC else _token(clients, USER, f"team/elsewhere-{auth.value}")
    assert [_answer(clients, _where(mode, auth, elsewhere), own)[0] for mode in Mode] == [404] * 4
    assert len(clients.registries.gets(auth, digest, repository)) == 2


def test_a_client_without_access_fails_where_another_has_just_pulled(clients: ClientLab) -> None:
    repository = "team/private-pull"
    image = clients.registries.push(f"{repository}:1", [200_000])
    for mode in Mode:
        assert clients.pull(Client.SKOPEO, mode, Auth.TOKEN, repository) == image.id
        name = clients.image(Client.SKOPEO, mode, Auth.TOKEN, repository)
        words = ["skopeo", "--registries-conf", str(clients.directory / "registries.conf"), "--insecure-policy", "copy"]
        who = ["--src-creds", STRANGER, *(["--src-tls-verify=false"] if mode is Mode.PROXY else [])]
        if mode is Mode.MIRROR:
            # Credentials on the command line are not for mirrors: this one's are the file's.
            who = ["--src-authfile", str(clients.directory / "nobody.json")]
            (clients.directory / "nobody.json").write_text("{}")
        done = clients.run([*words, *who, "-q", f"docker://{name}", f"dir:{clients.directory}/never"], mode)
        assert done.returncode != 0
        assert "unauthorized" in done.stderr or "denied" in done.stderr or "authentication required" in done.stderr, done.stderr
