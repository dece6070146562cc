"""An asynchronous handler that streams, several batches at a time, as a large language model's does."""

import asyncio

from ts.handler_utils.utils import send_intermediate_predict_response


class Talk:
    """Answers word by word."""

    def initialize(self, context):
        """Load nothing."""

    async def handle(self, data, context):
        """Send each word but the last as a chunk of its own; meanwhile other batches go on."""
        texts = [request["body"].split() for request in data]
        for turn in range(max(map(len, texts)) - 1):
            chunk = [f"{text[turn]} " if turn < len(text) - 1 else "" for text in texts]
            send_intermediate_predict_response(chunk, context.request_ids, "part", 200, context)
            await asyncio.sleep(0.004)
        return [text[-1] for text in texts]
