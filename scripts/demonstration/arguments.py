"""scripts/demo's command line: what may be asked, and the words for what may not."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

MAX_PEERS: Final = 256
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE: Final = re.compile(r"(\d+)([KMG]?)(?:i?B)?", re.IGNORECASE)
_DEFAULT_SIZE: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """What the user asked for."""

    peers: int
    #: Bytes of the file that is made; of no use with a `url`.
    size: int
    url: str | None
    as_json: bool


def parse_arguments(words: Sequence[str] | None = None) -> Arguments:
    """The command line's meaning. Ends the process with code 2, and words on stderr, where it has none."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        allow_abbrev=False,
        description="Starts a supernode and peers on this machine, downloads one file on all of them at the same time, "
        "checks every copy and tells where each byte came from.",
    )
    parser.add_argument("--peers", type=_peers, default=4, metavar="N", help="how many peers download (default 4)")
    content = parser.add_mutually_exclusive_group()
    content.add_argument(
        "--size", type=_size, default=_DEFAULT_SIZE, metavar="SIZE", help="size of the file that is made: 64M, 1G (default 64M)"
    )
    content.add_argument("--url", type=_url, metavar="URL", help="download this instead of a file that is made")
    parser.add_argument("--json", action="store_true", dest="as_json", help="the last line is the report as one JSON object")
    found = parser.parse_args(words)
    return Arguments(peers=found.peers, size=found.size, url=found.url, as_json=found.as_json)


def _peers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PEERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of peers: 1 to {MAX_PEERS}")
    return int(text)


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: whole bytes, or a whole number of K, M or G (1024-fold), as 64M"
        )
    return int(found[1]) * _UNITS[found[2].upper()]


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https URL")
    return text
