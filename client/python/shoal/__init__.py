"""Answers from a Shoal cluster, over ZeroMQ.

    import shoal

    with shoal.Client("tcp://127.0.0.1:7700,tcp://127.0.0.1:7701") as cluster:
        for event in cluster.generate(model="tiny", messages=[{"role": "user", "content": "12+30"}]):
            print(event.text, end="")

A Client keeps connections to all its routers, notices when one dies, and carries its calls over to another: a caller sees each token
exactly once and in order, with a pause at worst. It may be used from any number of threads; one thread of its own does all input and
output. The rules are those of proto/README.md, as client/core.c of libshoal keeps them.
"""

import itertools
import json
import os
import queue
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Optional

import zmq

from . import shoal_pb2 as pb

__all__ = ["Client", "Event", "Error", "pb"]

PROTOCOL = 1
SAME_ROUTER_S = 0.3  # a call waits so long for its lost router before it goes to another
WATCH_S = 3.0        # silence about a call until its router is asked again
AVOID_S = 2.0        # a router that shuts down gets nothing new for
RESEND_S = 0.2       # between two askings for the same gap
PLACEMENTS_MAX = 32  # of one call without a new token in between
REDIAL_S = 0.2
# Numbers of common/base/error.h.
ERR_MODEL_NOT_FOUND, ERR_UNAVAILABLE, ERR_DRAINING = 5, 13, 25
OF_ONE_ROUTER = {ERR_MODEL_NOT_FOUND, ERR_UNAVAILABLE}  # what it says of itself alone
FINISH = {pb.FINISH_STOP: "stop", pb.FINISH_LENGTH: "length", pb.FINISH_TOOL_CALLS: "tool_calls", pb.FINISH_CANCELLED: "cancelled"}
CHANNEL = {0: "content", 1: "reasoning", 2: "tool_call"}


class Error(Exception):
    """Why an answer will not be complete. What came before it stays valid."""

    def __init__(self, status, text, http=0, retryable=False, retry_after_ms=0, param=""):
        super().__init__(text)
        self.status, self.http, self.retryable, self.retry_after_ms, self.param = status, http, retryable, retry_after_ms, param


@dataclass
class Event:
    """kind: "token"; "tail", text that was held back when the last token came; "done", the end of one choice."""

    kind: str
    choice: int
    text: str = ""
    channel: str = "content"
    token: int = 0
    offset: int = 0
    logprob: Optional[float] = None
    top_logprobs: list = field(default_factory=list)  # (token, logprob, its bytes)
    finish: Optional[str] = None
    usage: Optional[dict] = None
    replica: str = ""
    router: str = ""


class _Router:
    def __init__(self, index, address):
        self.index, self.address = index, address
        self.socket = self.monitor = None
        self.greeted, self.incarnation, self.name = False, 0, ""
        self.heard_at = self.said_at = self.redial_at = self.avoid_until = 0.0
        self.heartbeat_s = 0.1


class _Stream:
    """One choice of one call."""

    def __init__(self, call, choice):
        self.call, self.choice = call, choice
        self.records = pb.Records()
        self.count = self.placements = self.moves = self.unanswered = 0
        self.router, self.placed_on, self.placed = None, 0, False
        self.attempt, self.accepted, self.replica, self.fingerprint = (0, 0, 0), False, "", ""
        self.same_router_until = self.resend_at = 0.0
        self.waiting_since = time.monotonic()
        self.watch_at = 0.0
        self.refused, self.ended = set(), False

    def key(self):
        return pb.Stream(request=self.call.request, choice=self.choice)


class _Call:
    def __init__(self, request, generate, n, deadline):
        self.request, self.generate, self.deadline = request, generate, deadline
        self.news = queue.SimpleQueue()
        self.streams = [_Stream(self, i) for i in range(n)]


def _order(a):
    return (a.takeover, a.counter, a.router)


def _attempt(t):
    return pb.Attempt(takeover=t[0], counter=t[1], router=t[2])


class Client:
    """routers: addresses, "tcp://host:port", separated by commas. key and server_key: this client's certificate and the routers' public
    keys, as `shoal keygen` makes them (40 characters, or (public, secret)); both or neither."""

    def __init__(self, routers, name="python", tenant="", key=None, server_key=None, connect_s=5.0, silence_s=1.5):
        self._routers = [_Router(i, a.strip()) for i, a in enumerate(routers.split(",")) if a.strip()]
        if not self._routers:
            raise ValueError("no routers are given")
        if (key is None) != (server_key is None):
            raise ValueError("key and server_key go together: give both, or neither")
        self._name, self._tenant, self._key, self._server_key = name, tenant, key, server_key
        self._connect_s, self._silence_s = connect_s, silence_s
        self._incarnation = random.SystemRandom().getrandbits(64) | 1
        self._context = zmq.Context()
        self._streams, self._orders, self._closing = {}, queue.SimpleQueue(), False
        self._turn = itertools.count(random.randrange(len(self._routers)))
        self._wake_in, self._wake_out = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        place = f"inproc://wake-{id(self)}"
        self._wake_out.bind(place)
        self._wake_in.connect(place)
        self._wake_lock = threading.Lock()
        self._poller = zmq.Poller()
        self._poller.register(self._wake_out, zmq.POLLIN)
        self._thread = threading.Thread(target=self._run, name="shoal-client", daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Ends everything; calls in progress fail as cancelled."""
        self._closing = True
        self._wake()
        self._thread.join()

    # ---- calls

    def generate(self, model, messages=None, prompt=None, tokens=None, n=1, request_id=None, seed=None, max_tokens=0, deadline_s=None, pin="",
                 priority=0, **parameters):
        """Asks, and yields Events until all n choices have ended; raises Error when one fails. Exactly one of messages (OpenAI's), prompt
        (a text) and tokens. `parameters` are fields of the protocol's Prompt: temperature, top_p, stop, logprobs, ignore_eos, …; tools and
        template_kwargs are given as objects. Closing the generator cancels."""
        call = self._make(model, messages, prompt, tokens, n, request_id, seed, max_tokens, deadline_s, pin, priority, parameters)
        if self._closing:
            raise Error("CANCELLED", "the client was closed", 499)
        self._order(("begin", call))
        left = n
        try:
            while left:
                event = call.news.get()
                if isinstance(event, Error):
                    raise event
                left -= event.kind == "done"
                yield event
        finally:
            if left:
                self._order(("cancel", call, None))

    def complete(self, *args, **kwargs):
        """As generate, but waits: a list with the text of each choice's content."""
        texts = [""] * kwargs.get("n", 1)
        for event in self.generate(*args, **kwargs):
            if event.channel == "content":
                texts[event.choice] += event.text
        return texts

    def _make(self, model, messages, prompt, tokens, n, request_id, seed, max_tokens, deadline_s, pin, priority, parameters):
        if sum(x is not None for x in (messages, prompt, tokens)) != 1:
            raise ValueError("give exactly one of messages, prompt and tokens")
        if not 1 <= n <= 32:
            raise ValueError(f"n is {n}; 1 to 32 answers are made")
        for name in ("tools", "template_kwargs"):
            if name in parameters:
                parameters[name + "_json"] = json.dumps(parameters.pop(name))
        body = pb.Prompt(choices=n if n > 1 else 0, **parameters)
        if messages is not None:
            body.kind, body.messages_json = pb.PROMPT_CHAT, json.dumps(messages, ensure_ascii=False)
        elif prompt is not None:
            body.kind, body.text = pb.PROMPT_TEXT, prompt
        else:
            body.kind = pb.PROMPT_TOKENS
            body.tokens.extend(tokens)
        size = len(body.messages_json.encode()) or len(body.text.encode()) or 4 * len(body.tokens)
        seed = random.SystemRandom().getrandbits(63) if seed is None else seed % 2**64
        generate = pb.Generate(model=model, pin=pin, tenant=self._tenant, seed=seed, max_tokens=max_tokens, prompt_bytes=size, keep=True,
                               priority=priority, body=body.SerializeToString())
        request = bytes.fromhex(request_id) if request_id else os.urandom(16)
        if len(request) != 16:
            raise ValueError("request_id is not 32 hex digits")
        return _Call(request, generate, n, None if deadline_s is None else time.monotonic() + deadline_s)

    def _order(self, order):
        self._orders.put(order)
        self._wake()

    def _wake(self):
        with self._wake_lock:
            try:
                self._wake_in.send(b"", zmq.NOBLOCK)
            except zmq.ZMQError:
                pass  # it is awake, or gone

    # ---- the thread

    def _run(self):
        try:
            self._turn_until_closed()
            why = Error("CANCELLED", "the client was closed", 499)
        except Exception as e:  # a fault of ours: nobody may wait for ever
            self._closing = True
            why = Error("INTERNAL", f"the client's thread failed: {e!r}", 500)
        for s in list(self._streams.values()):
            self._fail(s, why)
        self._take_orders(time.monotonic(), closing=True)
        for r in self._routers:
            if r.socket:
                r.socket.disable_monitor()
                r.monitor.close(linger=0)
                r.socket.close(linger=200)
        self._wake_out.close()
        self._wake_in.close()
        self._context.term()

    def _turn_until_closed(self):
        while not self._closing:
            now = time.monotonic()
            self._take_orders(now)
            for r in self._routers:
                self._tick_router(r, now)
            for s in list(self._streams.values()):
                self._tick_stream(s, now)
            for socket, _ in self._poller.poll(20 if self._streams else 50):
                self._read(socket)

    def _take_orders(self, now, closing=False):
        while not self._orders.empty():
            what, call, *more = self._orders.get()
            if what == "begin" and closing:
                call.news.put(Error("CANCELLED", "the client was closed", 499))
            elif what == "begin" and any((call.request, c) in self._streams for c in range(32)):
                call.news.put(Error("INVALID_ARGUMENT", "a call with this request_id is in progress", 400, param="request_id"))
            elif what == "begin":
                for s in call.streams:
                    self._streams[call.request, s.choice] = s
            else:
                self._cancel(call, more[0])

    def _read(self, socket):
        if socket is self._wake_out:
            while socket.poll(0):
                socket.recv()
            return
        broken = next((r for r in self._routers if r.monitor is socket), None)
        if broken:
            self._drop(broken, time.monotonic())  # a new connection is a new socket with a new identity
            return
        router = next((r for r in self._routers if r.socket is socket), None)
        for _ in range(256):
            if router is None or router.socket is not socket or not socket.poll(0):
                return
            frames = socket.recv_multipart()
            envelope = pb.Envelope()
            try:
                envelope.ParseFromString(frames[0])
            except Exception:  # noqa: BLE001 - what cannot be read is dropped, as the protocol says
                continue
            router.heard_at = time.monotonic()
            kind = envelope.WhichOneof("body")
            handler = getattr(self, f"_on_{kind}", None)
            if handler and len(frames) == 1:
                handler(router, getattr(envelope, kind), router.heard_at)

    def _say(self, router, **message):
        router.said_at = time.monotonic()
        try:
            router.socket.send(pb.Envelope(version=PROTOCOL, **message).SerializeToString(), zmq.NOBLOCK)
        except zmq.Again:
            pass  # what is lost is asked for again

    # ---- routers

    def _dial(self, r, now):
        r.socket = self._context.socket(zmq.DEALER)
        r.socket.setsockopt(zmq.LINGER, 0)
        if self._key:
            r.socket.curve_publickey, r.socket.curve_secretkey = (k.encode() for k in self._key)
            r.socket.curve_serverkey = self._server_key.encode()
        r.monitor = r.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        r.socket.connect(r.address)
        self._poller.register(r.socket, zmq.POLLIN)
        self._poller.register(r.monitor, zmq.POLLIN)
        r.greeted, r.heard_at = False, now
        self._hello(r, True)

    def _hello(self, r, reply_wanted):
        self._say(r, hello=pb.Hello(protocol_min=PROTOCOL, protocol_max=PROTOCOL, role=pb.ROLE_CLIENT, incarnation=self._incarnation, name=self._name,
                                    pid=os.getpid(), reply_wanted=reply_wanted))

    def _drop(self, r, now):
        self._poller.unregister(r.socket)
        self._poller.unregister(r.monitor)
        r.socket.disable_monitor()
        r.monitor.close(linger=0)
        r.socket.close()
        r.monitor = None
        r.socket, r.greeted, r.redial_at = None, False, now + REDIAL_S * random.uniform(0.5, 1.5)
        for s in self._streams.values():
            if s.placed and s.router is r:
                self._wait_again(s, now)

    def _tick_router(self, r, now):
        silence = max(self._silence_s, 6 * r.heartbeat_s)
        if r.socket is None:
            if now >= r.redial_at:
                self._dial(r, now)
        elif now - r.heard_at > silence:
            self._drop(r, now)
        elif now - r.said_at > 5 * r.heartbeat_s:
            if r.greeted:
                self._say(r, status=pb.Status())
            else:
                self._hello(r, True)

    def _on_hello(self, r, m, now):
        restarted = r.incarnation not in (0, m.incarnation)
        r.greeted, r.incarnation, r.name, r.heartbeat_s = True, m.incarnation, m.name, (m.heartbeat_ms or 100) / 1000
        for s in list(self._streams.values()):
            if s.router is not r or not s.placed_on:
                continue
            s.unanswered = 0
            if restarted and s.placed_on != m.incarnation:
                if s.placed:
                    self._wait_again(s, now)
                s.same_router_until = now
            elif not s.placed and now < s.same_router_until:
                s.placed, s.watch_at = True, now + WATCH_S
                self._sync(s, now)
        if m.reply_wanted:
            self._hello(r, False)

    # ---- placing

    def _wait_again(self, s, now, same_router_s=SAME_ROUTER_S):
        s.placed, s.waiting_since, s.same_router_until = False, now, now + same_router_s

    def _choose(self, s, now):
        n, first = len(self._routers), next(self._turn)
        able = [r for r in (self._routers[(first + k) % n] for k in range(n)) if r.greeted and now >= r.avoid_until and r.index not in s.refused]
        return able[0] if able else None

    def _tick_stream(self, s, now):
        deadline = s.call.deadline
        if deadline is not None and now >= deadline:
            self._cancel(s.call, Error("DEADLINE_EXCEEDED", f"the call's deadline passed with {s.count} tokens received", 504))
        elif s.placed:
            if now >= s.watch_at:
                self._watch(s, now)
        elif now >= s.same_router_until:
            self._place(s, now)

    def _watch(self, s, now):
        s.unanswered += 1
        if s.unanswered <= 3:
            s.watch_at = now + WATCH_S
            self._hello(s.router, True)
            self._sync(s, now)
        else:
            s.router.avoid_until = now + 20
            self._wait_again(s, now, 0)

    def _place(self, s, now):
        if s.placements >= PLACEMENTS_MAX:
            self._fail(s, Error("UNAVAILABLE", f"the request was placed {PLACEMENTS_MAX} times without a result", 503, True))
            return
        router = self._choose(s, now)
        if router is None:
            if now - s.waiting_since >= self._connect_s:
                where = ", ".join(r.address for r in self._routers)
                self._fail(s, Error("UNAVAILABLE", f"no router answered within {self._connect_s:g} s ({where})", 503, True))
            return
        if s.placed_on and s.placed_on != router.incarnation:
            s.moves += 1
        s.placements += 1
        s.router, s.placed_on, s.placed, s.watch_at, s.unanswered = router, router.incarnation, True, now + WATCH_S, 0
        s.attempt = (s.moves, 0, 0)
        g = pb.Generate()
        g.CopyFrom(s.call.generate)
        g.stream.CopyFrom(s.key())
        g.attempt.takeover = s.moves
        if s.call.deadline is not None:
            g.deadline_ms = max(1, int((s.call.deadline - now) * 1000))
        if s.count:
            g.records.CopyFrom(s.records)
            g.fingerprint = s.fingerprint
        self._say(router, generate=g)

    def _sync(self, s, now):
        self._say(s.router, sync=pb.Sync(entries=[pb.SyncEntry(stream=s.key(), attempt=_attempt(s.attempt), next=s.count)]))

    # ---- what a router says of a stream

    def _mine(self, r, m):
        s = self._streams.get((m.stream.request, m.stream.choice))
        return s if s and s.placed and s.router is r and s.placed_on == r.incarnation else None

    def _follow(self, s, attempt, now):
        s.watch_at, s.unanswered = now + WATCH_S, 0
        if _order(attempt) < s.attempt:
            return False
        s.attempt = _order(attempt)
        return True

    def _on_accepted(self, r, m, now):
        s = self._mine(r, m)
        if s and self._follow(s, m.attempt, now):
            s.accepted, s.replica = True, m.replica or s.replica
            if s.count == 0:
                s.fingerprint = m.fingerprint

    def _on_tokens(self, r, m, now):
        s = self._mine(r, m)
        if s is None:
            self._say(r, cancel=pb.Cancel(stream=m.stream, attempt=m.attempt))
            return
        if not self._follow(s, m.attempt, now):
            return
        if not s.accepted or m.offset > s.count:  # a gap, or records of a replica that is not known yet
            if now >= s.resend_at:
                s.resend_at = now + RESEND_S
                if s.accepted:
                    self._say(r, resend=pb.Resend(stream=m.stream, attempt=m.attempt, **{"from": s.count}))
                else:
                    self._sync(s, now)
            return
        self._take(s, m.records, s.count - m.offset)
        self._say(r, ack=pb.Ack(stream=m.stream, attempt=m.attempt, next=s.count))

    def _take(self, s, records, skip):
        """Appends all records but the first `skip`, which are there already, and tells them."""
        text, at, top_at = records.text.encode(), 0, 0
        for i, token in enumerate(records.token):
            size = records.text_bytes[i] if records.text_bytes else 0
            n_top = records.top_count[i] if records.top_count else 0
            has = bool(records.logprob) and (not records.has_logprob or records.has_logprob[i])
            piece, tops = text[at:at + size], range(top_at, top_at + n_top)
            at, top_at = at + size, top_at + n_top
            if i < skip:
                continue
            channel = records.channel[i] if records.channel else 0
            event = Event("token", s.choice, piece.decode(), CHANNEL.get(channel, "content"), token, s.count,
                          records.logprob[i] if has else None, [(records.top_token[k], records.top_logprob[k], records.top_text[k] if records.top_text else b"") for k in tops],
                          replica=s.replica, router=s.router.name)
            own = s.records
            own.token.append(token)
            own.text += piece.decode()
            own.text_bytes.append(size)
            own.channel.append(channel)
            own.logprob.append(records.logprob[i] if has else 0.0)
            own.has_logprob.append(has)
            own.top_count.append(n_top)
            own.top_token.extend(records.top_token[k] for k in tops)
            own.top_logprob.extend(records.top_logprob[k] for k in tops)
            own.top_text.extend(records.top_text[k] if records.top_text else b"" for k in tops)
            s.count += 1
            s.placements, s.refused = 0, set()
            s.call.news.put(event)

    def _on_done(self, r, m, now):
        s = self._mine(r, m)
        if s is None:
            self._say(r, ack=pb.Ack(stream=m.stream, attempt=m.attempt, next=m.n_tokens, done=True))
            return
        if not self._follow(s, m.attempt, now):
            return
        if m.n_tokens > s.count:
            if now >= s.resend_at:
                s.resend_at = now + RESEND_S
                self._say(r, resend=pb.Resend(stream=m.stream, attempt=m.attempt, **{"from": s.count}))
            return
        self._say(r, ack=pb.Ack(stream=m.stream, attempt=m.attempt, next=s.count, done=True))
        if m.n_tokens < s.count:
            self._fail(s, Error("INTERNAL", f"the router ended the answer at {m.n_tokens} tokens after it had sent {s.count}", 502))
        elif m.finish == pb.FINISH_ERROR:
            self._fail(s, self._error(m.error))
        else:
            self._complete(s, m)

    def _complete(self, s, m):
        s.ended, s.replica = True, m.replica or s.replica
        del self._streams[s.call.request, s.choice]
        origin = {"replica": s.replica, "router": s.router.name}
        if m.tail:
            s.call.news.put(Event("tail", s.choice, m.tail, CHANNEL.get(m.tail_channel, "content"), **origin))
        usage = {f.name: getattr(m.usage, f.name) for f in pb.Usage.DESCRIPTOR.fields}
        s.call.news.put(Event("done", s.choice, finish=FINISH.get(m.finish, "unknown"), usage=usage, **origin))

    @staticmethod
    def _error(e, retry_after_ms=0):
        return Error(e.status or "INTERNAL", e.text or "the router gave no reason", e.http, e.retryable, retry_after_ms, e.param)

    def _on_rejected(self, r, m, now):
        s = self._mine(r, m)
        if s is None:
            return
        if m.error.id == ERR_DRAINING and len(self._routers) > 1:
            r.avoid_until = now + AVOID_S
            self._wait_again(s, now, 0)
            return
        s.refused.add(r.index)
        if m.error.id in OF_ONE_ROUTER and self._choose(s, now):
            self._wait_again(s, now, 0)
        else:
            self._fail(s, self._error(m.error, m.retry_after_ms))

    def _on_unknown(self, r, m, now):
        s = self._mine(r, m)
        if s and m.attempt.takeover >= s.moves:
            s.moves += 1
            self._wait_again(s, now, 0)

    def _on_superseded(self, r, m, now):
        s = self._mine(r, m)
        if s and m.attempt.takeover >= s.moves:
            self._fail(s, Error("ABORTED", "the answer was taken over by another client", 409))

    # ---- ends

    def _fail(self, s, why):
        """One choice that fails ends the call."""
        s.call.news.put(why)
        s.ended = True
        self._streams.pop((s.call.request, s.choice), None)
        self._cancel(s.call, None)

    def _cancel(self, call, why):
        for s in call.streams:
            if s.ended or self._streams.pop((call.request, s.choice), None) is None:
                continue
            s.ended = True
            if s.placed and s.router.socket:
                self._say(s.router, cancel=pb.Cancel(stream=s.key()))
        if why:
            call.news.put(why)
