"""The fixtures of `support`, for the tests of this folder."""

from support import (  # noqa: F401 - pytest finds fixtures here by name
    _sessions_of_their_own,
    cat,
    handlers,
    make_queue,
    make_response,
    make_sample,
    server,
    suite,
)
