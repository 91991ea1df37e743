"""Three registries over one storage: one for everybody, one with basic authentication, one with tokens. Each by http and https.

<auth>.test and t-<auth>.test lead to the same registry; no rule of a test's gateway opens the second name. What leaves them
is written down, per registry.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from tests.support.access_log import Access, read_accesses
from tests.support.certs import KeyPair, self_signed
from tests.support.image import Image
from tests.support.netlab import LabHost
from tests.support.processes import REPOSITORY, Processes, RunningProcess
from tests.support.token_server import ISSUER, SERVICE

TOKENS_NAME: Final = "auth.test"
TOKENS_PORT: Final = 5443
#: Reads everything of the two guarded registries.
USER: Final = "alice:secret"
#: Knows his password, and may read nothing that the tests push.
STRANGER: Final = "bob:secret"
_FIRST_PORT: Final = 5020


class Auth(Enum):
    """How a registry is guarded. The value is its host's first label."""

    NONE = "none"
    BASIC = "basic"
    TOKEN = "token"

    @property
    def host(self) -> str:
        """Its name."""
        return f"{self.value}.test"

    @property
    def tunnelled(self) -> str:
        """Its other name."""
        return f"t-{self.value}.test"


NAMES: Final = [name for auth in Auth for name in (auth.host, auth.tunnelled)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedRegistries:
    """All of them, running."""

    host: LabHost
    directory: Path
    certificate: KeyPair

    def push(self, name: str, layer_bytes: list[int]) -> Image:
        """Make an image and push it past the guards."""
        made = [sys.executable, "-m", "tests.support.image", "--seed", name, "--layer-bytes", *map(str, layer_bytes)]
        pushed = self.host.run(["env", f"PYTHONPATH={REPOSITORY}", *made, "--push", f"http://127.0.0.1:{_FIRST_PORT}/{name}"])
        return Image(**json.loads(pushed))

    def gets(self, auth: Auth, digest: str, repository: str) -> list[Access]:
        """GETs of a blob that were answered by its bytes, by either door of a registry."""
        logs = [self.directory / f"{auth.value}-{scheme}.jsonl" for scheme in ("http", "https")]
        found = [each for log in logs for each in read_accesses(log) if each.method == "GET" and each.status in (200, 206)]
        return [each for each in found if each.path == f"/v2/{repository}/blobs/{digest}"]


def start_guarded_registries(processes: Processes, directory: Path, host: LabHost) -> GuardedRegistries:
    """Ready when this returns."""
    pair = self_signed(directory, TOKENS_NAME, *NAMES)
    realm = f"https://{TOKENS_NAME}:{TOKENS_PORT}/token"
    guards = {
        Auth.NONE: "",
        Auth.BASIC: f"auth: {{htpasswd: {{realm: test, path: '{passwords_file(directory)}'}}}}",
        Auth.TOKEN: f"auth: {{token: {{realm: '{realm}', service: {SERVICE}, issuer: {ISSUER}, "
        f"rootcertbundle: '{pair.certificate}'}}}}",
    }
    ready = []
    for number, (auth, guard) in enumerate(guards.items()):
        listen = f"127.0.0.1:{_FIRST_PORT + number}"
        config = directory / f"registry-{auth.value}.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '{listen}', secret: test}}\n{guard}\nstorage: {{filesystem: "
            f"{{rootdirectory: '{directory / 'storage'}'}}, maintenance: {{uploadpurging: {{enabled: false}}}}}}\n"
        )
        started = processes.start(f"registry-{auth.value}", host.command(["docker-registry", "serve", str(config)]))
        ready.append((started, "listening on"))
        for scheme, port, tls in (("http", 80, []), ("https", 443, _tls(pair))):
            # One address for each registry, so that all have the usual ports.
            words = ["tests.support.registry_front", "--listen", f"{address_of(host, auth)}:{port}", "--upstream", listen]
            words += ["--bucket", "none", "--log", str(directory / f"{auth.value}-{scheme}.jsonl"), *tls]
            ready.append((_module(processes, f"front-{auth.value}-{scheme}", host, words), "front ready"))
    words = ["tests.support.token_server", "--listen", f"{host.address}:{TOKENS_PORT}", *_tls(pair), "--may", f"{USER}=", "--may"]
    ready.append((_module(processes, "tokens", host, [*words, f"{STRANGER}=nothing/"]), "tokens ready"))
    for process, line in ready:
        process.wait_for(line)
    return GuardedRegistries(host=host, directory=directory, certificate=pair)


def address_of(host: LabHost, auth: Auth) -> str:
    """Where a registry listens: the host's addresses after its first one."""
    front, _, last = host.address.rpartition(".")
    return f"{front}.{int(last) + 1 + list(Auth).index(auth)}"


def passwords_file(directory: Path) -> Path:
    """docker-registry takes bcrypt only; the C library's crypt knows it, and perl has that at hand."""
    lines = []
    for each in (USER, STRANGER):
        name, _, password = each.partition(":")
        program = "print crypt($ARGV[0], q($2b$05$abcdefghijklmnopqrstuu))"
        made = subprocess.run(["perl", "-e", program, password], capture_output=True, text=True, check=True)
        lines.append(f"{name}:{made.stdout}\n")
    path = directory / "htpasswd"
    path.write_text("".join(lines))
    return path


def _tls(pair: KeyPair) -> list[str]:
    return ["--certificate", str(pair.certificate), "--key", str(pair.key)]


def _module(processes: Processes, name: str, host: LabHost, words: list[str]) -> RunningProcess:
    return processes.start(name, host.command([sys.executable, "-m", *words]), directory=REPOSITORY)
