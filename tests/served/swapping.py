"""A handler that is right except that it swaps the answers to the first two requests of a batch."""

from cifar10 import Cifar10


class Swapping(Cifar10):
    """The CIFAR-10 handler with two answers swapped."""

    def handle(self, data, context):
        """Return the answers, the first two swapped."""
        answers = super().handle(data, context)
        answers[:2] = answers[:2][::-1]
        return answers
