"""The supernode's own view of jobs, without the other dialects' bounds: /jobs, with every blob on every host.

POST /jobs {type, url or image, headers, filter, identifier, platforms, scope (seed, all) or hosts, keep, timeout, insecure,
plain_http, certificates} → 201; GET /jobs?after=&limit=; GET, DELETE /jobs/<number>; POST /jobs/<number>/stop.
"""

from itertools import islice
from typing import Any, Final

from broker.core.preheat_records import SEED_HOST, Job
from broker.http_handlers import VERSIONED, ApiHandler, Told, Unknown, seconds_of
from broker.preheat.http_common import (
    JobHandler,
    certificates_of,
    hosts_of,
    image_or_url,
    platforms_of,
    request_of,
    rfc3339,
    text_of,
)
from wire.messages import Origin

_PAGE: Final = 100
_ROWS: Final = 1000
_LONGEST_PAGE: Final = 10_000


class _Paged(JobHandler):
    def bounds(self, default: int) -> tuple[int, int]:
        """`?after=` and `?limit=`."""
        return self.number("after", 0, most=1 << 50), max(1, self.number("limit", default, most=_LONGEST_PAGE))

    def known(self, number: str) -> Job:
        """The job of a number or key."""
        job = self.found(number)
        if job is None:
            raise Unknown(f"no job {number[:64]} is known")
        return job


class _Jobs(_Paged):
    async def post(self) -> None:
        told = image_or_url(self.document())
        scope = text_of(told, "scope") or "seed"
        if scope not in ("seed", "all"):
            raise Told(400, "scope must be seed or all; or name hosts")
        job = self.begin(
            request_of(
                told,
                asked_by="jobs",
                platforms=platforms_of(told.get("platforms")),
                scope=hosts_of(told.get("hosts")) or scope,
                keep_s=seconds_of(told.get("keep"), "keep"),
                timeout_s=seconds_of(told.get("timeout"), "timeout") or 0.0,
                insecure=told.get("insecure") is True,
                certificates=certificates_of(told.get("certificates")),
            )
        )
        await self.preheat.on_disk()
        self.set_status(201)
        self.finish(brief(job))

    def get(self) -> None:
        after, limit = self.bounds(_PAGE)
        page = list(islice((job for job in self.preheat.core.jobs.values() if job.number > after), limit + 1))
        following = page[limit - 1].number if len(page) > limit else None
        self.finish({"jobs": [brief(job) for job in page[:limit]], "next": following})


class _Job(_Paged):
    def get(self, number: str) -> None:
        job = self.known(number)
        after, limit = self.bounds(_ROWS)
        rows = list(islice(job.rows.items(), after, after + limit))
        following = after + limit if after + limit < len(job.rows) else None
        self.finish({**brief(job), "rows": [_row(job, host, task) for (host, task), _ in rows], "next": following})

    def delete(self, number: str) -> None:
        job = self.known(number)
        self.preheat.delete(job.number)
        self.finish({"deleted": job.number})


class _Stop(_Paged):
    def post(self, number: str) -> None:
        job = self.known(number)
        self.preheat.stop(job.number)
        self.finish(brief(job))


def brief(job: Job) -> dict[str, Any]:
    """A job without its rows."""
    spec = job.spec
    verified, total = job.progress
    return {
        "id": job.number,
        "key": spec.key,
        "state": job.state.name,
        "error": job.error,
        "type": spec.kind,
        "url": spec.url,
        "platforms": list(spec.platforms),
        "scope": spec.scope,
        "keep_s": spec.keep_s,
        "asked_by": spec.asked_by,
        "created_at": rfc3339(job.created_at),
        "started_at": rfc3339(job.started_at) if job.started_at else None,
        "finished_at": rfc3339(job.finished_at) if job.finished_at else None,
        "blobs": len(job.blobs),
        "hosts": len(job.hosts),
        "verified_bytes": verified,
        "bytes": total,
    }


def _row(job: Job, host: str, task: str) -> dict[str, Any]:
    row, blob = job.rows[host, task], job.blobs[task]
    known = job.hosts.get(host)
    return {
        "host": host,
        "name": known.name if known is not None else SEED_HOST,
        "ip": known.ip if known is not None else "",
        "task": task,
        "blob": blob.url,
        "digest": blob.digest,
        "media_type": blob.media_type,
        "state": row.state.name,
        "verified_bytes": row.verified,
        "bytes": row.length,
        "received_bytes": {origin.name.lower(): count for origin, count in zip(Origin, row.received, strict=False)},
        "error": row.why,
    }


ROUTES: Final[list[tuple[str, type[ApiHandler]]]] = [
    (rf"{VERSIONED}/jobs/?", _Jobs),
    (rf"{VERSIONED}/jobs/([0-9a-f]+)", _Job),
    (rf"{VERSIONED}/jobs/([0-9a-f]+)/stop", _Stop),
]
