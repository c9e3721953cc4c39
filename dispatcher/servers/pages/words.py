"""What our pages say, in the languages that they speak."""

from http import HTTPStatus

EN = {
    "unsubscribe": "Unsubscribe",
    "ask": "Unsubscribe from {list}?",
    "ask_lead": "{address} will get no more mail of this list.",
    "leave": "Unsubscribe",
    "leave_all": "Stop all marketing mail",
    "still": "Mail about your orders and your account still reaches you.",
    "left": "You are unsubscribed",
    "left_lead": "{address} gets no more mail of the list {list}. What is on its way already may still arrive.",
    "left_all_lead": "{address} gets no more marketing mail from us. What is on its way already may still arrive.",
    "undo": "Undo, keep me on the list",
    "undo_all": "Undo, keep sending it",
    "back": "You are back",
    "back_lead": "{address} gets mail of the list {list} again.",
}
ZH = {
    "unsubscribe": "退订",
    "ask": "要退订“{list}”吗？",
    "ask_lead": "{address} 将不再收到该列表的邮件。",
    "leave": "退订",
    "leave_all": "不再接收任何营销邮件",
    "still": "与您的订单和账户有关的邮件不受影响。",
    "left": "您已退订",
    "left_lead": "{address} 不会再收到列表“{list}”的邮件。已在途中的邮件仍可能送达。",
    "left_all_lead": "{address} 不会再收到我们的营销邮件。已在途中的邮件仍可能送达。",
    "undo": "撤销，继续订阅",
    "undo_all": "撤销，重新接收营销邮件",
    "back": "欢迎回来",
    "back_lead": "{address} 将重新收到列表“{list}”的邮件。",
}
_FAULTS_EN = {
    HTTPStatus.NOT_FOUND: (
        "This link does not work",
        "It may have been cut off on its way. Please open it from the mail again, or copy it as a whole.",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "Not possible right now",
        "Nothing has changed. Please try again in a minute.",
    ),
    HTTPStatus.BAD_REQUEST: ("That was not understood", "Nothing has changed. Please use a button of the page."),
}
_FAULTS_ZH = {
    HTTPStatus.NOT_FOUND: ("此链接无效", "链接可能不完整。请重新从邮件中打开，或完整复制链接。"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("暂时无法处理", "没有任何更改。请一分钟后再试。"),
    HTTPStatus.BAD_REQUEST: ("无法理解该请求", "没有任何更改。请使用页面上的按钮。"),
}
WORDS = {"en": EN, "zh-CN": ZH}
FAULTS = {"en": _FAULTS_EN, "zh-CN": _FAULTS_ZH}
