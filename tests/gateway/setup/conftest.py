"""A root folder with a user's settings in it, and a dfdaemon's configuration with a CA."""

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.certs import generate_ca
from gateway.config import GatewayConfig, HijackConfig, HijackHostConfig
from gateway.core.setup.plan import Runtime, Wish
from gateway.setup.command import Options, SetupExit, Terminal, run

#: Each with a comment, a blank or an order that a careless writer would lose.
SETTINGS = {
    "etc/docker/daemon.json": '{ "debug":true,\n  "registry-mirrors": ["https://m.example"] }\n',
    "etc/containerd/config.toml": "# ours\nversion = 2\n\n[plugins]\n  [plugins.other]\n    a = 1 # one\n",
    "etc/containers/registries.conf": '# ours\nunqualified-search-registries = ["docker.io"]\n',
}


@dataclass
class Host:
    """What the command sees."""

    root: Path
    config: GatewayConfig
    said: list[str] = field(default_factory=list)

    def setup(self, runtime: str, *, ask: Callable[[str], str] | None = None, **more: Any) -> SetupExit:
        """Run the command. `more`: of Options or of its Wish."""
        mine = {
            name: more.pop(name) for name in ("mode", "registries", "config_file", "hosts_dir", "replace_proxy") if name in more
        }
        wish = Wish(runtime=Runtime(runtime), **mine)
        options = replace(Options(wish=wish, yes=ask is None, root=self.root, runtime_version="26.1"), **more)
        self.said.clear()
        return run(options, self.config, Terminal(say=self.said.append, ask=ask))

    @property
    def text(self) -> str:
        """All that the last run said."""
        return "\n".join(self.said)

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def settle(self) -> None:
        """A user's settings, with modes and times of their own."""
        for number, (path, text) in enumerate(SETTINGS.items()):
            file = self.root / path
            file.parent.mkdir(parents=True)
            file.write_text(text)
            file.chmod(0o640)
            os.utime(file, ns=(1, 1_000_000_000 * (number + 1)))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "root").mkdir()
    return Host(root=tmp_path / "root", config=GatewayConfig(work_home=str(tmp_path / "home"), port=1))


@pytest.fixture
def opening(host: Host, tmp_path: Path) -> Host:
    """Its dfdaemon opens registry.example."""
    cert, key = generate_ca("ca", datetime.timedelta(days=400))
    (tmp_path / "df.crt").write_bytes(cert)
    (tmp_path / "df.key").write_bytes(key)
    hijack = HijackConfig(
        cert=str(tmp_path / "df.crt"), key=str(tmp_path / "df.key"), hosts=(HijackHostConfig(regx="registry.example:443"),)
    )
    host.config = replace(host.config, hijack_https=hijack)
    return host
