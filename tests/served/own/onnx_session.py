"""An ONNX Runtime session behind a class that knows no torch: JSON rows of numbers in, JSON numbers out."""

from pathlib import Path

import numpy as np
import onnxruntime


class OnnxSession:
    """Handles rows of a table."""

    def initialize(self, context):
        """Open the session."""
        folder = Path(context.system_properties["model_dir"])
        self.session = onnxruntime.InferenceSession(
            str(folder / context.manifest["model"]["serializedFile"]), providers=["CPUExecutionProvider"]
        )

    def preprocess(self, data):
        """Return the rows of all requests, and how many each has."""
        tables = [request["body"]["rows"] for request in data]
        return np.array([row for table in tables for row in table], dtype=np.float32), [len(table) for table in tables]

    def inference(self, batch):
        """Return the outputs of all rows."""
        rows, counts = batch
        return self.session.run(None, {"x": rows})[0], counts

    def postprocess(self, outputs):
        """Return each request's own rows."""
        values, counts = outputs
        ends = np.cumsum(counts)
        return [{"scores": part.tolist()} for part in np.split(values, ends[:-1])]

    def handle(self, data, context):
        """Return an answer for each request."""
        return self.postprocess(self.inference(self.preprocess(data)))
