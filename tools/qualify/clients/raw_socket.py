"""The cheapest client that Python can be: `python raw_socket.py URL CONNECTIONS SECONDS`.

Makes the system calls and nothing around them: no response is parsed, timed, kept or checked. A throughput that this
client does not reach is out of reach of every client written in Python.
"""

import json
import os
import resource
import select
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

READ_BYTES = 1 << 16
OK = b"HTTP/1.1 200"


def request(url):
    """Return the whole request, ready to write."""
    body, key = Path(os.environ["BENCH_BODY"]).read_bytes(), os.environ["BENCH_KEY"]
    lines = (
        f"POST {url.path} HTTP/1.1",
        f"Host: {url.netloc}",
        f"Content-Type: {os.environ['BENCH_TYPE']}",
        f"Content-Length: {len(body)}",
        f"Authorization: Bearer {key}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def main():
    """Send requests, then print the fields of `others.Report` as JSON."""
    url, connections, duration_s = urlsplit(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    asked, poll, sockets = request(url), select.epoll(), {}
    for _ in range(connections):
        made = socket.create_connection((url.hostname, url.port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[made.fileno()] = made
        poll.register(made, select.EPOLLIN)
    answered = refused = 0
    before = resource.getrusage(resource.RUSAGE_SELF)
    start_s = time.monotonic()
    for made in sockets.values():
        made.send(asked)
    while time.monotonic() < start_s + duration_s:
        for number, _ in poll.poll():
            made = sockets[number]
            # A response of noop has a few hundred bytes and comes as one piece.
            if made.recv(READ_BYTES).startswith(OK):
                answered += 1
            else:
                refused += 1
            made.send(asked)
    spent_s = time.monotonic() - start_s
    after = resource.getrusage(resource.RUSAGE_SELF)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"per_s": answered / spent_s, "requests": answered, "refused": refused, "cpu_s": used_s}))


if __name__ == "__main__":
    main()
