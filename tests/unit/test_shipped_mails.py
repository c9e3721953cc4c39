"""Every template that ships makes a mail that says the same as the standard library's would."""

from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from dispatcher.adapters.folder import TemplateFolder, shipped
from dispatcher.mail import Address
from dispatcher.mime import Content, build
from dispatcher.render import Template

SHIPPED = TemplateFolder(shipped())


@pytest.mark.parametrize("name", SHIPPED.names())
@pytest.mark.parametrize("locale", ["en", "zh"])
def test_it_means_what_the_standard_library_would_have_built(name: str, locale: str) -> None:
    template = Template(SHIPPED.load(name))
    rendered = template.render(locale, template.sample(locale))
    assert rendered.html is not None
    sender, to = Address("shop", "example.com", "店"), Address("li", "example.com", "李雷")
    theirs = EmailMessage(policy=policy.SMTP)
    theirs["Subject"], theirs["From"], theirs["To"] = rendered.subject, str(sender), str(to)
    theirs.set_content(rendered.text)
    theirs.add_alternative(rendered.html, subtype="html")
    raw, utf8 = build(
        Content("ab-1-cd", 1.7e9, sender, (to,), (), (), rendered.subject, rendered.text, rendered.pieces)
    )
    ours, expected = (message_from_bytes(each, policy=policy.default) for each in (raw, theirs.as_bytes()))
    assert [ours[field] for field in ("Subject", "From", "To")] == [
        expected[field] for field in ("Subject", "From", "To")
    ]
    for part, other in zip(ours.walk(), expected.walk(), strict=True):
        assert part.get_content_type() == other.get_content_type()
        assert part.is_multipart() or part.get_content() == other.get_content()
    assert not utf8
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 78
