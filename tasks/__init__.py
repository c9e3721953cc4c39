"""What Celery runs: ``celery -A tasks worker -Q mail.transactional``, ``celery -A tasks beat``."""

from .app import app

__all__ = ["app"]
