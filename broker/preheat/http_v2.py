"""Dragonfly 2's job API, which Harbor's driver of 2.12 on speaks: /healthy and /oapi/v1/jobs.

It knows PENDING, SUCCESS and FAILURE (any other state Harbor takes for a failure), so what waits or runs is PENDING, and
PARTIAL and STOPPED are FAILURE with the reason. Each blob on each host is a row of the tables that Harbor shows.
"""

import json
from typing import Any, Final

from broker.core.preheat_records import SEED_HOST, Job, JobState, RowState
from broker.core.state import State
from broker.hosts import ip_of
from broker.http_handlers import ApiHandler, Told, Unknown
from broker.preheat.http_common import (
    JobHandler,
    certificates_of,
    headers_of,
    hosts_of,
    platforms_of,
    reason,
    request_of,
    rfc3339,
    text_of,
    with_password,
)
from broker.preheat.service import PreheatRequest
from wire.messages import Role
from wire.vocabulary import LONGEST_S

_STATE: Final = {
    JobState.WAITING: "PENDING",
    JobState.RUNNING: "PENDING",
    JobState.SUCCESS: "SUCCESS",
    JobState.PARTIAL: "FAILURE",
    JobState.FAILED: "FAILURE",
    JobState.STOPPED: "FAILURE",
}
#: A cluster's seeds divide its tasks among them: all of them together have an image once, as one of them alone has.
_SCOPES: Final = {"": "seed", "single_peer": "seed", "single_seed_peer": "seed", "all_seed_peers": "seed", "all_peers": "all"}
_NANOSECONDS: Final = 1e9
_PAGE: Final = 10
_LONGEST_PAGE: Final = 1000
_LAST_PAGE: Final = 1_000_000
_MOST_ROWS: Final = 10_000


class _Healthy(ApiHandler):
    def get(self) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish('"OK"')


class _Jobs(JobHandler):
    async def post(self) -> None:
        told = self.document()
        if text_of(told, "type") != "preheat":
            raise Told(400, "type must be preheat: this supernode has no other jobs")
        args = told.get("args")
        if not isinstance(args, dict):
            raise Told(400, "args must be an object")
        job = self.begin(_request(args, told.get("extra_attrs")))
        await self.preheat.on_disk()
        self.finish(_job(job, self.parts.router.scheduler.state))

    def get(self) -> None:
        page = self.number("page", 1, least=1, most=_LAST_PAGE)
        per_page = self.number("per_page", _PAGE, least=1, most=_LONGEST_PAGE)
        state = self.get_query_argument("state", "")
        jobs = [job for job in reversed(self.preheat.core.jobs.values()) if state in ("", _STATE[job.state])]
        known = self.parts.router.scheduler.state
        self.set_header("Content-Type", "application/json; charset=utf-8")
        shown = jobs[(page - 1) * per_page : page * per_page]
        self.finish(json.dumps([_job(job, known, with_rows=False) for job in shown]))


class _Job(JobHandler):
    def get(self, number: str) -> None:
        self.finish(_job(self._known(number), self.parts.router.scheduler.state))

    def delete(self, number: str) -> None:
        self.preheat.delete(self._known(number).number)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish("null")

    def _known(self, number: str) -> Job:
        job = self.found(number)
        if job is None:
            raise Unknown(f"job {number[:64]} is not known")
        return job


class _Stop(_Job):
    def get(self, number: str) -> None:
        raise Told(405, "POST stops a job")

    def post(self, number: str) -> None:
        job = self._known(number)
        self.preheat.stop(job.number)
        self.finish(_job(job, self.parts.router.scheduler.state))


def _request(args: dict[str, Any], extra: Any) -> PreheatRequest:
    # Harbor's operators write it into a policy's extra attributes; what the job itself says comes first.
    attributes = extra if isinstance(extra, dict) else {}
    scope = text_of(args, "scope") or text_of(attributes, "scope")
    hosts = hosts_of(args.get("ips"))
    if scope not in _SCOPES:
        raise Told(400, f"scope {scope[:60]!r}: must be single_seed_peer, all_seed_peers or all_peers")
    timeout = args.get("timeout") or 0
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 <= timeout <= LONGEST_S * _NANOSECONDS:
        raise Told(400, "timeout must be a number of nanoseconds, of 11 days at most")
    if text_of(args, "filtered_query_params") and not args.get("filter"):
        args = {**args, "filter": args["filtered_query_params"]}
    headers = headers_of(args.get("headers"))
    headers = with_password(headers, text_of(args, "username"), text_of(args, "password"))
    return request_of(
        {**args, "headers": None, "identifier": args.get("tag") if args.get("type") == "file" else None},
        asked_by="Dragonfly 2",
        platforms=platforms_of(text_of(args, "platform")),
        scope=hosts or _SCOPES[scope],
        timeout_s=timeout / _NANOSECONDS,
        insecure=args.get("insecure_skip_verify") is True,
        certificates=certificates_of(args.get("certificates")),
    ).with_headers(headers)


def _job(job: Job, state: State, *, with_rows: bool = True) -> dict[str, Any]:
    spec = job.spec
    updated_at = rfc3339(job.finished_at or job.started_at or job.created_at)
    return {
        "id": job.number,
        "created_at": rfc3339(job.created_at),
        "updated_at": updated_at,
        "is_del": 0,
        "task_id": spec.key,
        "bio": "",
        "type": "preheat",
        "state": _STATE[job.state],
        "args": {
            "type": spec.kind,
            "url": spec.url,
            "filtered_query_params": spec.filter,
            "platform": ",".join(spec.platforms),
            "scope": {"seed": "single_seed_peer", "all": "all_peers"}.get(spec.scope, "hosts"),
        },
        "result": _result(job, state, updated_at) if with_rows else None,
        "user_id": 0,
        "seed_peer_clusters": [],
        "scheduler_clusters": [],
    }


def _result(job: Job, state: State, updated_at: str) -> dict[str, Any]:
    seed = next((record for record in state.peers.values() if record.role is Role.SEED), None)
    done, failed = [], []
    for (host, task), row in list(job.rows.items())[:_MOST_ROWS]:
        if host == SEED_HOST:
            name, ip = (seed.host, ip_of(seed)) if seed is not None else (SEED_HOST, "")
        else:
            name, ip = job.hosts[host].name or host, job.hosts[host].ip
        told = {"url": job.blobs[task].url, "hostname": name, "ip": ip}
        if row.state is RowState.DONE:
            done.append(told)
        elif row.state.is_final:
            failed.append({**told, "description": row.why})
    results = {"success_tasks": done, "failure_tasks": failed, "scheduler_cluster_id": 1}
    return {
        "created_at": rfc3339(job.created_at),
        "state": _STATE[job.state],
        "updated_at": updated_at,
        "job_states": [
            {
                "task_name": "preheat",
                "state": _STATE[job.state],
                "error": reason(job),
                "results": [results],
                "created_at": rfc3339(job.created_at),
                "ttl": 0,
            }
        ],
    }


ROUTES: Final[list[tuple[str, type[ApiHandler]]]] = [
    (r"/healthy", _Healthy),
    (r"/oapi/v1/jobs/?", _Jobs),
    (r"/oapi/v1/jobs/([0-9]+)", _Job),
    (r"/oapi/v1/jobs/([0-9]+)/stop", _Stop),
]
