import pytest

from dispatcher.reply import MAX_TEXT, Phase, Reply, ReplyClass, classify


@pytest.mark.parametrize(
    ("code", "text", "enhanced", "words"),
    [
        (250, b"2.0.0 Ok: queued as 4XYZ", "2.0.0", "Ok: queued as 4XYZ"),
        (250, b"", None, ""),
        (250, b"Ok", None, "Ok"),
        (550, b"5.1.1 <a@b>: Recipient address rejected", "5.1.1", "<a@b>: Recipient address rejected"),
        (550, b"5.1.1 no such user\n5.1.1 see the manual", "5.1.1", "no such user see the manual"),
        (550, b"5.1.1\n5.1.1 alone on its line", "5.1.1", "alone on its line"),
        (450, b"5.1.1 the class differs", None, "5.1.1 the class differs"),
        (550, b"5.1.1234 not a status code", None, "5.1.1234 not a status code"),
        (550, b"10.5.1.1 is an address", None, "10.5.1.1 is an address"),
        (554, b"5.7.1 blocked \xff by policy", "5.7.1", "blocked \ufffd by policy"),
        (554, b"nul \x00 and \x1b[31m escape", None, "nul   and  [31m escape"),
        (421, "4.3.2 als Text: müde", "4.3.2", "als Text: müde"),
    ],
)
def test_a_reply_is_read_with_its_enhanced_code_and_its_lines_joined(
    code: int, text: bytes | str, enhanced: str | None, words: str
) -> None:
    reply = Reply.parse(code, text, Phase.RCPT)
    assert (reply.code, reply.enhanced, reply.text, reply.phase) == (code, enhanced, words, Phase.RCPT)


def test_a_reply_without_end_is_cut() -> None:
    assert len(Reply.parse(550, b"x" * 5000, Phase.FINAL).text) == MAX_TEXT


def test_a_reply_prints_as_the_server_said_it() -> None:
    assert str(Reply.parse(550, b"5.1.1 gone", Phase.RCPT)) == "550 5.1.1 gone"
    assert str(Reply.parse(250, b"", Phase.FINAL)) == "250"


CLASSES = [
    (ReplyClass.SUCCESS, Phase.FINAL, "250 2.0.0 Ok"),
    (ReplyClass.SUCCESS, Phase.RCPT, "251 User not local; will forward"),
    # Only a 5yz may bounce.
    (ReplyClass.TRANSIENT, Phase.FINAL, "354 out of step"),
    (ReplyClass.TRANSIENT, Phase.RCPT, "450 4.2.0 Greylisted"),
    (ReplyClass.TRANSIENT, Phase.RCPT, "451 4.7.1 Try again later"),
    (ReplyClass.TRANSIENT, Phase.RCPT, "452 4.5.3 Too many recipients"),
    (ReplyClass.TRANSIENT, Phase.RCPT, "450 4.2.1 mail for this account arrives too quickly"),
    (ReplyClass.RELAY, Phase.MAIL, "421 4.3.2 Service shutting down"),
    (ReplyClass.RELAY, Phase.RCPT, "554 5.7.1 <a@b>: Relay access denied"),
    (ReplyClass.RELAY, Phase.RCPT, "550 relaying denied"),
    (ReplyClass.RELAY, Phase.MAIL, "554 5.3.2 System not accepting network messages"),
    (ReplyClass.RELAY, Phase.MAIL, "503 5.5.1 Bad sequence of commands"),
    (ReplyClass.RELAY, Phase.CONNECT, "521 5.3.2 Server does not accept mail"),
    # The account: nothing bounces, the relay pauses.
    (ReplyClass.ACCOUNT, Phase.AUTH, "535 5.7.8 Error: authentication failed"),
    (ReplyClass.ACCOUNT, Phase.AUTH, "535 Login Fail. Please enter your authorization code"),
    (ReplyClass.ACCOUNT, Phase.MAIL, "530 5.7.1 Client was not authenticated"),
    (ReplyClass.ACCOUNT, Phase.MAIL, "550 5.7.1 Authentication required"),
    (ReplyClass.ACCOUNT, Phase.MAIL, "503 AUTH first"),
    (ReplyClass.ACCOUNT, Phase.MAIL, "550 User suspended"),
    (ReplyClass.ACCOUNT, Phase.RCPT, "550 Your account has been temporarily blocked"),
    (ReplyClass.ACCOUNT, Phase.FINAL, "554 Sending paused for this account"),
    (ReplyClass.ACCOUNT, Phase.FINAL, "550 5.1.8 Access denied, bad outbound sender"),
    # Rates and quotas: the same.
    (ReplyClass.RATE, Phase.MAIL, "550 5.4.5 Daily user sending quota exceeded."),
    (ReplyClass.RATE, Phase.RCPT, "550 User frequency limited"),
    (ReplyClass.RATE, Phase.MAIL, "550 Domain frequency limited"),
    (ReplyClass.RATE, Phase.FINAL, "550 5.1.90 You have reached your daily limit for message recipients"),
    (ReplyClass.RATE, Phase.MAIL, "550 5.7.1 Hourly sending limit reached"),
    (ReplyClass.RATE, Phase.MAIL, "550 Sender rate overlimit"),
    (ReplyClass.RATE, Phase.FINAL, "554 5.7.0 Too many messages from you"),
    (ReplyClass.RATE, Phase.RCPT, "550 Maximum credits exceeded"),
    # The message.
    (ReplyClass.MESSAGE, Phase.MAIL, "552 5.3.4 Message size exceeds fixed limit"),
    (ReplyClass.MESSAGE, Phase.FINAL, "552 5.3.4 Message size limit exceeded"),
    (ReplyClass.MESSAGE, Phase.FINAL, "552 Message size limit exceeded"),
    (ReplyClass.MESSAGE, Phase.FINAL, "552 5.2.3 Message length exceeds administrative limit"),
    (ReplyClass.MESSAGE, Phase.FINAL, "552 Too much mail data"),
    (ReplyClass.MESSAGE, Phase.FINAL, "554 5.6.0 Message contains bare LF"),
    (ReplyClass.MESSAGE, Phase.MAIL, "550 5.6.7 SMTPUTF8 is required"),
    (ReplyClass.MESSAGE, Phase.FINAL, "550 5.7.1 Message rejected as spam"),
    (ReplyClass.MESSAGE, Phase.FINAL, "550 5.7.26 This mail has been blocked because the sender is unauthenticated"),
    (ReplyClass.MESSAGE, Phase.MAIL, "553 5.7.1 Sender address rejected: not owned by user"),
    (ReplyClass.MESSAGE, Phase.RCPT, "553 5.1.8 Sender address rejected: Domain not found"),
    # A refused MAIL is about the sender, whatever the code says.
    (ReplyClass.MESSAGE, Phase.MAIL, "550 5.1.0 Address rejected"),
    (ReplyClass.MESSAGE, Phase.MAIL, "553 bad address"),
    # The recipient: also where the words remind of an account or a quota.
    (ReplyClass.RECIPIENT, Phase.RCPT, "550 5.1.1 No such user"),
    (ReplyClass.RECIPIENT, Phase.RCPT, "550 5.1.2 Host unknown"),
    (ReplyClass.RECIPIENT, Phase.RCPT, "550 5.2.1 The user is disabled"),
    (ReplyClass.RECIPIENT, Phase.RCPT, "550 5.2.1 The email account that you tried to reach is disabled"),
    (ReplyClass.RECIPIENT, Phase.RCPT, "552 5.2.2 Mailbox full"),
    (ReplyClass.RECIPIENT, Phase.RCPT, "552 user is over quota"),
    (ReplyClass.RECIPIENT, Phase.RCPT, "550 Requested action not taken: mailbox unavailable"),
    (ReplyClass.RECIPIENT, Phase.RCPT, "550 no such user here"),
    (ReplyClass.RECIPIENT, Phase.RCPT, "551 User not local"),
    (ReplyClass.RECIPIENT, Phase.RCPT, "553 mailbox name not allowed"),
    (ReplyClass.RECIPIENT, Phase.RCPT, "556 5.1.10 Recipient address has null MX"),
    # RFC 5321 section 4.5.3.1.10
    (ReplyClass.TRANSIENT, Phase.RCPT, "552 Too many recipients"),
    (ReplyClass.TRANSIENT, Phase.RCPT, "550 5.5.3 Too many recipients"),
    # Bounces, but says nothing about the address.
    (ReplyClass.UNKNOWN, Phase.RCPT, "550 Administrative prohibition"),
    (ReplyClass.UNKNOWN, Phase.RCPT, "550 user disabled"),
    (ReplyClass.UNKNOWN, Phase.FINAL, "554 Transaction failed"),
    (ReplyClass.UNKNOWN, Phase.FINAL, "500 Line too long"),
    (ReplyClass.UNKNOWN, Phase.RCPT, "550 5.0.0 rejected"),
]


@pytest.mark.parametrize(
    ("kind", "phase", "line"), CLASSES, ids=[f"{line[:40]} at {phase}" for _, phase, line in CLASSES]
)
def test_a_reply_is_classed_by_whom_it_is_about(kind: ReplyClass, phase: Phase, line: str) -> None:
    code, _, text = line.partition(" ")
    assert classify(Reply.parse(int(code), text, phase)) is kind


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (552, b"Message exceeds size limit", ReplyClass.MESSAGE),
        (552, b"5.2.2 message exceeds mailbox quota", ReplyClass.RECIPIENT),
        (552, b"5.2.2 message quota exceeded", ReplyClass.RECIPIENT),
        (554, b"5.7.1 Message exceeds attachment limit", ReplyClass.MESSAGE),
        (550, b"5.2.1 Recipient exceeded daily message limit", ReplyClass.RECIPIENT),
        (550, b"5.2.1 too many messages for this recipient", ReplyClass.RECIPIENT),
        (550, b"5.7.133 SenderNotAuthenticatedForGroup; authentication required", ReplyClass.MESSAGE),
    ],
)
def test_one_big_mail_or_full_mailbox_never_stops_the_relay(code: int, text: bytes, kind: ReplyClass) -> None:
    assert classify(Reply.parse(code, text, Phase.RCPT)) is kind
