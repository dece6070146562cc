"""A handler whose worker cannot even start: it imports what is not installed."""

import a_library_that_nobody_has  # noqa: F401


class Broken:
    """Never reached."""

    def initialize(self, context):
        """Never reached."""

    def handle(self, data, context):
        """Never reached."""
