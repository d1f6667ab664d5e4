"""Hypothesis strategies that build host documents as text, valid in their profile by construction.

Everything the laws must survive is in here: indentation, comments, sections, instructions, quotes, the order of attributes,
references, empty and missing elements, line ends, prefixes in open sub-trees, encodings.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from hypothesis import strategies as st

AGENT_PROFILES = ("3.2", "3.3", "3.4", "3.5", "3.6")
FIELDS = ("address", "username", "password", "options")

blanks = st.sampled_from(["", "", "", " ", "\n", "\n    ", "\r\n\t", "\n\n  "])
remarks = st.sampled_from(
    [
        "<!-- rack 7 -->",
        "<!-- <power_management> </address> -->",
        "<?note <agents> ?>",
        "<!---->",
        "<!-- > \" ' -->",
        "&#32;",
        "<![CDATA[ ]]>",
    ]
)
trivia = st.one_of(blanks, blanks, blanks, st.tuples(blanks, remarks, blanks).map("".join))
texts = st.sampled_from(
    [
        "pdu1.lab",
        "pdu1.lab",
        "10.0.0.7",
        " spaced ",
        "",
        "a&amp;b",
        "<![CDATA[x<y & </address>]]>",
        "10.0.<!--x-->0.7",
        "&#x41;&#233;",
        "line\nbreak",
        "a>b/>",
        "]]&gt;",
        "f&#xFC;r",
    ]
)
types = st.sampled_from(["apc", "ipmilan", "", "a&amp;b", "ipmi", "x>y", "apc_snmp"])
booleans = st.sampled_from(["true", "false", "1", "0", " true\n"])
coins = st.booleans()
quotes = st.sampled_from("\"'")


@st.composite
def attributes(draw: st.DrawFn, **values: st.SearchStrategy[str | None]) -> str:
    """Draw some of the attributes, in any order and spelling."""
    parts = []
    for name in draw(st.permutations(sorted(values))):
        value = draw(values[name])
        if value is not None:
            quote = draw(quotes)
            equals = draw(st.sampled_from(["=", "=", " = ", "=\n"]))
            parts.append(draw(st.sampled_from([" ", "\n  ", "  "])) + name + equals + quote + value + quote)
    return "".join(parts) + draw(st.sampled_from(["", "", " "]))


@st.composite
def element(draw: st.DrawFn, name: str, content: st.SearchStrategy[str], head: str = "") -> str:
    """Draw an element; without content it may be one tag or two."""
    inside = draw(content)
    if not inside and draw(st.booleans()):
        return f"<{name}{head}/>"
    return f"<{name}{head}>{inside}</{name}{draw(st.sampled_from(['', '', ' ']))}>"


def maybe(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[str | None]:
    return st.one_of(st.none(), strategy)


@st.composite
def sequence(draw: st.DrawFn, *children: st.SearchStrategy[str | None]) -> str:
    """Draw children in their order, each with trivia before it, and trivia at the end."""
    parts = [draw(trivia) + child for strategy in children if (child := draw(strategy)) is not None]
    return "".join(parts) + draw(trivia)


@st.composite
def option(draw: st.DrawFn) -> str:
    values = st.sampled_from(["7", "", "x&lt;y", "a > b", "false"])
    names = st.sampled_from(["slot", "port", "secure", "snmp_priv_passwd"])
    rare = st.one_of(*[st.none()] * 6, st.just("x"))
    head = draw(
        attributes(name=st.one_of(names, names, names, maybe(names)), value=st.one_of(values, values, maybe(values)), type=rare)
    )
    return draw(st.sampled_from([f"<option{head}/>", f"<option{head}></option>"]))


options = st.lists(option(), max_size=3).flatmap(lambda found: element("options", sequence(*map(st.just, found))))
status = element("status", sequence(element("state", st.just("on")), maybe(element("detail", texts))))
proxy = element("pm_proxy", sequence(maybe(element("type", st.sampled_from(["dc", "cluster", "other_dc"])))))
proxies = st.lists(proxy, max_size=3).flatmap(lambda found: element("pm_proxies", sequence(*map(st.just, found))))


def fields(chance: st.SearchStrategy[bool] = coins) -> list[st.SearchStrategy[str | None]]:
    named = [element("address", texts), element("username", texts), element("password", texts), options]
    return [chance.flatmap(lambda there, field=field: field if there else st.none()) for field in named]


@st.composite
def agent(draw: st.DrawFn, profile: str, order: str | None) -> str:
    resource = profile == "3.6"
    identity = {"id": maybe(st.just("a1")), "href": maybe(st.just("/x"))} if resource and draw(st.booleans()) else {}
    head = draw(attributes(type=maybe(types), **identity))
    number = st.none() if order is None else element("order", st.just(order))
    later = []
    if resource and draw(st.booleans()):
        nested = st.just("<host><power_management><address>n</address></power_management></host>")
        later = [maybe(element("port", st.just("623"))), maybe(nested)]
    base = [maybe(element("name", texts))] if resource and draw(st.booleans()) else []
    encrypt = [maybe(element("encrypt_options", booleans))] if resource else []
    inside = draw(sequence(*base, *fields(), *encrypt, maybe(element("concurrent", booleans)), number, *later))
    return draw(element("agent", st.just(inside), head))


orders = st.one_of(
    st.sampled_from([["1"], ["1"], [None], ["1", "2"], ["1", "2"], [None, None]]),
    st.lists(st.sampled_from(["1", "2", " 01 ", "+2", "0", "-1", "3", None]), max_size=4),
)


@st.composite
def agents(draw: st.DrawFn, profile: str) -> str:
    found = [draw(agent(profile, order)) for order in draw(orders)]
    counters = [maybe(element("total", st.just("2")))] if profile == "3.6" and draw(st.booleans()) else []
    return draw(element("agents", sequence(*counters, *map(st.just, found))))


@st.composite
def power_management(draw: st.DrawFn, profile: str, *, flat: bool = True, listed: bool = True, emptied: bool = False) -> str:
    """Draw a power_management of *profile*: flat fields, agents, both or neither."""
    number = int(profile[2:])
    middle: list[st.SearchStrategy[str | None]] = [maybe(status)]
    if number >= 2:
        middle.append(maybe(proxies))
    if number >= 2 and listed:
        middle.append(maybe(agents(profile)))
    elif number >= 2 and emptied:
        middle.append(maybe(element("agents", blanks)))
    if number >= 4:
        middle.append(maybe(element("automatic_pm_enabled", booleans)))
    if number >= 5:
        middle.append(maybe(element("kdump_detection", booleans)))
    own = fields(st.sampled_from([True, True, False])) if flat else []
    inside = draw(sequence(maybe(element("enabled", booleans)), *own, *middle))
    return draw(element("power_management", st.just(inside), draw(attributes(type=maybe(types)))))


OTHERS_BEFORE = (
    "<name>kv-12</name>",
    "<address>kv-12.lab</address>",
    '<cluster id="c1"/>',
    "<port>54321</port>",
    "<type><![CDATA[<power_management><address>a</address></power_management>]]></type>",
)
OTHERS_AFTER = (
    "<ksm><enabled>true</enabled></ksm>",
    "<statistics><x:y xmlns:x='urn:x' a='>'/><power_management><address>deep</address></power_management></statistics>",
    "<hooks><hook><![CDATA[<power_management>]]></hook></hooks>",
    "<summary><active>1</active><migrating>0</migrating><total>3</total></summary>",
)


@dataclass(frozen=True)
class Document:
    """A document in pieces: ``outside[0] power[0] outside[1] power[1] …``; text, and how it is encoded."""

    outside: tuple[str, ...]
    power: tuple[str, ...]
    codec: str
    mark: bytes

    def encode(self, text: str) -> bytes:
        return text.encode(self.codec)

    @property
    def raw(self) -> bytes:
        pieces = [self.outside[0], *(part for pair in zip(self.power, self.outside[1:], strict=True) for part in pair)]
        return self.mark + self.encode("".join(pieces))

    def recoded(self, codec: str, mark: bytes) -> Document:
        declared = "utf-16" if codec.startswith("utf-16") else codec
        head = self.outside[0].replace(self.declared, declared)
        return Document((head, *self.outside[1:]), self.power, codec, mark)

    @property
    def declared(self) -> str:
        return "utf-16" if self.codec.startswith("utf-16") else self.codec


ENCODINGS = (
    ("utf-8", b""),
    ("utf-8", codecs.BOM_UTF8),
    ("utf-16-le", codecs.BOM_UTF16_LE),
    ("utf-16-be", codecs.BOM_UTF16_BE),
    ("iso-8859-1", b""),
    ("us-ascii", b""),
)


@st.composite
def documents(
    draw: st.DrawFn, power: st.SearchStrategy[str], *, encodings: tuple[tuple[str, bytes], ...] = ENCODINGS, most: int = 3
) -> Document:
    """Draw a <host> or <hosts> document, or a lone fragment, around what *power* draws."""
    codec, mark = draw(st.sampled_from(encodings))
    declared = "utf-16" if codec.startswith("utf-16") else codec
    need = codec not in {"utf-8", "utf-16-le", "utf-16-be"} or draw(st.booleans())
    quote = draw(quotes)
    head = f"<?xml version={quote}1.0{quote} encoding={quote}{declared}{quote}?>\r\n" if need else ""
    head += draw(st.sampled_from(["", "<!-- top <host> -->\n", "<?style x?>"]))
    tail = draw(st.sampled_from(["", "\n", "\r\n<!-- end -->\n"]))
    shape = draw(st.sampled_from(["hosts", "hosts", "host", "power_management"]))
    if shape == "power_management":
        return Document((head, tail), (draw(power),), codec, mark)
    if shape == "host":
        before, after = draw(host_around())
        return Document((head + before, after + tail), (draw(power),), codec, mark)
    outside, found = [head + draw(st.sampled_from(["<hosts>", "<hosts >\r\n", "<hosts xmlns:x='urn:x'>"]))], []
    for _ in range(draw(st.integers(1, most))):
        if draw(st.integers(0, 4)) == 0:
            outside[-1] += "<host id='bare'><name>no power</name></host>\n"
        before, after = draw(host_around())
        outside[-1] += before
        outside.append(after + draw(blanks))
        found.append(draw(power))
    outside[-1] += "</hosts>" + tail
    return Document(tuple(outside), tuple(found), codec, mark)


@st.composite
def host_around(draw: st.DrawFn) -> tuple[str, str]:
    head = draw(attributes(id=st.just("5c1d"), href=maybe(st.just("/api/hosts/5c1d?a=&gt;"))))
    before = f"<host{head}>" + draw(sequence(*(maybe(st.just(other)) for other in OTHERS_BEFORE)))
    after = draw(sequence(*(maybe(st.just(other)) for other in OTHERS_AFTER))) + "</host>"
    return before, after
