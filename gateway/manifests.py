"""HEAD of a manifest by digest, answered out of what its registry has said lately to the same client (access.py).

Docker, containerd and skopeo ask so before the GET, one host after another; the answer is the same as the last.
"""

from gateway.access import Access, Standing
from gateway.client import Answer, ClientRequest
from gateway.core.conditions import Outcome, Validators, evaluate
from gateway.core.headers import first
from gateway.core.manifest_request import names
from gateway.core.rules import Decision
from wire.ids import digest_in_url


async def answer_head(access: Access, request: ClientRequest, decision: Decision, answer: Answer) -> bool:
    """False: the registry must be asked, and nothing has been sent. Raises ClientGone."""
    standing, facts = access.standing(decision, request.headers)
    typed = first(facts.headers, "Content-Type")
    if request.body is not None or standing is not Standing.PERMITTED or facts.length is None or typed is None:
        return False
    if not names(request.headers, typed):
        return False
    digest = digest_in_url(decision.url) or ""
    headers = facts.headers
    for name, value in (("Docker-Content-Digest", digest), ("ETag", f'"{digest}"')):
        if first(headers, name) is None:
            headers = (*headers, (name, value))
    etags = tuple(dict.fromkeys((first(headers, "ETag") or "", f'"{digest}"')))
    match evaluate(request.headers, Validators(etags=etags, last_modified=first(headers, "Last-Modified") or "")):
        case Outcome.FAILED:
            return False
        case Outcome.NOT_MODIFIED:
            await answer.start(304, "Not Modified", headers)
        case Outcome.GO_ON:
            await answer.start(200, "OK", (*headers, ("Content-Length", str(facts.length))))
    answer.finish()
    return True
