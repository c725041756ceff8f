"""Many streams at once over plain sockets, in one thread: raw HTTP/1.1 and server-sent events, with the time of every piece."""

import asyncio
import json
import time


class Answer:
    def __init__(self):
        self.text, self.times, self.error, self.usage, self.done = "", [], None, None, False

    def take(self, line):
        if line == "[DONE]":
            self.done = True
            return
        event = json.loads(line)
        self.error = event.get("error") or self.error
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices", []):
            if choice["text"]:
                self.text += choice["text"]
                self.times.append(time.monotonic())

    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:])]


async def _ask(router, body, start, leave_after=None):
    """leave_after: hangs up once so many pieces of text have come."""
    host, port = router.http.rsplit(":", 1)
    answer = Answer()
    await asyncio.sleep(start)
    answer.asked = time.monotonic()
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    payload = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(payload), payload))
    try:
        status = await reader.readline()
        answer.status = int(status.split()[1])
        while not answer.done and not answer.error and answer.status == 200:
            line = await reader.readline()
            if not line:
                break
            if line.startswith(b"data: "):
                answer.take(line[6:].decode().strip())
            if leave_after is not None and len(answer.times) >= leave_after:
                break
    finally:
        writer.close()
    answer.ended = time.monotonic()
    return answer


def crowd(router, bodies, starts=None, leave=None, timeout=300):
    """All bodies at once (or after their starts, in seconds); the answers in their order."""

    async def run():
        tasks = [_ask(router, b, starts[i] if starts else 0, leave[i] if leave else None) for i, b in enumerate(bodies)]
        return await asyncio.wait_for(asyncio.gather(*tasks), timeout)

    return asyncio.run(run())


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p))]
