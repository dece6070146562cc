"""A handler that is right but for one thing: it gives the first two requests of a batch each other's answer."""

from cifar10 import Cifar10


class Swapping(Cifar10):
    """Everything else is the handler that it spoils."""

    def handle(self, data, context):
        """Answers one and two change places."""
        answers = super().handle(data, context)
        answers[:2] = answers[:2][::-1]
        return answers
