"""What `supernode preheat` and `supernode cache` ask of a running supernode, over HTTP. Blocking; for a command line.

It goes straight to the supernode, whatever proxy the environment names. What its API wants of whoever asks comes from the
environment, for a flag shows in the list of processes.
"""

import argparse
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final

from worker_peer.host.command_line import parse_switch, typed
from worker_peer.host.values import parse_nodes

#: The variable with the field that the supernode's API wants, as `Authorization: Bearer ...`.
API_HEADER: Final = "SUPERNODE_API_HEADER"
_ANSWER_S: Final = 30.0
_MOST_BYTES: Final = 64 << 20
_MOST_ERROR_BYTES: Final = 64 << 10
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class CommandFailed(Exception):
    """What the user should read. `again`: the supernode may be back in a moment."""

    def __init__(self, told: str, *, again: bool = False) -> None:
        super().__init__(told)
        self.again = again


@dataclass(frozen=True, slots=True)
class ApiClient:
    """Where requests go (`host:port`), and with which field (`Name: value`; empty: none)."""

    node: str
    header: str = field(default="", repr=False)

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        """The answer's JSON. Raises CommandFailed."""
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"http://{self.node}{path}", data=body, method=method)
        request.add_header("Content-Type", "application/json")
        name, mark, value = self.header.partition(":")
        if mark:
            request.add_header(name.strip(), value.strip())
        try:
            with _OPENER.open(request, timeout=_ANSWER_S) as answer:
                return json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            text = error.read(_MOST_ERROR_BYTES)
            error.close()
            raise CommandFailed(_message_in(text) or f"the supernode answers {error.code}", again=error.code >= 502) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            told = getattr(reason, "strerror", None) or reason
            raise CommandFailed(
                f"{self.node} gives no answer ({told}): name the supernode by --supernode host:port", again=True
            ) from None


def _message_in(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--supernode` and `--json`, which all commands of this kind have."""
    about = "host:port of the supernode (default 127.0.0.1:8002)"
    parser.add_argument("--supernode", default="127.0.0.1:8002", type=typed(_node, "node"), help=about)
    about = "print what the supernode answers"
    parser.add_argument("--json", type=typed(parse_switch, "switch"), default=False, metavar="BOOL", help=about)


def client_of(flags: argparse.Namespace) -> ApiClient:
    """The supernode that `add_flags`' flags name."""
    return ApiClient(flags.supernode, os.environ.get(API_HEADER, ""))


def _node(text: str) -> str:
    return parse_nodes(text)[0].endpoint
