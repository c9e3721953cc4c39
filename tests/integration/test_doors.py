"""What the Celery door may do: no path is read for it, and nothing that it was handed may vanish."""

from pathlib import Path

from dispatcher.bootstrap import AttachmentPaths, build
from dispatcher.delivery import Lane
from dispatcher.sources import load


def test_over_celery_a_path_is_refused_even_inside_the_folders_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    settings = load({}, data_dir=tmp_path / "var", attachments_dirs=[tmp_path], **{"from": "erp@example.com"})
    mail = {"to": ["a@example.com"], "subject": "Hi", "text": "x", "attachments": [{"path": "report.pdf"}]}
    with build(settings, paths=AttachmentPaths.NOWHERE, sink=lambda _: None) as dispatcher:
        assert dispatcher.take_in(mail, door="task", reference="1") == "rejected"
        (kept,) = dispatcher.ledger.rejects()
        assert (kept.field, kept.reference) == ("attachments[0].path", "1")
    with build(settings, sink=lambda _: None) as dispatcher:
        assert dispatcher.submit(mail).accepted == 1
        assert dispatcher.ledger.due(Lane.TRANSACTIONAL, 10) == 1


def test_the_data_folder_is_made_private(tmp_path: Path) -> None:
    settings = load({}, data_dir=tmp_path / "var")
    with build(settings, sink=lambda _: None):
        assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700
