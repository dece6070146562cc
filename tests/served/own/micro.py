"""TorchServe's micro-batching: the phases run in threads of their own, at the same time."""

from ts.handler_utils.micro_batching import MicroBatching
from ts.torch_handler.image_classifier import ImageClassifier


class Micro(ImageClassifier):
    """The stock image classifier, two images at a time."""

    def __init__(self):
        super().__init__()
        self.handle = MicroBatching(self, micro_batch_size=2)
