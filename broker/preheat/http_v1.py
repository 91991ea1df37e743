"""Dragonfly 1.x's preheat API, which Harbor's driver of 2.1 to 2.11 speaks: /preheats.

A repeat of a job that was a SUCCESS is proven again before 208 says so: a tag may have moved, a content may be gone. What
takes longer than a moment is answered by 201, and polled. PARTIAL and STOPPED are FAILED here, with the reason: Harbor
knows no other word that shows the truth.
"""

import json
from typing import Any, Final

from broker.core.preheat_records import Job, JobState
from broker.http_handlers import VERSIONED, Told
from broker.preheat.http_common import JobHandler, reason, request_of, rfc3339

#: Harbor waits 30 s for an answer.
_PROOF_S: Final = 8.0
_STATUS: Final = {
    JobState.WAITING: "WAITING",
    JobState.RUNNING: "RUNNING",
    JobState.SUCCESS: "SUCCESS",
    JobState.PARTIAL: "FAILED",
    JobState.FAILED: "FAILED",
    JobState.STOPPED: "FAILED",
}


class _Preheats(JobHandler):
    async def post(self) -> None:
        request = request_of(self.document(), asked_by="1.x")
        before = self.preheat.core.newest(request.key())
        job = self.begin(request)
        if before is not None and before.state is JobState.SUCCESS and before is not job:
            await self.preheat.ended(job, _PROOF_S)
            if job.state is JobState.SUCCESS:
                # One that only proves again is no news in the history.
                self.preheat.delete(before.number)
                self.set_status(208)
                self.finish({"code": 208, "message": f"preheat task already exists, id:{job.spec.key}"})
                return
        await self.preheat.on_disk()
        self.set_status(201)
        self.finish({"ID": job.spec.key})

    def get(self) -> None:
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        newest = {job.spec.key: job for job in self.preheat.core.jobs.values()}
        self.finish(json.dumps([_record(job) for job in newest.values()]))


class _Preheat(JobHandler):
    def get(self, name: str) -> None:
        job = self.found(name)
        if job is None:
            raise Told(404, f"{name[:128]} doesn't exists")
        self.finish(
            {
                "ID": job.spec.key,
                "status": _STATUS[job.state],
                "startTime": rfc3339(job.started_at or job.created_at),
                "finishTime": rfc3339(job.finished_at),
                "errorMsg": reason(job),
            }
        )

    def delete(self, name: str) -> None:
        job = self.found(name)
        if job is not None:
            for each in [each for each in self.preheat.core.jobs.values() if each.spec.key == job.spec.key]:
                self.preheat.delete(each.number)
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.finish("true")


def _record(job: Job) -> dict[str, Any]:
    """1.x's own record, without the headers that it showed to everybody."""
    return {
        "ID": job.spec.key,
        "URL": job.spec.url,
        "Type": job.spec.kind,
        "Filter": job.spec.filter,
        "Identifier": job.spec.identifier,
        "Headers": None,
        "ParentID": "",
        "Children": None,
        "Status": _STATUS[job.state],
        "StartTime": int(job.started_at * 1000),
        "FinishTime": int(job.finished_at * 1000),
        "ErrorMsg": reason(job),
    }


ROUTES: Final[list[tuple[str, type[JobHandler]]]] = [
    (rf"{VERSIONED}/preheats/?", _Preheats),
    (rf"{VERSIONED}/preheats/([^/]+)", _Preheat),
]
