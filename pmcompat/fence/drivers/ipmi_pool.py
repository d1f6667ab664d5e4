"""Which worker does what, and for how long: the supervisor of the IPMI workers.

What lives here: the queue, deadlines, growth, sessions per BMC. All of it in one event loop; no thread, no pyghmi, no packet to
a device (fencing facts §9.3).

* A command goes to the worker whose session for the same door still lingers, else to a free one, else to a new one, else to
  the one that has lingered longest.
* Commands of operations already begun come before new ones.
* As many workers run at once as the processors can feed; one that has been at its order for 0.1 s waits for its device and does
  not count, so the number doubles while devices are slow, up to ``max_workers``.
* A deadline counts from the call. A worker gives up by itself just before it; if it does not, it is killed, and only then
  is the caller answered: nothing more leaves after the answer.
* A worker says *sending* before an ``on`` or ``off`` leaves: killed earlier, the command certainly never reached the device.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque

from pmcompat.fence.drivers.descriptors import to_spend
from pmcompat.fence.drivers.ipmi_door import Door
from pmcompat.fence.drivers.ipmi_jobs import Bmc, IpmiSettings, Job
from pmcompat.fence.drivers.ipmi_processes import Forker, Worker
from pmcompat.fence.drivers.ipmi_wire import Report, on_the_wire
from pmcompat.model import AgentFault, FaultKind

#: seconds at one order after which a worker counts as waiting for its device
_STUCK = 0.1
_TICK = 0.025
#: workers that may exist beyond those running, so that sessions can linger: at first, and at most
_LINGERERS, _MOST_LINGERERS = 8, 32
#: logins that making a worker costs as much as: one more is worth it once so many were lost for want of it
_LOGINS_OF_A_BIRTH = 3
#: workers asked for and not up yet
_BIRTHS = 64
#: seconds a killed worker may take to vanish before its job is answered anyway
_LAST_BREATH = 0.2
#: forkers that may end by themselves before the driver calls itself broken
_FORKERS = 5


class Pool:
    """The workers and their queue. Used from one event loop."""

    def __init__(self, settings: IpmiSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self._loop = loop
        self._base = settings.min_workers or 4 * len(os.sched_getaffinity(0))
        self._most = min(settings.max_workers, max(to_spend(), self._base))
        self._forker: Forker | None = None
        self._burial: asyncio.Task[None] | None = None
        self._forkers = 0
        self._broken = ""
        self._workers: set[Worker] = set()
        self._born: set[Worker] = set()
        self._free: list[Worker] = []
        self._lingering: dict[Door, Worker] = {}
        self._busy: dict[Worker, None] = {}
        self._at: dict[Job, Worker] = {}
        self._stuck = 0
        #: logins that a session would have saved, had it not made room for another
        self._lost_logins = 0
        self._begun: deque[Job] = deque()
        self._new: deque[Job] = deque()
        self._number = 0
        self._tick: asyncio.TimerHandle | None = None
        self._trimming: asyncio.TimerHandle | None = None
        self._closed = False

    # The caller's side

    def start(self) -> None:
        """Start the forker and the first workers, without waiting for them. Idempotent."""
        if self._forker is None and not self._closed and not self._broken:
            self._forkers += 1
            self._forker = Forker(self._loop, self._heard, self._forker_ended)
            self._spawn(self._base)

    def lingers(self, door: Door) -> bool:
        """Tell whether a session through *door* is open and unused."""
        return door in self._lingering

    async def ask(self, job: Job) -> Report | AgentFault:
        """Have *job* done and return what came of it, at its deadline at the latest.

        Cancelled, nothing more of an ``on`` or ``off`` is sent: its worker is killed. A status read runs to its end unheard.
        """
        if self._closed or self._broken:
            return self._unusable()
        self.start()
        job.timers.append(self._loop.call_later(max(job.deadline - time.monotonic(), 0) / 2, self._half_over, job))
        self._admit(job)
        try:
            return await job.answer
        except asyncio.CancelledError:
            if job in self._at and job.do in {"on", "off"}:
                self._kill(self._at[job])
            raise
        finally:
            for timer in job.timers:
                timer.cancel()

    async def close(self) -> None:
        """End every process. Jobs not yet answered become faults. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._stop_work()
        if self._burial is not None:
            await self._burial
        if self._forker is None:
            return
        give_up = time.monotonic() + _LAST_BREATH
        while self._busy and time.monotonic() < give_up:  # noqa: ASYNC110 - a millisecond or two, once in a life
            await asyncio.sleep(0.001)
        for worker in list(self._workers):
            self._gone(worker)  # its socket closes: it closes its session and ends
        await self._forker.close()

    def _stop_work(self) -> None:
        for timer in (self._tick, self._trimming):
            if timer is not None:
                timer.cancel()
        for worker in list(self._busy):
            self._kill(worker)
        for queue in (self._begun, self._new):
            while queue:
                self._settle(queue.popleft(), self._unusable())

    def _unusable(self) -> AgentFault:
        if self._broken:
            return AgentFault(kind=FaultKind.UNSUPPORTED, message=f"IPMI workers cannot be started: {self._broken}")
        return AgentFault(kind=FaultKind.FAILED, message="the IPMI driver was closed before the device was asked")

    # The queue

    def _admit(self, job: Job) -> None:
        """Give *job* to the session that lingers for it, or queue it once its BMC has a session to spare."""
        if job.answer.done():
            return
        if self._closed or self._broken:
            self._settle(job, self._unusable())
            return
        if job.enters:
            lingering = self._lingering.get(job.door)
            if lingering is not None:
                self._give(lingering, job)
                return
            wait = job.bmc.not_before - time.monotonic()
            if wait > 0:
                job.timers.append(self._loop.call_later(wait, self._admit, job))
                return
            if job.bmc.sessions >= self.settings.sessions_per_bmc and not self._make_room(job.bmc):
                job.bmc.waiting.append(job)
                return
            job.bmc.sessions += 1
            job.promised = True
        job.queued = True
        (self._begun if job.follow_up else self._new).append(job)
        self._dispatch()

    def _make_room(self, bmc: Bmc) -> bool:
        """Close a session of *bmc* that lingers for another door; tell whether there was one."""
        for worker in self._lingering.values():
            if worker.bmc is bmc:
                self._close_session(worker)
                return True
        return False

    def _dispatch(self) -> None:
        """Hand out what can be handed out."""
        while queue := self._begun or self._new:
            job = queue[0]
            if job.answer.done():
                queue.popleft()
                self._break_promise(job)
                continue
            worker = self._lingering.get(job.door) if job.enters else None
            if worker is None and len(self._busy) < self._allowed:
                worker = self._anybody()
            if worker is None:
                break
            queue.popleft()
            self._give(worker, job)
        if (self._begun or self._new) and self._tick is None and not self._closed:
            self._tick = self._loop.call_later(_TICK, self._look_around)

    @property
    def _allowed(self) -> int:
        """How many workers may be at work at this moment."""
        return self._base + 2 * self._stuck

    def _anybody(self) -> Worker | None:
        """Return a worker for any door; None while one is being born, or none may be."""
        while self._free:
            worker = self._free.pop()
            if not worker.ending:
                return worker
        wanted = min(len(self._begun) + len(self._new), self._allowed - len(self._busy)) - len(self._born)
        if wanted > 0 and not self._spawn(min(wanted, self._allowed + self._lingerers - len(self._workers))):
            for worker in self._lingering.values():
                if worker.bmc is not None:
                    worker.bmc.evicted = time.monotonic()
                return worker
        return None

    @property
    def _lingerers(self) -> int:
        """How many workers may exist beyond those at work."""
        return min(_LINGERERS + self._lost_logins // _LOGINS_OF_A_BIRTH, _MOST_LINGERERS)

    def _look_around(self) -> None:
        """Find the workers that wait for their devices, and let others work beside them."""
        self._tick = None
        long_ago = time.monotonic() - _STUCK
        for worker in self._busy:  # in the order they were given their jobs
            if worker.since > long_ago:
                break
            if not worker.stuck:
                worker.stuck = True
                self._stuck += 1
        self.start()
        self._dispatch()

    def _give(self, worker: Worker, job: Job) -> None:
        job.queued = False
        same = worker.door == job.door
        self._leave_room(worker, keep=same and job.enters)
        if job.promised:
            job.promised = False
            if same:  # its session is counted already
                job.bmc.sessions -= 1
        worker.since, worker.stuck = time.monotonic(), False
        if job.enters:
            self._lost_logins += not same and worker.since - job.bmc.evicted < self.settings.linger
            worker.door, worker.bmc = job.door, job.bmc
        worker.job, self._at[job] = job, worker
        self._busy[worker] = None
        self._number += 1
        known = worker.tell(
            {
                "id": self._number,
                "do": job.do,
                "door": on_the_wire(job.door, job.bmc.host or job.door.host),
                "deadline": job.deadline,
                "linger": self.settings.linger,
                "patience": job.bmc.patience,
                "connect": job.door.connect_timeout or self.settings.connect_timeout,
            }
        )
        if not known:
            self._loop.call_soon(self._gone, worker)

    def _settle(self, job: Job, outcome: Report | AgentFault) -> None:
        if not job.answer.done():
            job.answer.set_result(outcome)

    def _half_over(self, job: Job) -> None:
        """Tell a caller half of whose time passed in our queue; whether it comes again is the caller's business.

        A device that is asked at the last moment cannot answer in time: that would look like its silence.
        """
        if job.queued:
            self._settle(job, AgentFault(kind=FaultKind.BUSY, message="its turn did not come: too much else is asked at once"))
        else:
            job.timers.append(self._loop.call_later(max(job.deadline - time.monotonic(), 0), self._expire, job))

    def _expire(self, job: Job) -> None:
        """End what a job has started, now that its deadline has come, and answer its caller."""
        if job.answer.done():
            return
        if job in self._at:
            job.expired = True
            self._kill(self._at[job])
            return
        self._settle(job, _too_late(job))

    # Sessions

    def _leave_room(self, worker: Worker, *, keep: bool) -> None:
        """Take a worker out of those that linger; its session counts on only if *keep*."""
        if worker.door is not None and self._lingering.get(worker.door) is worker:
            del self._lingering[worker.door]
        if not keep:
            self._forget_session(worker)

    def _forget_session(self, worker: Worker) -> None:
        bmc, worker.bmc, worker.door = worker.bmc, None, None
        if bmc is not None:
            bmc.sessions -= 1
            self._next_of(bmc)

    def _break_promise(self, job: Job) -> None:
        if job.promised:
            job.promised = False
            job.bmc.sessions -= 1
            self._next_of(job.bmc)

    def _next_of(self, bmc: Bmc) -> None:
        """Let the next job of a BMC try for a session."""
        while bmc.waiting:
            job = bmc.waiting.popleft()
            if not job.answer.done():
                self._loop.call_soon(self._admit, job)
                return

    def _close_session(self, worker: Worker) -> None:
        """Have a lingering worker close its session; it is free for others at once."""
        self._leave_room(worker, keep=False)
        if worker.tell({"do": "close"}):
            self._free.append(worker)

    def _back_off(self, bmc: Bmc) -> None:
        bmc.failures += 1
        pause = min(self.settings.first_back_off * 2 ** (bmc.failures - 1), self.settings.longest_back_off)
        bmc.not_before = time.monotonic() + pause

    # Workers

    def _spawn(self, count: int) -> bool:
        """Ask for up to *count* more workers; tell whether any was asked for."""
        count = min(count, self._most - len(self._workers), _BIRTHS - len(self._born))
        asked = False
        for _ in range(count):
            worker = self._forker.spawn() if self._forker is not None else None
            if worker is None:
                break
            self._workers.add(worker)
            self._born.add(worker)
            asked = True
        return asked

    def _heard(self, worker: Worker) -> None:
        """Something came from a worker."""
        reports, gone = worker.reports()
        for report in reports:
            self._take_report(worker, report)
        if gone:
            self._gone(worker)
        elif reports:
            self._dispatch()

    def _take_report(self, worker: Worker, report: Report) -> None:
        if "pid" in report:
            worker.pid = report["pid"]
            self._born.discard(worker)
            self._set_free(worker)
        elif report.get("closed"):
            if worker.job is None and worker.door is not None:
                self._leave_room(worker, keep=False)
                self._set_free(worker)
        elif worker.job is not None and report.get("sending"):
            worker.job.sending = True
        elif worker.job is not None:
            self._finished(worker, worker.job, report)

    def _set_free(self, worker: Worker) -> None:
        worker.since = time.monotonic()
        self._free.append(worker)
        if self._trimming is None and len(self._workers) > self._base and not self._closed:
            self._trimming = self._loop.call_later(self.settings.idle, self._trim)

    def _off_duty(self, worker: Worker) -> None:
        if worker in self._busy:
            del self._busy[worker]
            self._stuck -= worker.stuck
            worker.stuck = False
        if worker.job is not None:
            self._at.pop(worker.job, None)
            worker.job = None

    def _finished(self, worker: Worker, job: Job, report: Report) -> None:
        self._off_duty(worker)
        bmc = job.bmc
        if "power" in report or "accepted" in report:
            bmc.heard, bmc.failures = time.monotonic(), 0
        if worker.ending:
            pass  # killed while it spoke: what it said stands, its session is lost
        elif report.get("open") and worker.door is not None and worker.door not in self._lingering:
            self._lingering[worker.door] = worker
            self._next_of(bmc)
        elif report.get("open") and worker.door is not None:
            self._close_session(worker)
        else:
            self._forget_session(worker) if job.enters else None
            self._set_free(worker)
        if report.get("full") and not job.expired:
            job.crowded = True
            self._back_off(bmc)
            self._admit(job)
            return
        late = job.crowded and report.get("fault") == FaultKind.TIMEOUT.value and not report.get("sent")
        self._settle(job, _too_late(job) if late else report)

    def _kill(self, worker: Worker) -> None:
        if not worker.ending:
            worker.kill()
            self._loop.call_later(_LAST_BREATH, self._gone, worker)

    def _gone(self, worker: Worker) -> None:
        """Bury a worker that is no more, and answer for what it was doing."""
        if worker not in self._workers:
            return
        for report in worker.reports()[0]:
            self._take_report(worker, report)
        self._workers.discard(worker)
        unborn = worker in self._born
        self._born.discard(worker)
        job, bmc = worker.job, worker.bmc
        self._off_duty(worker)
        self._leave_room(worker, keep=False)
        if worker in self._free:
            self._free.remove(worker)
        if self._forker is not None:
            self._forker.bury(worker)
        worker.ending = True
        if bmc is not None and job is not None:
            self._back_off(bmc)  # its session stays open in the device for a while (facts §9.3)
        if job is not None:
            self._answer_for(job)
        if unborn and not self._workers and not self._closed:
            self._fail_all("no process could be forked")
        self._dispatch()

    def _answer_for(self, job: Job) -> None:
        """Say what became of a job whose worker died."""
        if job.answer.done():
            return
        what = f"{job.do} was sent: it may have acted" if job.sending else f"{job.do} was not sent"
        if job.expired and job.crowded and not job.sending:
            self._settle(job, _too_late(job))
        elif job.expired:
            message = f"the deadline passed; {what}" if job.do in {"on", "off"} else "the deadline passed"
            self._settle(job, AgentFault(kind=FaultKind.TIMEOUT, message=message, sent=job.sending))
        elif not job.sending and job.deaths < 2 and not self._closed:
            job.deaths += 1
            self._admit(job)
        else:
            message = f"the worker process ended; {what}"
            self._settle(job, AgentFault(kind=FaultKind.FAILED, message=message, sent=job.sending))

    def _trim(self) -> None:
        """End workers that had nothing to do for a while, down to the number always kept."""
        self._trimming = None
        long_ago = time.monotonic() - self.settings.idle
        idle = [worker for worker in self._free if worker.since <= long_ago]
        for worker in idle[: max(len(self._workers) - self._base, 0)]:
            self._gone(worker)
        if len(self._workers) > self._base:
            self._trimming = self._loop.call_later(self.settings.idle, self._trim)

    def _forker_ended(self, why: str) -> None:
        """Count the workers dead with their forker; another one is started when there is work."""
        if why or self._forkers >= _FORKERS:
            self._fail_all(why or "the process that makes workers keeps ending")
        for worker in list(self._workers):  # the kernel ends them; their numbers may be a stranger's by now
            worker.ending = True
            self._gone(worker)
        forker, self._forker = self._forker, None
        if forker is not None and not self._closed:
            self._burial = self._loop.create_task(forker.close())
        if self._begun or self._new:
            self.start()

    def _fail_all(self, why: str) -> None:
        self._broken = why
        for queue in (self._begun, self._new):
            while queue:
                job = queue.popleft()
                self._break_promise(job)
                self._settle(job, self._unusable())


def _too_late(job: Job) -> AgentFault:
    """Return why a job did not come to its device in time: a device that was full is not one that was slow."""
    if job.crowded:
        return AgentFault(kind=FaultKind.FAILED, message="the device had no free session")
    return AgentFault(kind=FaultKind.TIMEOUT, message="the deadline passed before the device was asked")
