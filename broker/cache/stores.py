"""What hosts answer about their stores, laid together: by content who has it, by host how full it is. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from broker.core.preheat_records import SEED_HOST
from broker.core.state import PeerRecord
from broker.hosts import names_of
from wire.messages import CachePage, Role

Answers = Mapping[str, CachePage | str]


def host_told(record: PeerRecord, answer: CachePage | str) -> dict[str, Any]:
    """One host: how full its store is, or why that is not known."""
    told: dict[str, Any] = {"peer": record.peer, "host": record.host, "role": record.role.name.lower()}
    if isinstance(answer, str):
        return told | {"used": None, "quota": None, "free": None, "kept": None, "error": answer}
    fill = {"used": answer.used, "quota": answer.quota, "free": answer.free, "kept": answer.kept}
    return told | fill | {"error": answer.refused or None}


def contents_told(peers: Mapping[str, PeerRecord], answers: Answers, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """The first `limit` contents by task, each with the hosts that have it; and after which task the next ones follow."""
    found: dict[str, dict[str, Any]] = {}
    more = False
    for peer, page in answers.items():
        if isinstance(page, str):
            continue
        more |= page.more
        for task, length, size, unused_s, kept_s, in_use, url in page.contents:
            content = found.setdefault(task, {"task": task, "url": "", "length": length, "hosts": []})
            content["url"] = content["url"] or url
            content["hosts"].append(
                {
                    "peer": peer,
                    "host": peers[peer].host,
                    "role": peers[peer].role.name.lower(),
                    "size": size,
                    "unused_s": unused_s,
                    "kept_s": kept_s,
                    "in_use": in_use,
                }
            )
    # Each page has its host's first ones: of all together, the first are among them.
    tasks = sorted(found)
    page_of = tasks[:limit]
    return [found[task] for task in page_of], page_of[-1] if page_of and (more or len(tasks) > limit) else None


def chosen(records: Iterable[PeerRecord], names: Iterable[str]) -> tuple[list[PeerRecord], list[str]]:
    """The peers that names mean, and the names that no peer has. A name: `seed`, or as for preheat jobs."""
    there, absent = list(records), []
    found: dict[str, PeerRecord] = {}
    for name in dict.fromkeys(names):
        named = [each for each in there if _is_named(each, name)]
        if not named:
            absent.append(name)
        found |= {each.peer: each for each in named}
    return list(found.values()), absent


def _is_named(record: PeerRecord, name: str) -> bool:
    return record.role is Role.SEED if name == SEED_HOST else name in names_of(record)


def left_told(pages: Iterable[CachePage]) -> dict[str, dict[str, int]]:
    """What stays although room was asked for, by why: contents and bytes of all hosts together."""
    found: dict[str, dict[str, int]] = {}
    for page in pages:
        for why, contents, size in page.left:
            told = found.setdefault(why, {"contents": 0, "bytes": 0})
            told["contents"] += contents
            told["bytes"] += size
    return found


def matching(answers: Answers, prefix: str) -> list[str]:
    """The tasks in the answers that begin so, sorted."""
    pages = [page for page in answers.values() if isinstance(page, CachePage)]
    return sorted({row[0] for page in pages for row in page.contents if row[0].startswith(prefix)})
