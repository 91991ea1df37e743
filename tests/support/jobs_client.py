"""A client of the supernode's job API: any dialect, real HTTP, whatever the status."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.swarm import wait_until

_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
FINAL: Final = {"SUCCESS", "PARTIAL", "FAILED", "STOPPED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsClient:
    """Speaks to one supernode."""

    #: `host:port`.
    node: str
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        """Status, and the answer as JSON (or text)."""
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"http://{self.node}{path}", data=body, method=method)
        for name, value in {"Content-Type": "application/json", "Accept": "application/json", **self.headers}.items():
            request.add_header(name, value)
        try:
            with _OPENER.open(request, timeout=30) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
            error.close()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def begin(self, **document: Any) -> int:
        """A job's number."""
        status, told = self.ask("POST", "/jobs", document)
        assert status == 201, told
        return int(told["id"])

    def job(self, number: int) -> dict[str, Any]:
        """A job with its rows."""
        status, told = self.ask("GET", f"/jobs/{number}?limit=10000")
        assert status == 200, told
        assert isinstance(told, dict)
        return told

    def ended(self, number: int, timeout_s: float = 60.0) -> dict[str, Any]:
        """A job, when it has ended."""
        wait_until(lambda: self.job(number)["state"] in FINAL, f"job {number} has ended", timeout_s)
        return self.job(number)
