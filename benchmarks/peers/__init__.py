"""Others, at the same work: what everybody writes first, a queue of Django, and the physical limit."""
