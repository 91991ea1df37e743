"""The limits that a process raises for itself, tried in a process of its own."""

import subprocess
import sys

_SCRIPT = """
import resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, hard), hard))
from worker_peer.host.process_limits import allow_many_files
allow_many_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""


def test_a_process_may_open_as_many_files_as_the_hard_limit_says() -> None:
    said = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, timeout=30)
    assert said.stdout == "True\n"
