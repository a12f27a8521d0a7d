"""What a strict acceptor answers, message by message.

`>` is what the counterparty TW writes, `<` what the acceptor ISLD answers, `x` the end of the connection. Neither
BodyLength nor CheckSum are written out; `now` is the time, and `later` one that is yet to come.
"""

from __future__ import annotations

LOGON = ["> 35=A|34=1|49=TW|52=now|56=ISLD|98=0|108=30|", "< 35=A|34=1|49=ISLD|52=now|56=TW|98=0|108=30|"]
ORDER = "11=ID|21=3|40=1|54=1|38=002000.00|55=INTC|60=now|"
RETURNED = "11=ID|21=3|38=002000.00|40=1|54=1|55=INTC|60=now|"


def written(step: str, now: str, later: str) -> str:
    """What is written in a step, at a time."""
    return step.removeprefix("> ").replace("=now|", f"={now}|").replace("=later|", f"={later}|")


def order(number: int, changes: str = "", *, body: str = ORDER, head: str = "") -> str:
    """A NewOrderSingle of TW."""
    return f"> 35=D|34={number}|49=TW|52=now|56=ISLD|{head}{body}{changes}"


def rejected(number: int, of: int, reason: int, text: str, tag: str = "", kind: str = "D") -> str:
    """The Reject of it."""
    named = f"371={tag}|" if tag else ""
    return f"< 35=3|34={number}|49=ISLD|52=now|56=TW|45={of}|58={text}|{named}372={kind}|373={reason}|"


SCRIPTS = {
    "an order comes back": [*LOGON, order(2), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}"],
    "an order whose body has data comes back": [
        *LOGON, order(2, "354=6|355=a|10=1|58=b|"),
        f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED.replace('60=', '58=b|60=')}354=6|355=a|10=1|",
    ],
    "header fields in another order": [
        *LOGON, f"> 35=D|56=ISLD|52=now|49=TW|34=2|{ORDER}", f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}",
    ],
    "a possible resend that has come already": [
        *LOGON, order(2), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}", order(3, head="97=Y|"),
    ],
    "a possible resend that has not": [
        *LOGON, order(2, head="97=Y|"), f"< 35=D|34=2|49=ISLD|52=now|56=TW|97=Y|{RETURNED}",
    ],
    "what nobody handles": [
        *LOGON, "> 35=8|34=2|49=TW|52=now|56=ISLD|37=1|17=1|20=0|150=0|39=0|55=IBM|54=1|38=1|151=1|14=0|6=0|",
        "< 35=j|34=2|49=ISLD|52=now|56=TW|45=2|58=Unsupported Message Type|372=8|380=3|",
    ],
    "a logon that is ahead": [
        "> 35=A|34=5|49=TW|52=now|56=ISLD|98=0|108=30|", LOGON[1], "< 35=2|34=2|49=ISLD|52=now|56=TW|7=1|16=0|",
    ],
    "a message that is ahead, and one more": [
        *LOGON, order(4), "< 35=2|34=2|49=ISLD|52=now|56=TW|7=2|16=0|", order(5, head=""),
        "> 35=4|34=2|43=Y|49=TW|52=now|56=ISLD|122=now|36=4|123=Y|",
        f"< 35=D|34=3|49=ISLD|52=now|56=TW|{RETURNED}", f"< 35=D|34=4|49=ISLD|52=now|56=TW|{RETURNED}",
    ],
    "a number that is too low": [
        *LOGON, order(1), "< 35=5|34=2|49=ISLD|52=now|56=TW|58=MsgSeqNum too low, expecting 2 but received 1|", "x",
    ],
    "a possible duplicate that has come already": [
        *LOGON, order(2), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}", order(2, head="43=Y|122=now|"),
    ],
    "a possible duplicate without its first time": [
        *LOGON, "> 35=0|34=2|49=TW|52=now|56=ISLD|", order(2, head="43=Y|"), rejected(2, 2, 1, "Required tag missing", "122"),
    ],
    "a possible duplicate from the future": [
        *LOGON, "> 35=0|34=2|49=TW|52=now|56=ISLD|", order(2, head="43=Y|122=later|"),
        rejected(2, 2, 10, "SendingTime accuracy problem"), "< 35=5|34=3|49=ISLD|52=now|56=TW|",
        "> 35=5|34=3|49=TW|52=now|56=ISLD|", "x",
    ],
    "a sender that is somebody else": [
        *LOGON, "> 35=D|34=2|49=WT|52=now|56=ISLD|" + ORDER, rejected(2, 2, 9, "CompID problem"),
        "< 35=5|34=3|49=ISLD|52=now|56=TW|",
    ],
    "a clock that is wrong": [
        *LOGON, "> 35=D|34=2|49=TW|52=20260102-20:57:59|56=ISLD|" + ORDER,
        rejected(2, 2, 10, "SendingTime accuracy problem"), "< 35=5|34=3|49=ISLD|52=now|56=TW|",
    ],
    "a type that is none": [*LOGON, order(2).replace("35=D", "35=ZZ"), rejected(2, 2, 11, "Invalid MsgType", kind="ZZ")],
    "a tag that is none": [*LOGON, order(2, "999=HI|"), rejected(2, 2, 0, "Invalid tag number", "999")],
    "a field that is missing": [
        *LOGON, order(2, body=ORDER.replace("55=INTC|", "")), rejected(2, 2, 1, "Required tag missing", "55"),
    ],
    "a field of another message": [
        *LOGON, order(2, "41=HI|"), rejected(2, 2, 2, "Tag not defined for this message type", "41"),
    ],
    "a field without a value": [
        *LOGON, order(2, body=ORDER.replace("55=INTC", "55=")), rejected(2, 2, 4, "Tag specified without a value", "55"),
    ],
    "a value that is none of the field's": [
        *LOGON, order(2, body=ORDER.replace("21=3", "21=4")),
        rejected(2, 2, 5, "Value is incorrect (out of range) for this tag", "21"),
    ],
    "a value that is no number": [
        *LOGON, order(2, body=ORDER.replace("002000.00", "+200.00")), rejected(2, 2, 6, "Incorrect data format for value", "38"),
    ],
    "after a rejected message the next one counts": [
        *LOGON, order(2, "999=HI|"), rejected(2, 2, 0, "Invalid tag number", "999"), order(3),
        f"< 35=D|34=3|49=ISLD|52=now|56=TW|{RETURNED}",
    ],
    "a rejection goes back the way that the message came": [
        *LOGON, order(2, "999=HI|", head="115=JCD|116=CS|128=MG|129=CB|"),
        "< 35=3|34=2|49=ISLD|52=now|56=TW|115=MG|116=CB|128=JCD|129=CS|45=2|58=Invalid tag number|371=999|372=D|373=0|",
    ],
    "empty routing tags": [
        *LOGON, order(2, head="115=|"), rejected(2, 2, 4, "Tag specified without a value", "115"),
    ],
    "a test request": [*LOGON, "> 35=1|34=2|49=TW|52=now|56=ISLD|112=HELLO|", "< 35=0|34=2|49=ISLD|52=now|56=TW|112=HELLO|"],
    "a reject and a heartbeat are not answered": [
        *LOGON, "> 35=3|34=2|49=TW|52=now|56=ISLD|45=1|", "> 35=0|34=3|49=TW|52=now|56=ISLD|",
    ],
    "a resend": [
        *LOGON, order(2), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}", "> 35=1|34=3|49=TW|52=now|56=ISLD|112=HELLO|",
        "< 35=0|34=3|49=ISLD|52=now|56=TW|112=HELLO|", "> 35=2|34=4|49=TW|52=now|56=ISLD|7=1|16=0|",
        "< 35=4|34=1|43=Y|49=ISLD|52=now|56=TW|122=now|36=2|123=Y|",
        f"< 35=D|34=2|43=Y|49=ISLD|52=now|56=TW|122=now|{RETURNED}",
        "< 35=4|34=3|43=Y|49=ISLD|52=now|56=TW|122=now|36=4|123=Y|",
    ],
    "a reset to a greater number": [
        *LOGON, "> 35=4|34=0|49=TW|52=now|56=ISLD|36=20|", order(20), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}",
    ],
    "a reset to the number that comes anyway": [
        *LOGON, "> 35=4|34=0|49=TW|52=now|56=ISLD|36=2|", order(2), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}",
    ],
    "a reset to a lower number": [
        *LOGON, "> 35=4|34=0|49=TW|52=now|56=ISLD|36=1|",
        rejected(2, 0, 5, "Value is incorrect (out of range) for this tag", kind="4"),
    ],
    "a gap fill": [
        *LOGON, "> 35=4|34=2|49=TW|52=now|56=ISLD|36=20|123=Y|", order(20), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}",
    ],
    "a gap fill that is ahead": [
        *LOGON, "> 35=4|34=9|49=TW|52=now|56=ISLD|36=20|123=Y|", "< 35=2|34=2|49=ISLD|52=now|56=TW|7=2|16=0|",
    ],
    "a gap fill that is too low": [
        *LOGON, "> 35=4|34=1|49=TW|52=now|56=ISLD|36=20|123=Y|",
        "< 35=5|34=2|49=ISLD|52=now|56=TW|58=MsgSeqNum too low, expecting 2 but received 1|", "x",
    ],
    "a gap fill that is too low and a duplicate": [*LOGON, "> 35=4|34=1|43=Y|49=TW|52=now|56=ISLD|122=now|36=20|123=Y|"],
    "a logout that is ahead": [*LOGON, "> 35=5|34=9|49=TW|52=now|56=ISLD|", "< 35=5|34=2|49=ISLD|52=now|56=TW|", "x"],
    "a logout behind a gap": [
        *LOGON, order(4), "< 35=2|34=2|49=ISLD|52=now|56=TW|7=2|16=0|", "> 35=5|34=5|49=TW|52=now|56=ISLD|",
        "< 35=5|34=3|49=ISLD|52=now|56=TW|", "x",
    ],
    "a logout whose number is too low": [
        *LOGON, "> 35=0|34=2|49=TW|52=now|56=ISLD|", "> 35=5|34=2|49=TW|52=now|56=ISLD|",
        "< 35=5|34=2|49=ISLD|52=now|56=TW|", "x",
    ],
    "a resend request whose number is too low": [
        *LOGON, "> 35=0|34=2|49=TW|52=now|56=ISLD|", "> 35=2|34=2|49=TW|52=now|56=ISLD|7=1|16=0|",
        "< 35=4|34=1|43=Y|49=ISLD|52=now|56=TW|122=now|36=2|123=Y|", order(3),
        f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}",
    ],
    "a target that is missing": [
        *LOGON, "> 35=0|34=2|49=TW|52=now|", rejected(2, 2, 1, "Required tag missing", "56", "0"), order(3),
        f"< 35=D|34=3|49=ISLD|52=now|56=TW|{RETURNED}",
    ],
    "a target without a value": [
        *LOGON, "> 35=0|34=2|49=TW|52=now|56=|", rejected(2, 2, 4, "Tag specified without a value", "56", "0"),
    ],
    "a logout": [*LOGON, "> 35=5|34=2|49=TW|52=now|56=ISLD|", "< 35=5|34=2|49=ISLD|52=now|56=TW|", "x"],
    "a logon that resets the live session": [
        *LOGON, order(2), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}",
        "> 35=A|34=1|49=TW|52=now|56=ISLD|98=0|108=30|141=Y|", LOGON[1] + "141=Y|",
        "> 35=2|34=2|49=TW|52=now|56=ISLD|7=1|16=0|", "< 35=4|34=1|43=Y|49=ISLD|52=now|56=TW|122=now|36=2|123=Y|",
    ],
}  # fmt: skip
ONLY_44 = {
    "a field that comes twice": [*LOGON, order(2, "40=2|"), rejected(2, 2, 13, "Tag appears more than once", "40")],
    "fields of the header behind the body": [
        *LOGON, f"> 35=D|34=2|49=TW|52=now|{ORDER}56=ISLD|", rejected(2, 2, 14, "Tag specified out of required order", "56"),
    ],
    "a count that is wrong": [
        *LOGON, order(2, "386=3|336=PRE-OPEN|336=AFTER-HOURS|"),
        rejected(2, 2, 16, "Incorrect NumInGroup count for repeating group", "386"),
    ],
    "a count of nought": [*LOGON, order(2, "386=0|"), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}386=0|"],
    "groups come back whole": [
        *LOGON, order(2, "453=2|448=B|447=D|452=1|448=A|452=11|386=1|336=X|1=ACC|"),
        f"< 35=D|34=2|49=ISLD|52=now|56=TW|1=ACC|{RETURNED}386=1|336=X|453=2|448=B|447=D|452=1|448=A|452=11|",
    ],
    "a group out of order": [
        *LOGON, order(2, "453=1|447=D|448=A|452=1|"),
        rejected(2, 2, 15, "Repeating group fields out of order", "447"),
    ],
}  # fmt: skip
