"""A handler whose worker cannot even start: its module imports a package that is not installed."""

import a_library_that_nobody_has  # noqa: F401


class Broken:
    """A handler that is never reached."""

    def initialize(self, context):
        """Never reached."""

    def handle(self, data, context):
        """Never reached."""
