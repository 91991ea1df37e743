"""The misbehaving source as a process of its own, as other tests and the demonstration's use it."""

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.system
def test_the_server_as_a_process_counts_what_it_gives(tmp_path: Path, repository: Path) -> None:
    content = os.urandom(600_000)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(content)
    (tmp_path / "outside").write_bytes(b"secret")
    command = [sys.executable, "-m", "tests.support.source_server", "--port", "0", "--root", str(tmp_path / "root")]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().removeprefix("port "))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

        def get(path: str, **headers: str) -> tuple[int, bytes]:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()

        assert get("/file") == (200, content)
        assert get("/file", Range="bytes=599990-") == (206, content[599_990:])
        assert get("/../outside")[0] == 404
        status, told = get("/__count")
        assert (status, json.loads(told)) == (200, {"requests": 3, "body_bytes": 600_010 + len(b"no such page\n")})
        connection.close()
        process.terminate()
    assert process.returncode == 0
