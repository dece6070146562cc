"""A reference for models whose answers are looked at by the test itself."""


def answers(network, bodies):
    """Something for each."""
    return [{"any": 0.0} for _ in bodies]
