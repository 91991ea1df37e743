"""The shapes that a plan of `dfdaemon setup` is made of: what is known, what is wanted, what would be written.

Paths are absolute as the runtime sees them; the driver maps them into another root where it is told to.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from gateway.core.images import HUB, HUB_HOSTS
from gateway.core.rules import Authority, parse_authority

#: The name in front of every file that is wholly ours.
OWN_NAME: Final = "damselfly"
MAX_FILE_BYTES: Final = 4 << 20


class Runtime(Enum):
    """Whose settings."""

    DOCKER = "docker"
    CONTAINERD = "containerd"
    PODMAN = "podman"
    """And all else that reads registries.conf: CRI-O, skopeo, buildah."""


class Mode(Enum):
    """docker's two ways to a gateway."""

    MIRROR = "mirror"
    PROXY = "proxy"


class Refused(Exception):
    """Nothing is written. The text names the file, the line where there is one, and what to do."""


class Files(Protocol):
    """What is on disk."""

    def read(self, path: str) -> bytes | None:
        """A file's bytes, None where there is none. Raises Refused where it cannot be read."""

    def names(self, folder: str) -> tuple[str, ...]:
        """What is in a folder, sorted; nothing where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The dfdaemon that a runtime is to be set up for, as its clients see it."""

    host: str
    port: int
    scheme: str = "http"
    listener_pem: bytes | None = None
    """Certificate of its own port; None: it speaks plain HTTP."""
    authority_pem: bytes | None = None
    """The CA that opened hosts are shown certificates of; None: nothing is opened."""
    mints: bool = True
    """Whether that is a CA at all."""
    opened: tuple[str, ...] = ()
    """Registries, as images name them, whose HTTPS is opened: those of plain patterns and those that were asked for."""
    opens_unnamed: bool = False
    """Whether a pattern stands for hosts that cannot be listed."""
    former_urls: tuple[str, ...] = ()
    """Where it was when setup last wrote."""

    @property
    def url(self) -> str:
        """What goes into settings."""
        return f"{self.scheme}://{Authority(self.host, self.port)}"

    @property
    def is_local(self) -> bool:
        """Whether `localhost` leads to it."""
        return self.host in ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line says."""

    runtime: Runtime
    mode: Mode | None = None
    registries: tuple[str, ...] = ()
    config_file: str = ""
    """Instead of the runtime's usual file."""
    hosts_dir: str = ""
    """Instead of the folder that containerd's config.toml names."""
    replace_proxy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found out about the runtime."""

    version: tuple[int, int] | None = None
    """Major and minor; None: unknown."""
    has_systemd: bool = False
    started_with: frozenset[str] = frozenset()
    """Long flags of the running daemon's command line, without dashes."""
    proxies: frozenset[str] = frozenset()
    """Addresses of proxies in the running daemon's environment."""
    user_home: str = ""
    """Where the settings of a user without root's rights are; empty: the system's are meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A whole file, as it will be. Its mode and owner stay what they are; a new file gets 0644."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be done. Writes are only those that change something."""

    mode: Mode = Mode.MIRROR
    reasons: tuple[str, ...] = ()
    """Why it is done this way, a sentence each."""
    notes: tuple[str, ...] = ()
    """What it does not do, and what to do about it."""
    writes: tuple[Write, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    """Run after the files are written."""
    undo_commands: tuple[tuple[str, ...], ...] = ()
    """Run after they are taken back."""
    reloads: bool = False
    """The daemon is told to read its settings again (SIGHUP); no container stops."""
    restarts: str = ""
    """The unit that must be restarted before all of it counts; empty: none."""
    registries: tuple[str, ...] = field(default=())
    """Registries that a request through the gateway should reach; HUB: the mirrored one."""


def changing(writes: Iterable[Write], files: Files) -> tuple[Write, ...]:
    """Those that would change a file."""
    return tuple(write for write in writes if files.read(write.path) != write.content)


def text_of(path: str, content: bytes) -> str:
    """A settings file's text. Raises Refused."""
    if len(content) > MAX_FILE_BYTES:
        raise Refused(f"{path} has {len(content)} bytes: no settings file is so long; nothing was changed")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refused(f"{path}, line {line}: is not UTF-8; put it right first, nothing was changed") from None


def registry_name(text: str) -> str:
    """A registry as images name it: `host[:port]`, Docker Hub as docker.io. Raises Refused."""
    name = text.strip().lower()
    if name in HUB_HOSTS:
        return HUB
    if not re.fullmatch(r"[a-z0-9.:_\[\]-]+", name) or parse_authority(name, default_port=443) is None:
        raise Refused(f"--registry {text!r} is no registry: write it as images name it, host or host:port")
    return name
