"""A reference for models whose answers the test itself checks."""


def answers(network, bodies):
    """Return some answer for each body."""
    return [{"any": 0.0} for _ in bodies]
