"""Webhooks on their way: what is due is signed, POSTed, and tried again until somebody has it or a day is over.

Knows how a webhook is signed and when it is tried again; what it says is handed in as bytes, and `deliveries.py` keeps
the rows. A receiver's URL is a stranger's: `references/fetch.py` connects to judged addresses only.

An attempt is a thread of its own, for it mostly waits. A receiver that did not take its last webhook is tried one at a
time, and nobody gets all the places, so one that is dead delays nobody else.
"""

from __future__ import annotations

import base64
import hmac
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from hashlib import sha256

import structlog

from mutoscope import tracing
from mutoscope.deliveries import Deliveries, Delivery, Outcome
from mutoscope.references.addresses import IPNetwork
from mutoscope.references.fetch import Reply, post
from mutoscope.references.targets import FetchError
from mutoscope.tasks import Task

log = structlog.get_logger()

ATTEMPT_SECONDS = 15.0
"""A receiver that has not answered for this long has not taken it."""

_LEASE_SECONDS = 2 * ATTEMPT_SECONDS  # an attempt whose end nobody noted by then is made again
_WINDOW_SECONDS = 24 * 3600.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 4 * 3600.0
_JITTER = 0.1

_AT_ONCE = 128
_AT_ONCE_BY_KEY = 64
_AT_ONCE_BY_RECEIVER = 16
_LOOK_SECONDS = 0.25  # workers are other processes: nobody rings here
_AFTER_FAULT_SECONDS = 2.0
_MOST_REMEMBERED = 10_000


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove a webhook to be ours; `secret` is the key's, `whsec_` and base64.

    Two schemes, because receivers of WaveSpeed's webhooks take `webhook-signature` apart at its one comma: their `v3`
    stands there alone, and Standard Webhooks' `v1` in the headers that Svix's libraries look for first.
    """
    key = secret.removeprefix("whsec_")
    signed = f"{message_id}.{timestamp}.".encode() + body
    v3 = hmac.new(key.encode(), signed, sha256).hexdigest()  # with the text as it stands, which is no mistake
    v1 = base64.b64encode(hmac.new(base64.b64decode(key), signed, sha256).digest()).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v3,{v3}",
        "svix-id": message_id,
        "svix-timestamp": str(timestamp),
        "svix-signature": f"v1,{v1}",
    }


def pause_after(attempt: int, retry_after: str, now: float) -> float:
    """Seconds until the next attempt: 5 and doubling, up to 4 hours, give or take a tenth; or as the receiver asks."""
    usual = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 32), _LONGEST_PAUSE_SECONDS)
    return max(usual * random.uniform(1 - _JITTER, 1 + _JITTER), _asked(retry_after, now))  # noqa: S311 - no secret


def _asked(retry_after: str, now: float) -> float:
    """What a Retry-After header asks for, in seconds: it holds a number of them, or a date; anything else is 0."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


class Deliverer:
    """Delivers what is due, on a thread of its own, until stopped.

    `body_of` makes a task's webhook: its JSON in bytes. `secret_of` finds the webhook secret of a key by the key's id.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        body_of: Callable[[Task], bytes],
        secret_of: Callable[[str], str],
        *,
        allow_networks: Sequence[IPNetwork] = (),
        attempt_seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._deliveries = deliveries
        self._body_of = body_of
        self._secret_of = secret_of
        self._allow_networks = allow_networks
        self._attempt_seconds = attempt_seconds
        self._clock = deliveries.clock
        self._under_way: dict[tuple[str, int], Delivery] = {}
        self._answering: dict[str, bool] = {}  # receiver → whether it took the last one
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deliverer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace_seconds: float = 5) -> None:
        """Begin no more attempts, and note what comes of those under way for so long; the others are made again."""
        self._stopping.set()
        self._outcomes.put(None)
        self._thread.join(grace_seconds)

    def _run(self) -> None:
        unwritten: list[Outcome] = []
        while not self._stopping.is_set() or self._under_way or unwritten:
            unwritten += self._gather()
            try:
                if unwritten:
                    self._deliveries.note(unwritten)
                for outcome in unwritten:
                    self._settle(outcome)
                unwritten = []
                if not self._stopping.is_set():
                    self._begin()
            except Exception:  # a busy database must not end the delivering
                log.exception("webhooks can't be read or noted; it is tried again")
                if self._stopping.wait(_AFTER_FAULT_SECONDS):
                    return

    def _gather(self) -> list[Outcome]:
        """What attempts have come to: all there is now, or else the first within a moment."""
        gathered: list[Outcome] = []
        try:
            first = self._outcomes.get(timeout=_LOOK_SECONDS)
            gathered += [first] if first else []
            while True:
                if following := self._outcomes.get_nowait():
                    gathered.append(following)
        except queue.Empty:
            return gathered

    def _begin(self) -> None:
        """Start as many attempts as there are places for, and no more of a receiver or a key than its share."""
        receivers = Counter(delivery.receiver for delivery in self._under_way.values())
        keys = Counter(delivery.task.key_id for delivery in self._under_way.values())

        def has_room(receiver: str, key_id: str) -> bool:
            has = receivers[receiver] < self._share_of(receiver) and keys[key_id] < _AT_ONCE_BY_KEY
            has = has and receivers.total() < _AT_ONCE
            receivers[receiver] += has
            keys[key_id] += has
            return has

        while receivers.total() < _AT_ONCE:
            claimed = self._deliveries.claim(
                has_room,
                _LEASE_SECONDS,
                without_receivers=[name for name, count in receivers.items() if count >= self._share_of(name)],
                without_keys=[key_id for key_id, count in keys.items() if count >= _AT_ONCE_BY_KEY],
            )
            for delivery in claimed:
                self._under_way[delivery.id, delivery.attempt] = delivery
                threading.Thread(target=self._attempt, args=(delivery,), name="webhook", daemon=True).start()
            if not claimed:
                return

    def _share_of(self, receiver: str) -> int:
        return _AT_ONCE_BY_RECEIVER if self._answering.get(receiver) else 1

    def _settle(self, outcome: Outcome) -> None:
        delivery = outcome.delivery
        self._under_way.pop((delivery.id, delivery.attempt), None)
        if len(self._answering) >= _MOST_REMEMBERED:
            self._answering.clear()
        self._answering[delivery.receiver] = outcome.status_code is not None and outcome.status_code < 500

    def _attempt(self, delivery: Delivery) -> None:
        """One attempt, on its own thread; whatever happens, an outcome is handed over."""
        began, made_at = time.monotonic(), time.time()
        reply: Reply | None = None
        try:
            with tracing.span("webhook", delivery.task.id, attempt=delivery.attempt):
                made_at = self._clock()  # asks the database, which may be away
                reply = self._send(delivery, made_at)
            error = "" if 200 <= reply.status < 300 else f"the receiver answered {reply.description}"
        except FetchError as reason:
            error = str(reason)
        except Exception:
            log.exception("a webhook could not be sent", task=delivery.task.id)
            error = "the server failed to send it"
        outcome = self._judge(delivery, reply, error, made_at, round((time.monotonic() - began) * 1000))
        log.info(
            "webhook",
            task=delivery.task.id,
            attempt=delivery.attempt,
            state=outcome.state,
            status=outcome.status_code,
            error=error,
            milliseconds=outcome.milliseconds,
        )
        self._outcomes.put(outcome)

    def _send(self, delivery: Delivery, now: float) -> Reply:
        deadline = time.monotonic() + self._attempt_seconds
        body = self._body_of(delivery.task)
        proof = sign(self._secret_of(delivery.task.key_id), delivery.task.id, int(now), body)
        headers = {"Content-Type": "application/json", **proof}
        return post(delivery.url, body, headers, deadline=deadline, allow_networks=self._allow_networks)

    def _judge(self, delivery: Delivery, reply: Reply | None, error: str, made_at: float, milliseconds: int) -> Outcome:
        status = reply.status if reply else None
        noted = (delivery, made_at, milliseconds, status, error)
        if not error:
            return Outcome(*noted, "delivered")
        if status == 410:
            return Outcome(*noted, "refused")
        now = made_at + milliseconds / 1000
        due_at = now + pause_after(delivery.attempt, reply.retry_after if reply else "", now)
        if due_at > delivery.created_at + _WINDOW_SECONDS:
            return Outcome(*noted, "given_up")
        return Outcome(*noted, "due", due_at)
