"""Where a system keeps CAs that its administrator adds, and what makes it take one over. Pure."""

from dataclasses import dataclass
from typing import Final

from gateway.core.setup.plan import OWN_NAME, Files


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemStore:
    """One distribution's way."""

    path: str
    """Of our own file in it."""
    command: tuple[str, ...]
    """Takes over what is there."""
    undo_command: tuple[str, ...]
    """Forgets what is not there any more."""


#: The program, what makes it forget, and our file: Debian and Alpine; Red Hat; SUSE; Arch.
_KNOWN: Final = (
    # Without --fresh Debian's leaves links in /etc/ssl/certs that lead nowhere.
    ("/usr/sbin/update-ca-certificates", ("--fresh",), f"/usr/local/share/ca-certificates/{OWN_NAME}.crt"),
    ("/usr/bin/update-ca-trust", (), f"/etc/pki/ca-trust/source/anchors/{OWN_NAME}.crt"),
    ("/usr/sbin/update-ca-certificates", (), f"/etc/pki/trust/anchors/{OWN_NAME}.crt"),
    ("/usr/bin/update-ca-trust", (), f"/etc/ca-certificates/trust-source/anchors/{OWN_NAME}.crt"),
)


def system_store(files: Files) -> SystemStore | None:
    """None: none that is known."""
    for program, forgetting, path in _KNOWN:
        if _is_there(program, files) and _is_there(path.rpartition("/")[0], files):
            return SystemStore(path=path, command=(program,), undo_command=(program, *forgetting))
    return None


def _is_there(path: str, files: Files) -> bool:
    folder, _, name = path.rpartition("/")
    return name in files.names(folder)
