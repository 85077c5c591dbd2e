"""Batch jobs of the target: asked for at their time, asked again until they say that they are done.

Asking again is what an operator's scheduler does: a job that was interrupted must resume, not
repeat. 200 is done, 202 is still at work, anything else is asked again until time runs out.
"""

from __future__ import annotations

import time

import requests

from harness import out_of_band
from harness.evidence.model import JobRecord
from harness.fault.base import Context

ASK_AGAIN_S = 0.5
CALL_TIMEOUT_S = 10.0


def run_job(name: str, context: Context, give_up_ns: int) -> JobRecord:
    """Ask until done, or until ``give_up_ns``; ``attempts`` counts the calls."""
    job = context.spec.jobs[name]
    address = context.runtime.address(job.service, job.endpoint.port)
    url = f"http://{address}{job.endpoint.path}"
    started_ns = time.time_ns()
    attempts, answer, done = 0, "", False
    while not done and time.time_ns() < give_up_ns and not context.stopping():
        attempts += 1
        try:
            reply = out_of_band.ask(job.endpoint.method, url, timeout_s=CALL_TIMEOUT_S)
            answer = f"{reply.status_code} {reply.text.strip()[:300]}"
            done = reply.status_code == 200
        except requests.RequestException as error:
            answer = f"{type(error).__name__}"
        if not done:
            context.sleep(ASK_AGAIN_S)
    return JobRecord(
        job=name,
        started_ns=started_ns,
        ended_ns=time.time_ns() if done else None,
        attempts=attempts,
        done=done,
        answer=answer,
    )
