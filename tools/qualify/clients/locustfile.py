"""Locust's faster user, asking without a pause. What it asks is in the environment: see `others.Target`."""

import os
from pathlib import Path

from locust import FastHttpUser, task

BODY = Path(os.environ["BENCH_BODY"]).read_bytes()
HEADERS = {"Content-Type": os.environ["BENCH_TYPE"], "Authorization": f"Bearer {os.environ['BENCH_KEY']}"}


class Asker(FastHttpUser):
    """One connection. Without a `wait_time` a user asks again as soon as it is answered."""

    running = 0

    def on_start(self):
        """What was counted before all users ran is forgotten; Locust's own --reset-stats would wait a second more."""
        Asker.running += 1
        if Asker.running == self.environment.parsed_options.num_users:
            self.environment.stats.reset_all()

    @task
    def ask(self):
        """One request; whatever is no success, Locust counts as a failure."""
        self.client.post(os.environ["BENCH_PATH"], data=BODY, headers=HEADERS)
