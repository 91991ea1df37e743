"""Each distribution's store of CAs is found by its program and its folder."""

import pytest

from gateway.core.setup.system_trust import system_store
from tests.support.memory_files import MemoryFiles


@pytest.mark.parametrize(
    ("program", "folder"),
    [
        ("/usr/sbin/update-ca-certificates", "/usr/local/share/ca-certificates"),
        ("/usr/bin/update-ca-trust", "/etc/pki/ca-trust/source/anchors"),
        ("/usr/sbin/update-ca-certificates", "/etc/pki/trust/anchors"),
        ("/usr/bin/update-ca-trust", "/etc/ca-certificates/trust-source/anchors"),
    ],
)
def test_a_store(program: str, folder: str) -> None:
    found = system_store(MemoryFiles({program: b"", f"{folder}/other.crt": b""}))
    assert found is not None
    assert (found.path, found.command) == (f"{folder}/damselfly.crt", (program,))
    forgetting = ("--fresh",) if "local" in folder else ()
    assert found.undo_command == (program, *forgetting)


def test_no_store_without_both() -> None:
    assert system_store(MemoryFiles()) is None
    assert system_store(MemoryFiles({"/usr/sbin/update-ca-certificates": b""})) is None
    assert system_store(MemoryFiles({"/usr/local/share/ca-certificates/other.crt": b""})) is None
