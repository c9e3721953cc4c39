"""Others call in: servers of the dispatcher's own."""
