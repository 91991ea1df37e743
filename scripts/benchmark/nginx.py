"""nginx as the benchmark's source, with the bytes of bodies that left it, by its own access log."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.demonstration.processes import Processes, RunningProcess

_CONFIG = """daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  log_format count '$body_bytes_sent $status';
  access_log {folder}/nginx.log count;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy; fastcgi_temp_path {folder}/nginx-fcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi; scgi_temp_path {folder}/nginx-scgi;
  sendfile on; tcp_nopush on; keepalive_timeout 60;
  # Sixty that share a slow link may each wait long for their turn.
  send_timeout 3600s;
  server {{ listen {address}:{port}; root {folder}/files; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx that serves `<folder>/files`."""

    process: RunningProcess
    log: Path

    def body_bytes(self) -> int:
        """Bytes of bodies of all answers that have ended."""
        return sum(int(line.split()[0]) for line in self.log.read_text().splitlines())


def start_nginx(
    processes: Processes, on_host: Callable[[Sequence[str]], list[str]], folder: Path, address: str, port: int = 80
) -> Nginx:
    """Start it on a host. Raises RuntimeError where there is no nginx."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise RuntimeError("nginx is not installed: apt-get install nginx-light")
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, address=address, port=port))
    folder.chmod(0o755)
    process = processes.start("nginx", on_host([program, "-c", str(config), "-e", str(folder / "nginx.err")]))
    pid_file = folder / "nginx.pid"
    for _ in range(200):
        if pid_file.exists() and pid_file.read_text().strip():
            return Nginx(process, folder / "nginx.log")
        process.pause()
        if not process.is_running:
            break
    raise RuntimeError(f"nginx did not start: {process.story()}")
