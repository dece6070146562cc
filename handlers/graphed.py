"""A classifier for an NVIDIA GPU: the network is recorded once as CUDA graphs, and replayed for each batch."""

import torch
from classifier import Classifier, body_of


class Graphed(Classifier):
    """A classifier whose batches cost one replay of recorded kernels instead of a launch for each layer.

    A subclass gives `side`, `suitable(body)` and `decoded(bodies)`. The precision is model-config.yaml's
    `precision`, `float32` (without TF32) or `bfloat16`. Without a GPU the network runs as it is.
    """

    side = 224

    def initialize(self, context):
        """Load, move and record the network."""
        config = getattr(context, "model_yaml_config", None) or {}
        self.precision = getattr(torch, config.get("precision", "float32"))
        self.batch_size = max(1, int(context.system_properties.get("batch_size") or 1))
        self.graphs = {}
        super().initialize(context)
        self.warm_up()

    def load_model(self, folder, entry):
        """Load the network; in half precision fold each batch norm into the convolution before it."""
        super().load_model(folder, entry)
        if self.precision != torch.float32:
            from torch.fx.experimental.optimization import fuse  # noqa: PLC0415 - takes half a second

            self.model = fuse(self.model)

    def to_device(self):
        """Move the network in its precision; float32 means float32, where cuDNN would take TF32."""
        super().to_device()
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        # Measured on an H100: channels last is faster in half precision, and slower in float32 without TF32.
        half = self.precision != torch.float32
        self.format = torch.channels_last if half else torch.contiguous_format
        self.model.to(self.precision, memory_format=self.format)
        self.scale, self.shift = 1 / (255 * self.std), -self.mean / self.std

    def warm_up(self):
        """Record a graph for each power of two up to the batch size; the graphs share their memory."""
        if self.device.type != "cuda":
            return
        sizes = {1 << power for power in range(self.batch_size.bit_length())} | {self.batch_size}
        pool = None
        for size in sorted(sizes, reverse=True):  # the largest first: the others fit into its memory
            images = torch.zeros(size, 3, self.side, self.side, device=self.device, dtype=self.precision)
            images = images.contiguous(memory_format=self.format)
            graph, logits = self._record(images, pool)
            pool = graph.pool()
            self.graphs[size] = (graph, images, logits)

    def _record(self, images, pool):
        """Return the graph of a forward pass, and the tensor that a replay fills."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream), torch.inference_mode():
            for _ in range(3):  # cuDNN chooses its kernels and its memory before the recording
                self.model(images)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, pool=pool):
            logits = self.model(images)
        return graph, logits

    def suitable(self, body):
        """Return whether `decoded` takes this body; any other goes through Pillow."""
        raise NotImplementedError

    def decoded(self, bodies):
        """Return suitable bodies as uint8 images (N, 3, side, side) on the device."""
        raise NotImplementedError

    def preprocess(self, data):
        """Return the requests as a normalised tensor on the device; a batch with an odd image goes through Pillow."""
        bodies = [body_of(request) for request in data]
        if not all(isinstance(body, (bytes, bytearray)) and self.suitable(body) for body in bodies):
            return super().preprocess(data)
        try:
            with torch.inference_mode():
                pixels = self.decoded([torch.frombuffer(bytearray(body), dtype=torch.uint8) for body in bodies])
                images = torch.addcmul(self.shift, pixels.float(), self.scale)
        except RuntimeError:  # one of them is broken: which one, Pillow tells
            return super().preprocess(data)
        self.broken = {}
        return images

    def inference(self, data):
        """Return the logits (N, classes) of images (N, 3, H, W)."""
        count = len(data)
        sizes = [size for size in self.graphs if size >= count]
        with torch.inference_mode():
            if not count or not sizes:
                return super().inference(data.to(self.precision) if count else data)
            graph, images, logits = self.graphs[min(sizes)]
            images[:count].copy_(data)  # what an earlier batch left behind it has no part in these answers
            graph.replay()
            return logits[:count].float()
