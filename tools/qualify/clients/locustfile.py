"""Locust's faster user, sending without a pause. The request is in the environment: see `others.Target`."""

import os
from pathlib import Path

from locust import FastHttpUser, task

BODY = Path(os.environ["BENCH_BODY"]).read_bytes()
HEADERS = {"Content-Type": os.environ["BENCH_TYPE"], "Authorization": f"Bearer {os.environ['BENCH_KEY']}"}


class Asker(FastHttpUser):
    """A user with one connection. Without a `wait_time` a user sends again as soon as its response is there."""

    running = 0

    def on_start(self):
        """Reset the counts once all users run; Locust's own --reset-stats would wait a second more."""
        Asker.running += 1
        if Asker.running == self.environment.parsed_options.num_users:
            self.environment.stats.reset_all()

    @task
    def ask(self):
        """Send one request; Locust counts every response that is no success as a failure."""
        self.client.post(os.environ["BENCH_PATH"], data=BODY, headers=HEADERS)
