"""A TorchServe handler that computes nothing: its cost is the cost of serving itself."""

import zlib


class Noop:
    """A handler that answers with the body's length and checksum."""

    def initialize(self, context):
        """Load nothing."""

    def preprocess(self, data):
        """Return the requests' bodies."""
        return [request.get("data") or request.get("body") or b"" for request in data]

    def inference(self, data):
        """Return the bodies as they are."""
        return data

    def postprocess(self, data):
        """Return length and checksum of each body."""
        return [{"bytes": len(body), "crc32": zlib.crc32(body)} for body in data]

    def handle(self, data, context):
        """Return an answer for each request of the batch."""
        return self.postprocess(self.inference(self.preprocess(data)))
