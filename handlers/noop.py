"""TorchServe handler that computes nothing: what it costs is what serving itself costs."""

import zlib


class Noop:
    """Answers with the body's length and checksum."""

    def initialize(self, context):
        """Nothing to load."""

    def preprocess(self, data):
        """The bodies."""
        return [request.get("data") or request.get("body") or b"" for request in data]

    def inference(self, data):
        """Nothing to compute."""
        return data

    def postprocess(self, data):
        """Length and checksum of each body."""
        return [{"bytes": len(body), "crc32": zlib.crc32(body)} for body in data]

    def handle(self, data, context):
        """One batch."""
        return self.postprocess(self.inference(self.preprocess(data)))
