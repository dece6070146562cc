"""The plain client in Python: `python with_requests.py URL THREADS SECONDS`, a `requests.Session` in each thread."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import requests

OK = 200


def ask(url, duration_s, ready, tallies):
    """Send requests in one thread, then add its [answered, refused] to the tallies."""
    body = Path(os.environ["BENCH_BODY"]).read_bytes()
    headers = {"Content-Type": os.environ["BENCH_TYPE"], "Authorization": f"Bearer {os.environ['BENCH_KEY']}"}
    counts = [0, 0]
    with requests.Session() as session:
        session.trust_env = False  # else the session looks for proxies and .netrc at every request, and is slower still
        ready.wait()
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            counts[session.post(url, data=body, headers=headers).status_code != OK] += 1
    tallies.append(counts)


def main():
    """Send requests, then print the fields of `others.Report` as JSON."""
    url, threads, duration_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    ready, tallies = threading.Barrier(threads + 1), []
    threads_of_users = [threading.Thread(target=ask, args=(url, duration_s, ready, tallies)) for _ in range(threads)]
    for thread in threads_of_users:
        thread.start()
    ready.wait()
    start_s = time.monotonic()
    for thread in threads_of_users:
        thread.join()
    spent_s = time.monotonic() - start_s
    if len(tallies) < threads:
        sys.exit("a thread ended early; its traceback is above")
    answered, refused = (sum(column) for column in zip(*tallies, strict=True))
    print(json.dumps({"per_s": answered / spent_s, "requests": answered, "refused": refused}))


if __name__ == "__main__":
    main()
