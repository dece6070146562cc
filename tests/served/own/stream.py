"""A handler that streams: one chunk for each word, with the rest of the sentence at the end."""

import time

from ts.handler_utils.utils import send_intermediate_predict_response


class Stream:
    """Answers word by word."""

    def initialize(self, context):
        """Load nothing."""

    def handle(self, data, context):
        """Send each word but the last as a chunk of its own."""
        texts = [request["body"].split() for request in data]
        for turn in range(max(map(len, texts)) - 1):
            chunk = [f"{text[turn]} " if turn < len(text) - 1 else "" for text in texts]
            send_intermediate_predict_response(chunk, context.request_ids, "part", 200, context)
            time.sleep(0.004)
        return [text[-1] for text in texts]
